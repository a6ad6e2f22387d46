from __future__ import annotations

import pickle
import tarfile
from collections import Counter

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_calc.units import CODATA
from jmp_train.data.families import qm9
from jmp_train.data.families.qm9 import divide
from jmp_train.data.layouts.qm9 import read_uncharacterized
from jmp_train.data.layouts.qm9_sdf import index_sdf, read_sdf
from jmp_train.data.published import QM9
from jmp_train.data.published_splits import shuffled
from toys.published_files import (
    METHANE,
    write_qm9_sdf,
    write_qm9_xyz,
    write_uncharacterized,
)
from toys.sources import entries, open_family, real, records, skipped

HARTREE = 27.211386  # eV, public tables
KCAL_PER_MOL = 0.0433641


def methane(source):
    return records(source)[0].sample


# -- text files ----------------------------------------------------------------------


def test_properties_of_a_text_file_are_converted(tmp_path) -> None:
    (source,) = open_family("qm9", write_qm9_xyz(tmp_path, [1]))
    targets = methane(source).targets
    hartree = {"eps_HOMO": -0.3877, "delta_eps": 0.5048, "ZPVE": 0.044749}
    hartree |= {"U_0": -40.47893, "U": -40.476062, "H": -40.475117, "G": -40.498597}
    for name, value in hartree.items():
        assert targets[name] == pytest.approx(value * HARTREE, rel=1e-7)
    plain = {"mu": 0.0, "alpha": 13.21, "R_2_Abs": 35.3641, "c_v": 6.469, "A": 157.7118}
    assert {name: targets[name] for name in plain} == plain


def test_there_is_no_energy_label(tmp_path) -> None:
    """U_0 holds the zero-point energy; forces would not be its derivative."""
    sample = methane(open_family("qm9", write_qm9_xyz(tmp_path, [1]))[0])
    assert (sample.energy, sample.forces) == (None, None)


def test_exponents_of_mathematica_are_read(tmp_path) -> None:
    sample = methane(open_family("qm9", write_qm9_xyz(tmp_path, [1]))[0])
    assert sample.positions[1, 2] == 0.0019761204
    assert sample.numbers.tolist() == list(METHANE)


def test_molecules_are_named_by_their_number(tmp_path) -> None:
    (source,) = open_family("qm9", write_qm9_xyz(tmp_path, [20, 3, 100]))
    names = [record.sample.name for record in records(source)]
    assert names == ["gdb 3", "gdb 20", "gdb 100"]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "H\t1.0*^-x\t0\t0", r"line 4: not the layout of QM9 \(could not convert"),
        (2, "Xx\t1\t2\t3", r"line 4: not the layout of QM9 \('Xx'\)"),
        (1, "gdb 1\t1.0", r"line 2: not the layout of QM9 \(1 properties after 'gdb'"),
        (0, "five", r"line 1: not the layout of QM9 \(invalid literal"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, text, message) -> None:
    write_qm9_xyz(tmp_path, [1, 2])
    path = tmp_path / "dsgdb9nsd_000002.xyz"
    lines = path.read_text().splitlines()
    lines[line if line < 2 else 3] = text
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"dsgdb9nsd_000002\.xyz, " + message):
        entries(open_family("qm9", tmp_path)[0])


def test_a_text_file_that_is_cut_short_is_named(tmp_path) -> None:
    path = write_qm9_xyz(tmp_path, [1]) / "dsgdb9nsd_000001.xyz"
    path.write_text("\n".join(path.read_text().splitlines()[:4]))
    with pytest.raises(DataError, match=r"line 5: .*the file ends after 2 of 5 atoms"):
        entries(open_family("qm9", tmp_path)[0])


@pytest.mark.parametrize("mode", ["w", "w:bz2"])
def test_an_archive_gives_what_its_folder_gives(tmp_path, mode) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    write_qm9_xyz(folder, [1, 2, 30])
    path = tmp_path / "dsgdb9nsd.xyz.tar"
    with tarfile.open(path, mode) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, file.name)
    packed = {r.sample.name: r.split for r in records(open_family("qm9", path)[0])}
    loose = {r.sample.name: r.split for r in records(open_family("qm9", folder)[0])}
    assert packed == loose


def test_a_truncated_archive_names_the_last_good_member(tmp_path) -> None:
    write_qm9_xyz(tmp_path, range(1, 60))
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(tmp_path.glob("*.xyz")):
            archive.add(file, file.name)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"gdb 59")])
    with pytest.raises(
        DataError, match=r"a\.tar cannot be read after dsgdb9nsd_000058"
    ):
        open_family("qm9", path)


def test_a_truncated_compressed_archive_is_named(tmp_path) -> None:
    write_qm9_xyz(tmp_path, range(1, 60))
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(tmp_path.glob("*.xyz")):
            archive.add(file, file.name)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        DataError, match=r"a\.tar\.gz cannot be read after .*download it"
    ):
        open_family("qm9", path)


def test_an_archive_of_something_else_is_an_error(tmp_path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(
        DataError, match=r"a\.tar holds no file dsgdb9nsd_\*\.xyz of QM9"
    ):
        open_family("qm9", tmp_path / "a.tar")


def test_an_empty_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(
        DataError, match=r"neither gdb9\.sdf nor dsgdb9nsd_\*\.xyz; giv"
    ):
        open_family("qm9", tmp_path)


# -- SDF and CSV ---------------------------------------------------------------------


def test_the_csv_holds_atomization_energies_too(tmp_path) -> None:
    (source,) = open_family("qm9", write_qm9_sdf(tmp_path, [1]))
    targets = methane(source).targets
    assert targets["U_0"] == pytest.approx(-40.47893 * HARTREE, rel=1e-7)
    assert targets["U_0_ATOM"] == pytest.approx(-395.999594594 * KCAL_PER_MOL, rel=1e-6)
    assert set(targets) == set(QM9) == set(source.facts.target_units)


def test_the_atomization_energy_is_that_to_free_atoms(tmp_path) -> None:
    """Free atoms of the table of the set: C -37.846772, H -0.500273 hartree."""
    targets = methane(open_family("qm9", write_qm9_sdf(tmp_path, [1]))[0]).targets
    free = (-37.846772 - 4 * 0.500273) * HARTREE
    assert targets["U_0"] - free == pytest.approx(targets["U_0_ATOM"], abs=1e-4)


def test_atoms_of_the_sdf_are_read_by_their_columns(tmp_path) -> None:
    sample = methane(open_family("qm9", write_qm9_sdf(tmp_path, [1]))[0])
    assert sample.numbers.tolist() == list(METHANE)
    assert sample.positions[0].tolist() == [-0.0127, 1.0858, 0.0080]


def test_blocks_of_the_sdf_are_read_alone(tmp_path) -> None:
    write_qm9_sdf(tmp_path, [1, 2, 5, 8, 9])
    sdf, table = tmp_path / "gdb9.sdf", tmp_path / "gdb9.sdf.csv"
    index = index_sdf(sdf, table, 2)
    blocks = [
        [m.index for m in read_sdf(sdf, table, index, block=block, units=CODATA)]
        for block in range(3)
    ]
    assert blocks == [[1, 2], [5, 8], [9]]


def test_files_of_different_length_are_an_error(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1, 2, 3]) / "gdb9.sdf"
    path.write_text("$$$$\n".join(path.read_text().split("$$$$\n")[:2]) + "$$$$\n")
    with pytest.raises(
        DataError, match=r"gdb9\.sdf has 2 molecules and .*csv has 3; o"
    ):
        open_family("qm9", tmp_path)


def test_files_of_different_order_are_an_error(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1, 2]) / "gdb9.sdf"
    path.write_text(path.read_text().replace("gdb_2", "gdb_7"))
    with pytest.raises(
        DataError, match=r"record 2 of .*is 'gdb_7' and row 2 of .*'gdb_2"
    ):
        entries(open_family("qm9", tmp_path)[0])


def test_a_bad_record_of_the_sdf_is_named(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1, 2]) / "gdb9.sdf"
    head, tail = path.read_text().rsplit(" 1.0858", 1)
    path.write_text(head + " 1.x858" + tail)
    with pytest.raises(
        DataError, match=r"record 2 of .*gdb9\.sdf: not a molecule in th"
    ):
        entries(open_family("qm9", tmp_path)[0])


def test_a_bad_number_of_the_csv_is_named(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1, 2]) / "gdb9.sdf.csv"
    path.write_text(path.read_text()[::-1].replace("12.31", "lul.", 1)[::-1])
    with pytest.raises(
        DataError, match=r"gdb9\.sdf\.csv, row 2: column 'alpha' is '.lul"
    ):
        entries(open_family("qm9", tmp_path)[0])


def test_a_row_without_a_number_is_named(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1, 2]) / "gdb9.sdf.csv"
    path.write_text(path.read_text().replace("gdb_2", "second"))
    with pytest.raises(
        DataError, match=r"csv, row 2: 'second,.* does not begin with a"
    ):
        open_family("qm9", tmp_path)


def test_a_missing_column_lists_those_that_are_there(tmp_path) -> None:
    path = write_qm9_sdf(tmp_path, [1]) / "gdb9.sdf.csv"
    path.write_text(path.read_text().replace(",gap,", ",hole,"))
    with pytest.raises(DataError, match="no column 'gap'; it has mol_id, A, B, C, mu"):
        open_family("qm9", tmp_path)


def test_an_sdf_without_its_csv_is_an_error(tmp_path) -> None:
    (write_qm9_sdf(tmp_path, [1]) / "gdb9.sdf.csv").unlink()
    with pytest.raises(DataError, match=r"no .*gdb9\.sdf\.csv, which holds the proper"):
        open_family("qm9", tmp_path)


def test_legacy_units_are_those_of_the_published_copy(tmp_path) -> None:
    (source,) = open_family("qm9", write_qm9_sdf(tmp_path, [1]), legacy_units=True)
    assert methane(source).targets["U_0"] == -40.47893 * 27.211386246
    assert methane(source).targets["U_0_ATOM"] == -395.999594594 * 0.04336414


# -- which molecules, which part -----------------------------------------------------


@pytest.mark.parametrize("write", [write_qm9_xyz, write_qm9_sdf])
def test_uncharacterized_molecules_are_skipped(tmp_path, write) -> None:
    write(tmp_path, [1, 58, 60, 61])
    write_uncharacterized(tmp_path, [58, 61, 80])
    (source,) = open_family("qm9", tmp_path)
    assert [entry.where for entry in skipped(source)] == ["gdb 58", "gdb 61"]
    assert len(records(source)) == 2


def test_the_whole_set_needs_the_list_of_molecules_to_drop(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(qm9, "N_MOLECULES", 3)
    write_qm9_xyz(tmp_path, [1, 2, 3])
    with pytest.raises(
        DataError, match=r"no uncharacterized\.txt beside .*files/319540"
    ):
        open_family("qm9", tmp_path)


def test_a_list_that_names_no_molecule_is_an_error(tmp_path) -> None:
    (tmp_path / "uncharacterized.txt").write_text("nothing of 133885 molecules\n")
    with pytest.raises(
        DataError, match="lists no molecule; it must be uncharacterized"
    ):
        read_uncharacterized(tmp_path / "uncharacterized.txt")


def test_prose_and_rules_of_the_list_are_passed_over(tmp_path) -> None:
    write_uncharacterized(tmp_path, [58, 133866])
    found = read_uncharacterized(tmp_path / "uncharacterized.txt")
    assert found == frozenset({58, 133866})


def test_an_excerpt_is_divided_in_the_published_proportions(tmp_path) -> None:
    write_qm9_xyz(tmp_path, range(1, 101))
    write_uncharacterized(tmp_path, [10])
    (source,) = open_family("qm9", tmp_path)
    found = records(source)
    kept = [n for n in range(1, 101) if n != 10]
    val = [kept[i] for i in shuffled(99)[83:90]]
    assert Counter(r.split for r in found) == {"train": 83, "val": 7, "test": 9}
    assert {r.sample.name for r in found if r.split == "val"} == {
        f"gdb {n}" for n in val
    }
    assert "99 of them, divided in the published proportions" in source.facts.coverage


def test_the_whole_set_is_divided_as_published() -> None:
    splits = divide(range(1, 133_886), frozenset(range(1, 3_055)))
    order = shuffled(130_831)
    # Place p of the molecules that are kept is number 3055 + p here.
    val = {int(3_055 + p) for p in order[110_831:120_831]}
    assert {n for n, split in splits.items() if split == "val"} == val
    counts = Counter(splits.values())
    assert counts == {"train": 110_831, "val": 10_000, "test": 10_000}


def test_sources_of_qm9_survive_a_process(tmp_path) -> None:
    (source,) = open_family("qm9", write_qm9_xyz(tmp_path, [1, 2, 3]))
    sent = pickle.loads(pickle.dumps(source))
    assert [r.sample.name for r in records(sent)] == ["gdb 1", "gdb 2", "gdb 3"]


def test_real_qm9_has_the_published_energies() -> None:
    """Water of the first molecules, as the table beside the files has its energy."""
    found = {
        r.sample.name: r.sample for r in records(open_family("qm9", real("qm9"))[0])
    }
    energies = [sample.targets["U_0"] for sample in found.values()]
    assert len(found) == 14
    assert max(energies) == pytest.approx(-1101.488, abs=1e-3)
    assert found["gdb 3"].numbers.tolist() == [8, 1, 1]
    assert np.isfinite(list(found["gdb 100001"].targets.values())).all()
