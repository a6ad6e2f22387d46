from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from jmp_calc.errors import DataError
from jmp_train.data.families.user import open_user_files
from jmp_train.data.source import FamilyOptions
from toys.slabs import slab_with_co
from toys.sources import entries, open_family, real, records, skipped

VOIGT = np.array([1.0, 2.0, 3.0, 0.4, 0.5, 0.6])
TENSOR = np.array([[1.0, 0.6, 0.5], [0.6, 2.0, 0.4], [0.5, 0.4, 3.0]])


def frames(n: int, *, prefix: str | None = "REF_") -> list[Atoms]:
    """Rattled water with labels in info and arrays, or in a calculator (None)."""
    found = []
    for index in range(n):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=index)
        energy, forces = -14.0 - index, np.full((3, 3), 0.1 * index)
        if prefix is None:
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        else:
            atoms.info[f"{prefix}energy"] = energy
            atoms.arrays[f"{prefix}forces"] = forces
        found.append(atoms)
    return found


def crystal(**info: object) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    atoms.info.update(energy=-30.0, **info)
    return atoms


def write(path: Path, atoms: list[Atoms], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "extxyz" if path.suffix in (".xyz", ".extxyz") else None
    ase.io.write(path, atoms, format=kind, **options)
    return path


def energies(path: Path, **options: object) -> list[float | None]:
    (source,) = open_family("user", path, **options)
    return [record.sample.energy for record in records(source)]


# -- formats ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["REF_", None], ids=["REF keys", "calculator"])
def test_labels_of_extended_xyz_are_read(prefix, tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(3, prefix=prefix))
    (source,) = open_family("user", path)
    found = [record.sample for record in records(source)]
    assert [sample.energy for sample in found] == [-14.0, -15.0, -16.0]
    np.testing.assert_allclose(found[2].forces, 0.2)
    assert found[2].name == "a.xyz/2"
    assert found[2].tags.tolist() == [2, 2, 2]
    assert not found[2].is_fixed.any()
    assert source.facts.name == "a"


def test_ase_trajectories_are_read(tmp_path) -> None:
    assert energies(write(tmp_path / "a.traj", frames(2, prefix=None))) == [-14, -15]


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_ase_databases_are_read_with_values_of_their_rows(name, tmp_path) -> None:
    with ase.db.connect(tmp_path / name) as database:
        for index, atoms in enumerate(frames(2, prefix=None)):
            database.write(atoms, gap=1.5 + index)
    (source,) = open_family("user", tmp_path / name, targets=("gap:eV",))
    found = [record.sample for record in records(source)]
    assert [(s.energy, s.targets) for s in found] == [
        (-14.0, {"gap": 1.5}),
        (-15.0, {"gap": 2.5}),
    ]
    assert source.facts.target_units == {"gap": "eV"}


def test_a_compressed_file_is_read(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(2))
    zipped = tmp_path / "b.xyz.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert energies(zipped) == [-14.0, -15.0]


def test_a_folder_is_read_in_the_order_of_names(tmp_path) -> None:
    write(tmp_path / "b" / "x.extxyz", frames(1))
    write(tmp_path / "a" / "y.traj", frames(2, prefix=None)[1:])
    (tmp_path / "notes.txt").write_text("nothing to read")
    (source,) = open_family("user", tmp_path, energy_key="energy", forces_key="forces")
    assert [path.name for path in source.files] == ["y.traj", "x.extxyz"]


def test_a_preferred_name_that_few_frames_have_does_not_hide_the_usual_one(
    tmp_path,
) -> None:
    images = frames(5, prefix=None)
    images[3].info["REF_energy"] = 1.0
    path = write(tmp_path / "x.xyz", images)
    with pytest.raises(
        DataError, match=r"1 of 5 frames .*'REF_energy' and 5 .*'energy'"
    ):
        open_family("user", path)
    (source,) = open_family("user", path, energy_key="energy")
    assert len(records(source)) == 5


def test_copies_of_a_structure_are_noted_and_stay_together(tmp_path) -> None:
    path = write(tmp_path / "x.xyz", frames(10) * 3)
    (source,) = open_family("user", path)
    (note,) = source.notes
    assert note.startswith("20 frames are copies of the structure of another frame")
    parts = [set(source.splits[0][index::10]) for index in range(10)]
    assert all(len(part) == 1 for part in parts)


def test_several_files_make_one_set(tmp_path) -> None:
    paths = [write(tmp_path / f"{i}.xyz", frames(1)) for i in range(2)]
    source = open_user_files(paths, FamilyOptions(variant="mine"))
    assert source.facts.name == "mine"
    assert len(records(source)) == 2


def test_ranges_of_frames_go_over_the_borders_of_files(tmp_path) -> None:
    for name, n in (("a", 3), ("b", 4)):
        write(tmp_path / f"{name}.xyz", frames(n))
    (source,) = open_family("user", tmp_path)
    names = [r.sample.name for part in ("0-2", "2-5", "5-7") for r in source.read(part)]
    assert names == [f"a.xyz/{i}" for i in range(3)] + [f"b.xyz/{i}" for i in range(4)]
    files = {part: [p.name for p in source.inputs(part)] for part in ("0-3", "2-5")}
    assert files == {"0-3": ["a.xyz"], "2-5": ["a.xyz", "b.xyz"]}


def test_a_set_is_named_after_its_file_without_points(tmp_path) -> None:
    path = write(tmp_path / "my data (2).v1.xyz", frames(1))
    (source,) = open_family("user", path)
    (named,) = open_family("user", path, variant="NaCl v1.0")
    assert (source.facts.name, named.facts.name) == ("my-data-2", "NaCl-v1-0")


# -- labels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("REF_stress", VOIGT),
        ("REF_stress", TENSOR),
        ("REF_virial", -TENSOR * 5.64**3),
        ("virials", -TENSOR.ravel() * 5.64**3),
    ],
    ids=["Voigt", "tensor", "virial", "flat virial"],
)
def test_a_stress_of_any_shape_becomes_a_tensor(key, value, tmp_path) -> None:
    path = write(tmp_path / "a.xyz", [crystal(**{key: value})])
    (source,) = open_family("user", path)
    (record,) = records(source)
    np.testing.assert_allclose(record.sample.stress, TENSOR, atol=1e-6)


def test_the_stress_of_a_calculator_is_read(tmp_path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, stress=VOIGT)
    (source,) = open_family("user", write(tmp_path / "a.traj", [atoms]))
    (record,) = records(source)
    np.testing.assert_array_equal(record.sample.stress, TENSOR)


def test_a_molecule_has_no_stress(tmp_path) -> None:
    (atoms,) = frames(1)
    atoms.info["REF_stress"] = np.zeros(6)
    (source,) = open_family("user", write(tmp_path / "a.xyz", [atoms]))
    (record,) = records(source)
    assert record.sample.stress is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones(4), r"REF_stress has shape \(4,\); it must have 6 numbers"),
        (np.arange(9.0).reshape(3, 3), "REF_stress is not symmetric"),
    ],
    ids=["shape", "asymmetric"],
)
def test_a_strange_stress_is_an_error(value, message, tmp_path) -> None:
    path = write(tmp_path / "a.xyz", [crystal(REF_stress=value)])
    (source,) = open_family("user", path)
    with pytest.raises(DataError, match=f"frame 0 of .*: {message}"):
        records(source)


def test_a_label_may_be_absent_in_some_frames(tmp_path) -> None:
    given = frames(3)
    del given[0].info["REF_energy"]
    del given[1].arrays["REF_forces"]
    given[2].info["REF_energy"] = float("nan")
    given[2].arrays["REF_forces"][:] = np.nan
    (source,) = open_family("user", write(tmp_path / "a.xyz", given))
    found = [record.sample for record in records(source)]
    assert [s.energy for s in found] == [None, -15.0]
    assert [s.forces is None for s in found] == [False, True]
    assert [(s.where, s.reason) for s in skipped(source)] == [("a.xyz/2", "no label")]


def test_a_frame_with_some_forces_that_are_not_finite_is_skipped(tmp_path) -> None:
    given = frames(2)
    given[0].arrays["REF_forces"][1, 1] = np.inf
    (source,) = open_family("user", write(tmp_path / "a.xyz", given))
    assert [s.reason for s in skipped(source)] == ["a label that is not finite"]


@pytest.mark.parametrize("plain", ["forces", "stress"])
def test_labels_of_two_levels_of_theory_are_not_mixed(plain, tmp_path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.info["REF_energy"] = -1.0
    place = atoms.arrays if plain == "forces" else atoms.info
    place[plain] = np.zeros((4, 3) if plain == "forces" else 6)
    write(tmp_path / "a.extxyz", [atoms])
    with pytest.raises(DataError, match=f"'{plain}' may be of another level"):
        open_family("user", tmp_path / "a.extxyz")
    option = {f"{plain}_key": plain}
    (source,) = open_family("user", tmp_path / "a.extxyz", **option)
    assert records(source)


def test_keys_can_be_chosen(tmp_path) -> None:
    (atoms,) = frames(1, prefix="dft_")
    atoms.info.update(REF_energy=1.0, my_stress=VOIGT)
    atoms.cell, atoms.pbc = np.eye(3) * 9, True
    (source,) = open_family(
        "user",
        write(tmp_path / "a.xyz", [atoms]),
        energy_key="dft_energy",
        forces_key="dft_forces",
        stress_key="my_stress",
    )
    (record,) = records(source)
    assert record.sample.energy == -14.0
    np.testing.assert_array_equal(record.sample.forces, np.zeros((3, 3)))
    np.testing.assert_array_equal(record.sample.stress, TENSOR)


def test_a_key_that_is_nowhere_names_those_found_with_counts(tmp_path) -> None:
    given = frames(3)
    given[0].info["gap"] = 1.0
    path = write(tmp_path / "a.xyz", given)
    with pytest.raises(
        DataError,
        match=r"none of the 3 frames has a value 'REF_enrgy'; did you mean "
        r"'REF_energy'\?; found: REF_energy \(3 of 3\), REF_forces \(3 of 3\), "
        r"gap \(1 of 3\)",
    ):
        open_family("user", path, energy_key="REF_enrgy")


@pytest.mark.parametrize("option", ["forces_key", "stress_key"])
def test_any_absent_key_is_an_error(option, tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(1))
    with pytest.raises(DataError, match="none of the 1 frames has a value 'nothing'"):
        open_family("user", path, **{option: "nothing"})


def test_an_absent_target_is_an_error(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(1))
    with pytest.raises(DataError, match="has a value 'gap'; found: REF_energy"):
        open_family("user", path, targets=("gap:eV",))


def test_forces_under_an_unusual_name_are_not_lost_in_silence(tmp_path) -> None:
    (atoms,) = frames(1)
    atoms.arrays["force"] = atoms.arrays.pop("REF_forces")
    path = write(tmp_path / "a.xyz", [atoms])
    with pytest.raises(DataError, match=r"but 'force' looks like one.*or say 'none'"):
        open_family("user", path)
    assert energies(path, forces_key="none") == [-14.0]


def test_data_without_any_label_are_an_error(tmp_path) -> None:
    atoms = molecule("H2O")
    atoms.info["comment"] = "none"
    path = write(tmp_path / "a.xyz", [atoms])
    with pytest.raises(
        DataError,
        match=r"no energy \(REF_energy, energy\) and no forces .*found: com",
    ):
        open_family("user", path)


@pytest.mark.parametrize("value", ["high", [1.0, 2.0]], ids=["text", "list"])
def test_a_target_that_is_not_a_number_names_the_frame(value, tmp_path) -> None:
    (atoms,) = frames(1)
    atoms.info["gap"] = value
    path = write(tmp_path / "a.xyz", [atoms])
    (source,) = open_family("user", path, targets=("gap",))
    with pytest.raises(DataError, match=r"frame 0 of .*: gap is .*; it must be one"):
        records(source)


def test_large_forces_are_skipped_if_asked_for(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(3))
    (source,) = open_family("user", path, max_force=0.2)
    assert [s.reason for s in skipped(source)] == ["force above 0.2 eV/Å"]


def test_fixed_atoms_keep_their_forces_and_tags_are_guessed(tmp_path) -> None:
    """ASE's own tags number layers the other way round than OC20."""
    atoms = slab_with_co()
    atoms.set_constraint(FixAtoms(indices=[0, 1]))
    forces = np.full((len(atoms), 3), 0.5)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    (source,) = open_family("user", write(tmp_path / "a.traj", [atoms]))
    sample = records(source)[0].sample
    assert np.flatnonzero(sample.is_fixed).tolist() == [0, 1]
    np.testing.assert_array_equal(sample.forces, forces)
    assert sample.tags.tolist() == [0] * 8 + [1] * 4 + [2] * 2
    assert source.facts.domain == "surface"


def test_frames_whose_atoms_overlap_are_skipped(tmp_path) -> None:
    given = frames(2)
    given[1].positions[1] = given[1].positions[0]
    (source,) = open_family("user", write(tmp_path / "a.xyz", given))
    assert [s.reason for s in skipped(source)] == [
        "atoms overlap, a position is not finite, or the cell has no volume"
    ]


def test_charges_are_noted_since_the_model_does_not_see_them(tmp_path) -> None:
    given = frames(3)
    given[0].info["charge"] = 1
    given[1].info["spin"] = 3
    (source,) = open_family("user", write(tmp_path / "a.xyz", given))
    assert source.notes == (
        "2 frames have a charge or a spin multiplicity above 1, which the model does "
        "not see",
    )


# -- free atoms ------------------------------------------------------------------------


def free_atom(symbol: str, energy: float, **info: object) -> Atoms:
    atoms = Atoms(symbol, info={"REF_energy": energy, **info})
    return atoms


def test_free_atoms_give_energies_of_elements_and_are_not_trained_on(tmp_path) -> None:
    marked = free_atom("O", -432.0, config_type="IsolatedAtom")
    marked.cell, marked.pbc = np.eye(3) * 5, True
    boxed = free_atom("C", -1029.0)
    boxed.cell, boxed.pbc = np.eye(3) * 12, True
    given = [free_atom("H", -13.6), marked, boxed, *frames(3)]
    (source,) = open_family("user", write(tmp_path / "a.xyz", given))
    assert source.facts.atom_energies == {1: -13.6, 6: -1029.0, 8: -432.0}
    assert len(records(source)) == 3
    assert {s.reason for s in skipped(source)} == {
        "free atom; its energy is that of the element"
    }


def test_a_crystal_with_one_atom_in_its_cell_is_not_a_free_atom(tmp_path) -> None:
    atoms = bulk("Cu")
    atoms.info["REF_energy"] = -4.0
    (source,) = open_family("user", write(tmp_path / "a.xyz", [atoms]))
    assert source.facts.atom_energies == {}
    assert records(source)[0].sample.energy == -4.0


def test_two_energies_of_one_free_atom_are_an_error(tmp_path) -> None:
    given = [free_atom("H", -13.6), *frames(1), free_atom("H", -13.0)]
    path = write(tmp_path / "a.xyz", given)
    with pytest.raises(
        DataError,
        match=r"frame 0 of .* and frame 2 of .* are free atoms of one ele",
    ):
        open_family("user", path)


# -- parts -----------------------------------------------------------------------------


def parts_of(path: Path, **options: object) -> list[str | None]:
    (source,) = open_family("user", path, **options)
    return [record.split for record in records(source)]


@pytest.mark.parametrize(
    ("n", "wanted"),
    [(20, (16, 2, 2)), (10, (8, 1, 1)), (3, (1, 1, 1)), (2, (1, 1, 0)), (1, (1, 0, 0))],
)
def test_fractions_are_exact_even_for_few_frames(n, wanted, tmp_path) -> None:
    found = parts_of(write(tmp_path / "a.xyz", frames(n)))
    assert tuple(found.count(part) for part in ("train", "val", "test")) == wanted


def test_parts_do_not_depend_on_the_order_of_frames(tmp_path) -> None:
    given = frames(20)
    forward = parts_of(write(tmp_path / "a.xyz", given))
    backward = parts_of(write(tmp_path / "b.xyz", given[::-1]))
    assert backward[::-1] == forward


def test_copies_of_a_structure_are_in_one_part(tmp_path) -> None:
    given = frames(10)
    found = parts_of(write(tmp_path / "a.xyz", given + given))
    assert found[:10] == found[10:]


def test_blocks_hold_out_consecutive_frames_together(tmp_path) -> None:
    found = parts_of(write(tmp_path / "a.xyz", frames(60)), split_by="block")
    blocks = [set(found[start : start + 3]) for start in range(0, 60, 3)]
    assert all(len(block) == 1 for block in blocks)
    assert found.count("val") == found.count("test") == 6


def test_frames_of_a_group_are_held_out_together(tmp_path) -> None:
    given = frames(60)
    for index, atoms in enumerate(given):
        atoms.info["group"] = f"start-{index % 10}"
    found = parts_of(write(tmp_path / "a.xyz", given), split_by="group")
    assert all(len(set(found[start::10])) == 1 for start in range(10))
    assert set(found) == {"train", "val", "test"}


def test_a_frame_without_a_group_is_named(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(3))
    with pytest.raises(DataError, match=r"frame 0 of .* has no group"):
        parts_of(path, split_by="group")


def test_whole_files_are_held_out_if_asked_for(tmp_path) -> None:
    for index in range(10):
        write(tmp_path / f"run{index}" / "a.xyz", frames(2))
    found = parts_of(tmp_path, split_by="file")
    assert found[::2] == found[1::2]
    assert found.count("val") == found.count("test") == 2


def test_parts_named_in_all_frames_are_kept(tmp_path) -> None:
    given = frames(3)
    for atoms, name in zip(given, ("train", "Validation", "test"), strict=True):
        atoms.info["split"] = name
    assert parts_of(write(tmp_path / "a.xyz", given)) == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("name", "message"),
    [(None, "frame 1 of .* has no split in its info"), ("x", "has the split 'x'; as")],
    ids=["absent", "unknown"],
)
def test_parts_named_in_some_frames_only_are_an_error(name, message, tmp_path) -> None:
    given = frames(2)
    given[0].info["split"] = "train"
    if name:
        given[1].info["split"] = name
    with pytest.raises(DataError, match=message):
        open_family("user", write(tmp_path / "a.xyz", given))


def test_files_called_after_parts_are_those_parts(tmp_path) -> None:
    for name in ("train", "valid", "test"):
        write(tmp_path / f"{name}.xyz", frames(1))
    assert parts_of(tmp_path) == ["test", "train", "val"]


def test_the_user_says_what_part_a_file_is(tmp_path) -> None:
    assert parts_of(write(tmp_path / "a.xyz", frames(2)), split="val") == ["val"] * 2


def test_a_source_can_be_sent_to_another_process(tmp_path) -> None:
    (source,) = open_family("user", write(tmp_path / "a.xyz", frames(3)))
    sent = pickle.loads(pickle.dumps(source))
    assert [r.sample.name for r in records(sent)] == ["a.xyz/0", "a.xyz/1", "a.xyz/2"]


# -- bad files -------------------------------------------------------------------------


def test_a_truncated_file_names_file_and_frame(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(3))
    path.write_text(path.read_text()[:-150])
    with pytest.raises(DataError, match=r"frame \d of .*a\.xyz cannot be read"):
        open_family("user", path)


def test_a_damaged_trajectory_names_file_and_frame(tmp_path) -> None:
    path = write(tmp_path / "a.traj", frames(3, prefix=None))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"frame 2 of .*a\.traj cannot be read"):
        open_family("user", path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path) -> None:
    path = write(tmp_path / "a.xyz", frames(3))
    (source,) = open_family("user", path)
    write(path, frames(2))
    with pytest.raises(DataError, match="now ends after 2 frames and had 3; it chan"):
        entries(source)


def test_a_format_that_runs_code_is_refused(tmp_path) -> None:
    path = tmp_path / "a.gpw"
    path.write_bytes(b"- of UlmGPAW" + bytes(100))
    with pytest.raises(DataError, match="of the format 'gpw', which is not read bec"):
        open_family("user", path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xyz", b"", "a.xyz is empty"),
        ("a.bin", b"\x00\x01\x02", "frame 0 of .*cannot be read .*UnknownFileType"),
    ],
    ids=["empty", "unknown"],
)
def test_a_file_without_frames_is_an_error(name, content, message, tmp_path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_family("user", tmp_path / name)


def test_missing_and_repeated_sources_are_errors(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*nowhere"):
        open_family("user", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no file like \*\.extxyz"):
        open_family("user", tmp_path)
    path = write(tmp_path / "a.xyz", frames(1))
    with pytest.raises(DataError, match="is given twice"):
        open_user_files([path, tmp_path], FamilyOptions())


# -- real files ------------------------------------------------------------------------


def test_the_real_hybrid_gaps_of_qmof_are_read_as_targets() -> None:
    path = real("qmof", "qmof_examples.extxyz")
    (source,) = open_family("user", path, targets=("bandgap_eV:eV",))
    found = {r.sample.targets["bandgap_eV"]: r.sample for r in records(source)}
    assert sorted(found) == [1.0628, 1.1713, 8.361]
    assert found[8.361].energy == -223.69362482
    assert source.facts.domain == "bulk"


def test_the_real_vasp_output_agrees_with_its_extended_xyz() -> None:
    (source,) = open_family("user", real("qmof", "GUTYAW_vasprun.xml.gz"))
    (text,) = open_family("user", real("qmof", "qmof_examples.extxyz"))
    output, frame = records(source)[-1].sample, records(text)[0].sample
    assert output.energy == pytest.approx(frame.energy, abs=1e-8)
    np.testing.assert_allclose(output.forces, frame.forces, atol=1e-8)
    np.testing.assert_allclose(output.positions, frame.positions, atol=1e-7)


def test_the_real_free_atoms_of_3bpa_are_its_energies_of_elements() -> None:
    (source,) = open_family("user", real("3bpa"))
    assert source.facts.atom_energies == {
        1: pytest.approx(-13.587222780835477),
        6: pytest.approx(-1029.4889999855063),
        7: pytest.approx(-1484.9814568572233),
        8: pytest.approx(-2041.9816003861047),
    }
    split = [record.split for record in records(source)]
    assert [split.count(part) for part in ("train", "val", "test")] == [400, 50, 50]


def test_the_real_carbon_cells_have_the_stress_that_their_virial_says() -> None:
    """The pressure is minus a third of the trace, compressed cells push outward."""
    path = real("carbon_gap17", "carbon_reduced_100.xyz")
    (source,) = open_family("user", path, forces_key="force")
    sample = records(source)[0].sample
    first = ase.io.read(path, 0)
    virial = np.array(first.info["virial"]).reshape(3, 3)
    np.testing.assert_allclose(
        sample.stress, -(virial + virial.T) / 2 / first.get_volume(), atol=1e-12
    )
    assert np.trace(sample.stress) < 0
