from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.layouts.npz import NpzArrays
from jmp_train.data.published import RMD17
from jmp_train.data.published_splits import shuffled
from toys.published_files import (
    METHANE,
    WATER,
    write_md22,
    write_rmd17,
    write_rmd17_splits,
)
from toys.sources import entries, open_family, real, records, skipped

KCAL_PER_MOL = 0.0433641  # eV, public tables
LEGACY = 1 / 23.061


def frames_by_part(source) -> dict[str, list[int]]:
    """Numbers of the frames of each part; their energy is minus that, in kcal/mol."""
    parts: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for record in records(source):
        parts[record.split].append(round(-record.sample.energy / KCAL_PER_MOL))
    return {split: sorted(frames) for split, frames in parts.items()}


# -- archives ------------------------------------------------------------------------


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_numpy(tmp_path, is_compressed, order) -> None:
    values = np.array(np.random.default_rng(0).normal(size=(11, 4, 3)), order=order)
    save = np.savez_compressed if is_compressed else np.savez
    save(tmp_path / "a.npz", x=values, scalar=2.5)
    arrays = NpzArrays(tmp_path / "a.npz")
    assert (arrays.rows("x", 3, 8) == values[3:8]).all()
    assert (arrays.rows("x") == values).all()
    assert arrays.rows("scalar") == 2.5


def test_pickled_arrays_are_not_read(tmp_path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(2), perms=np.array([{"a": 1}], object))
    with pytest.raises(DataError, match=r"a\.npz has no array 'perms'; it has x"):
        NpzArrays(tmp_path / "a.npz").rows("perms")


def test_a_truncated_archive_names_the_file(tmp_path) -> None:
    path = write_md22(tmp_path / "md22_DHA.npz", n=20)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"md22_DHA\.npz: cannot be read .*cut short"):
        open_family("md22", path)


def test_a_damaged_array_is_named_with_its_row(tmp_path) -> None:
    path = write_md22(tmp_path / "md22_DHA.npz", n=400)
    source = open_family("md22", path)[0]
    content = bytearray(path.read_bytes())
    middle = content.index(b"F.npy") + 9_000
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"md22_DHA\.npz, array 'F', row 0 on: cannot"):
        entries(source)


def test_a_header_that_promises_too_much_is_damage(tmp_path) -> None:
    array = io.BytesIO()
    np.save(array, np.zeros((10, 3)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", array.getvalue().replace(b"(10, 3)", b"(99, 3)"))
    with pytest.raises(DataError, match="'x' needs 2504 bytes and has 368"):
        NpzArrays(tmp_path / "a.npz")


def test_a_missing_archive_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*b\.npz"):
        NpzArrays(tmp_path / "b.npz")


# -- rMD17 ---------------------------------------------------------------------------


@pytest.fixture
def rmd17(tmp_path):
    """The folder as unpacked: 1020 frames of one molecule, a split of the authors."""
    folder = tmp_path / "rmd17"
    (folder / "npz_data").mkdir(parents=True)
    write_rmd17(folder / "npz_data" / "rmd17_ethanol.npz", n=1020)
    write_rmd17_splits(folder / "splits", train=range(1000, 900, -1), test=[5, 3, 800])
    return folder


def test_rmd17_is_divided_as_published(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17)
    order = shuffled(1020).tolist()
    assert source.facts.name == "rmd17-ethanol"
    assert frames_by_part(source) == {
        "train": sorted(order[:950]),
        "val": sorted(order[950:1000]),
        "test": sorted(order[1000:]),
    }


def test_energies_and_forces_of_rmd17_are_converted(rmd17) -> None:
    sample = records(open_family("rmd17", rmd17)[0])[7].sample
    raw = np.load(rmd17 / "npz_data" / "rmd17_ethanol.npz")
    assert sample.energy == pytest.approx(-7 * KCAL_PER_MOL, rel=1e-6)
    np.testing.assert_allclose(
        sample.forces, raw["forces"][7] * KCAL_PER_MOL, rtol=1e-6
    )
    assert (sample.positions == raw["coords"][7]).all()
    assert sample.numbers.tolist() == list(WATER)
    assert sample.name == "rmd17_ethanol/7"


def test_legacy_units_are_the_published_factors(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17, legacy_units=True)
    assert records(source)[7].sample.energy == -7 * LEGACY


def test_a_fold_of_rmd17_is_the_split_of_its_authors(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17, fold=1)
    assert source.facts.name == "rmd17-ethanol-fold1"
    assert frames_by_part(source) == {
        "train": list(range(906, 1001)),
        "val": list(range(901, 906)),  # the last of the file
        "test": [3, 5, 800],
    }


def test_frames_that_a_fold_leaves_out_are_counted(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17, fold=1)
    assert Counter(entry.reason for entry in skipped(source)) == {
        "in no part of the chosen split": 1020 - 103
    }


def test_the_splits_are_found_beside_a_single_archive(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17 / "npz_data" / "rmd17_ethanol.npz", fold=1)
    assert frames_by_part(source)["test"] == [3, 5, 800]


def test_divided_files_are_taken_as_they_are(tmp_path) -> None:
    train = write_rmd17(tmp_path / "rmd17_uracil_train_01.npz", n=40)
    write_rmd17(tmp_path / "rmd17_uracil_test_01.npz", n=30)
    for given in (tmp_path, train):
        (source,) = open_family("rmd17", given)
        assert frames_by_part(source) == {
            "train": list(range(38)),
            "val": [38, 39],
            "test": list(range(30)),
        }


def test_half_of_a_divided_pair_is_an_error(tmp_path) -> None:
    path = write_rmd17(tmp_path / "rmd17_uracil_train_01.npz", n=40)
    with pytest.raises(DataError, match="no file of test_01; of this molecule there a"):
        open_family("rmd17", path)


def test_one_molecule_of_rmd17_can_be_chosen(tmp_path) -> None:
    for molecule in ("aspirin", "benzene"):
        write_rmd17(tmp_path / f"rmd17_{molecule}.npz", n=10)
    sources = open_family("rmd17", tmp_path, variant="benzene")
    assert [source.facts.name for source in sources] == ["rmd17-benzene"]
    with pytest.raises(
        ArgumentError, match=r"'bezene' in .*; it holds aspirin, benzene; did you mean"
    ):
        open_family("rmd17", tmp_path, variant="bezene")


def test_an_unknown_fold_of_rmd17_is_an_error(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"fold is 6; rMD17 has 0 .* and 1 to 5"):
        open_family("rmd17", tmp_path, fold=6)


def test_a_missing_split_file_is_named(rmd17) -> None:
    with pytest.raises(
        DataError, match=r"there is no index_train_02\.csv with .*rmd17"
    ):
        open_family("rmd17", rmd17, fold=2)


@pytest.mark.parametrize("line", ["1020", "-1", "seven"])
def test_a_line_of_a_split_that_is_no_frame_is_named(rmd17, line) -> None:
    (rmd17 / "splits" / "index_test_01.csv").write_text(f"3\n{line}\n")
    with pytest.raises(DataError, match=r"index_test_01\.csv, line 2: .* below 1020"):
        open_family("rmd17", rmd17, fold=1)


def test_a_frame_in_two_parts_is_an_error(rmd17) -> None:
    (rmd17 / "splits" / "index_test_01.csv").write_text("3\n950\n")
    with pytest.raises(DataError, match=r"frame 950 is in index_train_01\.csv and in"):
        open_family("rmd17", rmd17, fold=1)


def test_an_archive_with_another_name_is_an_error(tmp_path) -> None:
    path = write_rmd17(tmp_path / "ethanol.npz", n=10)
    with pytest.raises(DataError, match=r"ethanol\.npz has no name of rMD17; it must"):
        open_family("rmd17", path)


def test_a_missing_array_lists_those_that_are_there(tmp_path) -> None:
    np.savez(tmp_path / "rmd17_uracil.npz", coords=np.zeros((2, 3, 3)))
    with pytest.raises(
        DataError, match="has no array 'nuclear_charges'; it has coords"
    ):
        open_family("rmd17", tmp_path)


def test_arrays_that_do_not_fit_together_are_an_error(tmp_path) -> None:
    np.savez(
        tmp_path / "rmd17_uracil.npz",
        nuclear_charges=np.array(WATER),
        coords=np.zeros((2, 3, 3)),
        energies=np.zeros(3),
        forces=np.zeros((2, 3, 3)),
    )
    with pytest.raises(
        DataError, match=r"'energies' of .* has shape \(3,\); it must h"
    ):
        open_family("rmd17", tmp_path)


def test_large_forces_are_skipped_when_asked(rmd17) -> None:
    (source,) = open_family("rmd17", rmd17, max_force=0.01)
    forces = np.load(rmd17 / "npz_data" / "rmd17_ethanol.npz")["forces"]
    largest = np.linalg.norm(forces * KCAL_PER_MOL, axis=2).max(axis=1)
    left_out = [f"rmd17_ethanol/{i}" for i in np.flatnonzero(largest > 0.01)]
    assert [entry.where for entry in skipped(source)] == left_out
    assert 0 < len(left_out) < 1020


def test_parts_of_a_trajectory_are_the_whole_and_survive_a_process(tmp_path) -> None:
    write_md22(tmp_path / "md22_DHA.npz", n=10_050)
    (source,) = open_family("md22", tmp_path)
    sent = pickle.loads(pickle.dumps(source))
    assert sent.parts() == ["0:0-10000", "0:10000-10050"]
    names = [record.sample.name for record in sent.read("0:10000-10050")]
    assert names == [f"md22_DHA/{i}" for i in range(10_000, 10_050)]


def test_energies_of_real_rmd17_are_the_published_ones() -> None:
    """Range of the energies as the table beside the files states it."""
    (source,) = open_family("rmd17", real("rmd17"), variant="ethanol")
    found = records(source)
    energy = [record.sample.energy for record in found]
    assert (round(min(energy), 3), round(max(energy), 3)) == (-4210.041, -4208.761)
    parts = Counter(record.split for record in found)
    assert parts == {"train": 950, "val": 50, "test": 1000}


@pytest.mark.parametrize("molecule", ["aspirin", "uracil"])
def test_legacy_units_give_the_published_means(molecule) -> None:
    """Within five standard errors of 1950 frames; other factors are ten off."""
    (source,) = open_family("rmd17", real("rmd17"), variant=molecule, legacy_units=True)
    energy = [record.sample.energy for record in records(source)]
    published = RMD17[molecule]
    tolerance = 5 * published.energy_std / len(energy) ** 0.5
    assert np.mean(energy) == pytest.approx(published.energy_mean, abs=tolerance)


# -- MD22 and others -----------------------------------------------------------------


def test_md22_is_divided_by_its_budget(tmp_path) -> None:
    write_md22(tmp_path / "md22_buckyball-catcher.npz", n=700)
    (source,) = open_family("md22", tmp_path)
    order = shuffled(700).tolist()
    assert source.facts.name == "md22-buckyball-catcher"
    assert frames_by_part(source) == {
        "train": sorted(order[:570]),
        "val": sorted(order[570:600]),
        "test": sorted(order[600:]),
    }


def test_frames_of_md22_are_not_mixed_up(tmp_path) -> None:
    path = write_md22(tmp_path / "md22_DHA.npz", n=9)
    sample = records(open_family("md22", path)[0])[4].sample
    with np.load(path) as raw:
        assert (sample.positions == raw["R"][4]).all()
        np.testing.assert_allclose(sample.forces, raw["F"][4] * KCAL_PER_MOL, rtol=1e-6)
    assert sample.numbers.tolist() == list(METHANE)


def test_a_file_that_is_not_of_md22_is_an_error(tmp_path) -> None:
    write_md22(tmp_path / "md22_ethanol.npz", n=9)
    with pytest.raises(
        DataError, match=r"not called after a molecule of MD22 .*'sgdml'"
    ):
        open_family("md22", tmp_path)


def test_a_file_of_sgdml_may_be_in_ev(tmp_path) -> None:
    path = write_md22(tmp_path / "mine.npz", n=9, units=("eV", "Ang"))
    sample = records(open_family("sgdml", path)[0])[4].sample
    with np.load(path) as raw:
        assert sample.energy in raw["E"]
        assert any((sample.forces == forces).all() for forces in raw["F"])


@pytest.mark.parametrize("units", [("kJ/mol", "Ang"), ("kcal/mol", "bohr")])
def test_a_file_of_sgdml_in_other_units_is_refused(tmp_path, units) -> None:
    path = write_md22(tmp_path / "mine.npz", n=9, units=units)
    with pytest.raises(DataError, match=f"in '{units[0]}' and lengths in '{units[1]}'"):
        open_family("sgdml", path)


def test_an_empty_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="holds no molecule of MD22; give the publish"):
        open_family("md22", tmp_path)


def test_real_sgdml_archive_has_the_published_energies() -> None:
    (source,) = open_family("sgdml", real("md17_ccsd"))
    found = records(source)
    energy = [record.sample.energy for record in found]
    assert (round(min(energy), 3), round(max(energy), 3)) == (-4210.455, -4209.122)
    assert source.facts.level_of_theory == "Psi4: CCSD(T), cc-pVTZ"
    parts = Counter(record.split for record in found)
    assert parts == {"train": 800, "val": 100, "test": 100}


def test_forces_of_a_real_sgdml_archive_sum_to_zero() -> None:
    """A mix-up of the axes of an array would show; 2e-8 eV/Å beside the files."""
    (source,) = open_family("sgdml", real("md17_ccsd"))
    sums = [
        np.abs(record.sample.forces.sum(axis=0)).max() for record in records(source)
    ]
    assert max(sums) < 1e-7
