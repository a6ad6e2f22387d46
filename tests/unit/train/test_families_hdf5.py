from __future__ import annotations

import pickle
from collections import Counter

import h5py
import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.families.ani1x import Formula, split_formulas
from jmp_train.data.published_splits import shuffled
from toys.published_files import (
    AMMONIA,
    METHANE,
    METHANOL,
    WATER,
    geometries,
    write_ani1x,
    write_spice,
    write_transition1x,
)
from toys.sources import entries, open_family, real, records, skipped

HARTREE = 27.211386  # eV, public tables
BOHR = 0.52917721  # Å


def split_counts(source) -> Counter:
    return Counter(record.split for record in records(source))


# -- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["ani1x", "transition1x", "spice"])
def test_a_truncated_file_is_named(tmp_path, family) -> None:
    path = write_ani1x(tmp_path / "ani1x.h5", {"C1H4": (METHANE, 500)})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"ani1x\.h5: cannot be read .*cut short"):
        open_family(family, path)


def test_damage_inside_a_file_names_file_group_and_data_set(tmp_path) -> None:
    path = tmp_path / "ani1x.h5"
    write_ani1x(path, {"C1H4": (METHANE, 50), "C1H4O1": (METHANOL, 50)})
    with h5py.File(path, "r+") as file:
        energy = file["C1H4O1/wb97x_dz.energy"][()]
        del file["C1H4O1/wb97x_dz.energy"]
        file["C1H4O1"].create_dataset(
            "wb97x_dz.energy", data=energy, chunks=(50,), compression="gzip"
        )
        offset = file["C1H4O1/wb97x_dz.energy"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 20] = bytes(20)
    path.write_bytes(content)
    (source,) = open_family("ani1x", path)
    with pytest.raises(
        DataError, match=r"ani1x\.h5, group '/C1H4O1', 'wb97x_dz\.energy': cannot be r"
    ):
        entries(source)


def test_groups_before_the_damage_are_still_read(tmp_path) -> None:
    path = write_ani1x(
        tmp_path / "ani1x.h5", {"C1H4": (METHANE, 5), "C1H4O1": (METHANOL, 5)}
    )
    with h5py.File(path, "r+") as file:
        del file["C1H4O1/wb97x_dz.forces"]
    (source,) = open_family("ani1x", path)
    stream = source.read("0-2")
    before = [next(stream).sample.name for _ in range(5)]
    assert before == [f"C1H4/{i}" for i in range(5)]
    with pytest.raises(DataError, match=r"no data set 'wb97x_dz\.forces'; it has atom"):
        next(stream)


def test_labels_that_do_not_fit_the_geometries_are_an_error(tmp_path) -> None:
    path = write_ani1x(tmp_path / "ani1x.h5", {"C1H4": (METHANE, 5)})
    with h5py.File(path, "r+") as file:
        del file["C1H4/wb97x_dz.energy"]
        file["C1H4/wb97x_dz.energy"] = np.zeros(4)
    with pytest.raises(
        DataError, match=r"group '/C1H4': energy have shape \(4,\); the"
    ):
        entries(open_family("ani1x", path)[0])


def test_a_folder_without_the_file_says_what_is_wanted(tmp_path) -> None:
    with pytest.raises(DataError, match=r"no file like ani1x\*\.h5 .*the HDF5 file of"):
        open_family("ani1x", tmp_path)


def test_two_files_in_a_folder_are_not_chosen_between(tmp_path) -> None:
    for name in ("ani1x-a.h5", "ani1x-b.h5"):
        write_ani1x(tmp_path / name, {"C1H4": (METHANE, 1)})
    with pytest.raises(DataError, match=r"holds ani1x-a\.h5, ani1x-b\.h5; give one of"):
        open_family("ani1x", tmp_path)


def test_a_missing_source_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nothing; give the HDF5 file"):
        open_family("ani1x", tmp_path / "nothing")


# -- ANI-1x --------------------------------------------------------------------------


@pytest.fixture
def ani1x(tmp_path):
    """Three formulas of ten conformations, and water."""
    formulas = {"C1H4": METHANE, "C1H4O1": METHANOL, "H2O1": WATER, "H3N1": AMMONIA}
    return write_ani1x(
        tmp_path / "ani1x.h5",
        {name: (numbers, 10) for name, numbers in formulas.items()},
        missing=2,
    )


def test_ani1x_is_converted_from_hartree(ani1x) -> None:
    sample = records(open_family("ani1x", ani1x)[0])[3].sample
    positions, energy, forces = geometries(METHANE, 10)
    assert sample.name == "C1H4/5"  # two of the first have no labels
    assert sample.energy == pytest.approx(energy[5] * HARTREE, rel=1e-7)
    # forces and positions are stored in float32
    np.testing.assert_allclose(sample.forces, forces[5] * HARTREE, rtol=1e-6)
    np.testing.assert_allclose(sample.positions, positions[5], rtol=1e-6)
    assert sample.numbers.tolist() == list(METHANE)


def test_formulas_below_four_atoms_and_frames_without_labels_are_skipped(ani1x) -> None:
    (source,) = open_family("ani1x", ani1x)
    assert Counter(entry.reason for entry in skipped(source)) == {
        "fewer than 4 atoms": 10,
        "energy or forces not computed (NaN)": 6,
    }
    assert "H2O1" not in {record.sample.group for record in records(source)}


def test_no_formula_of_ani1x_is_in_two_parts(ani1x) -> None:
    parts = {}
    for record in records(open_family("ani1x", ani1x)[0]):
        parts.setdefault(record.sample.group, set()).add(record.split)
    assert sorted(len(splits) for splits in parts.values()) == [1, 1, 1]
    assert set.union(*parts.values()) == {"train", "val", "test"}


def test_formulas_are_held_out_until_a_tenth_of_the_frames_is_reached() -> None:
    """By hand: of 100 frames, ten; RandomState(42) turns 0..9 into 8 1 5 0 7 2 ..."""
    formulas = tuple(
        Formula(name=str(i), n_atoms=9, n_frames=6 if i < 8 else 26) for i in range(10)
    )
    parts = split_formulas(formulas)
    assert [name for name, part in parts.items() if part == "val"] == ["8"]
    assert [name for name, part in parts.items() if part == "test"] == ["1", "5"]


@pytest.mark.parametrize(
    ("level", "name", "n", "offset"),
    [("wb97x_tz", "ani1x-wb97x_tz", 30, -1), ("ccsd(t)_cbs", "ani1x-ccsdt_cbs", 3, 0)],
)
def test_other_levels_of_ani1x_can_be_chosen(ani1x, level, name, n, offset) -> None:
    (source,) = open_family("ani1x", ani1x, variant=level)
    found = records(source)
    _, energy, _ = geometries(METHANE, 10)
    last = next(r.sample for r in found if r.sample.name == "C1H4/9")
    assert (source.facts.name, len(found)) == (name, n)
    assert last.energy == pytest.approx((energy[9] + offset) * HARTREE, rel=1e-7)


def test_the_level_without_forces_has_none(ani1x) -> None:
    (source,) = open_family("ani1x", ani1x, variant="ccsd(t)_cbs")
    assert [record.sample.forces for record in records(source)] == [None] * 3


def test_all_levels_have_one_split(ani1x) -> None:
    default, other = (
        open_family("ani1x", ani1x, variant=v)[0] for v in (None, "wb97x_tz")
    )
    assert default.parts_of == other.parts_of


def test_an_unknown_level_is_an_error(ani1x) -> None:
    with pytest.raises(
        ArgumentError, match="unknown level 'wb97x' of ANI-1x; choose f"
    ):
        open_family("ani1x", ani1x, variant="wb97x")


def test_real_ani1x_has_the_published_energies() -> None:
    """Range and number as the table beside the file states them."""
    found = records(open_family("ani1x", real("ani1x"))[0])
    energy = [record.sample.energy for record in found]
    assert (round(min(energy), 3), round(max(energy), 3)) == (-15812.647, -13218.262)
    assert len(found) == 8


# -- Transition-1x -------------------------------------------------------------------


@pytest.fixture
def transition1x(tmp_path):
    """Three reactions, one in each part."""
    return write_transition1x(
        tmp_path / "Transition1x.h5",
        {
            "C1H4/rxn0001": ("train", METHANE, 8),
            "C1H4O1/rxn0007": ("val", METHANOL, 6),
            "H3N1/rxn0002": ("test", AMMONIA, 4),
        },
    )


def test_transition1x_has_the_parts_of_its_file(transition1x) -> None:
    (source,) = open_family("transition1x", transition1x)
    assert split_counts(source) == {"train": 8, "val": 6, "test": 4}


def test_labels_of_transition1x_are_in_ev_already(transition1x) -> None:
    sample = records(open_family("transition1x", transition1x)[0])[9].sample
    positions, energy, forces = geometries(METHANOL, 6)
    assert (sample.name, sample.group) == ("rxn0007/frame1", "rxn0007")
    assert sample.energy == energy[1]
    assert (sample.forces == forces[1]).all()
    assert (sample.positions == positions[1]).all()


def test_small_molecules_of_transition1x_are_kept(tmp_path) -> None:
    path = write_transition1x(tmp_path / "a.h5", {"H2O1/rxn0001": ("train", WATER, 3)})
    assert len(records(open_family("transition1x", path)[0])) == 3


def test_an_excerpt_without_parts_leaves_them_to_the_hash(tmp_path) -> None:
    path = write_transition1x(tmp_path / "a.h5", {"C1H4/rxn0001": ("data", METHANE, 3)})
    assert split_counts(open_family("transition1x", path)[0]) == {None: 3}


def test_another_file_is_not_taken_for_transition1x(ani1x) -> None:
    with pytest.raises(
        DataError, match=r"has the groups C1H4, .*Transition-1x has data"
    ):
        open_family("transition1x", ani1x)


def test_a_link_that_leads_nowhere_is_named(transition1x) -> None:
    with h5py.File(transition1x, "r+") as file:
        del file["data/C1H4"]
    with pytest.raises(
        DataError, match=r"group '/train/C1H4', 'rxn0001': cannot be re"
    ):
        open_family("transition1x", transition1x)


# -- SPICE ---------------------------------------------------------------------------

DIPEPTIDES = "SPICE Dipeptides Single Points Dataset v1.2"
SOLVATED = "SPICE Solvated Amino Acids Single Points Dataset v1.1"


@pytest.fixture
def spice(tmp_path):
    """Two molecules of one subset, one of another."""
    return write_spice(
        tmp_path / "SPICE-1.1.4.hdf5",
        {
            "ala-ala": (DIPEPTIDES, METHANOL, 12),
            "gly-gly": (DIPEPTIDES, METHANE, 8),
            "water": ("SPICE PubChem Set 1 Single Points Dataset v1.2", WATER, 5),
        },
    )


def test_forces_of_spice_are_minus_the_gradient(spice) -> None:
    sample = records(open_family("spice", spice)[0])[2].sample
    positions, energy, forces = geometries(METHANOL, 12)  # written as -gradient
    assert sample.name == "ala-ala/2"
    np.testing.assert_allclose(sample.forces, forces[2] * HARTREE / BOHR, rtol=1e-6)
    np.testing.assert_allclose(sample.positions, positions[2] * BOHR, rtol=1e-6)
    assert sample.energy == pytest.approx(energy[2] * HARTREE, rel=1e-7)


def test_legacy_units_of_spice_are_the_published_factors(spice) -> None:
    sample = records(open_family("spice", spice, legacy_units=True)[0])[2].sample
    _, energy, _ = geometries(METHANOL, 12)
    assert sample.energy == energy[2] / 0.0367493


def test_the_published_subsets_are_chosen_by_their_string(spice) -> None:
    sources = open_family("spice", spice)
    assert [source.facts.name for source in sources] == ["spice-dipeptides"]
    assert {r.sample.group for r in records(sources[0])} == {"ala-ala", "gly-gly"}


@pytest.mark.parametrize(
    ("variant", "n"), [("pubchem", 5), ("PubChem Set 1", 5), ("all", 25)]
)
def test_other_subsets_can_be_chosen(spice, variant, n) -> None:
    assert len(records(open_family("spice", spice, variant=variant)[0])) == n


def test_an_absent_subset_lists_those_that_are_there(spice) -> None:
    with pytest.raises(
        ArgumentError,
        match="no molecule of solvated-amino-acids; it has the subsets SP",
    ):
        open_family("spice", spice, variant="solvated-amino-acids")


def test_conformers_of_spice_are_divided_as_published(spice) -> None:
    labels = [record.split for record in records(open_family("spice", spice)[0])]
    order = shuffled(20).tolist()
    assert sorted(i for i, s in enumerate(labels) if s == "train") == sorted(order[:16])
    assert sorted(i for i, s in enumerate(labels) if s == "val") == sorted(order[16:18])


def test_whole_molecules_of_spice_can_be_held_out(tmp_path) -> None:
    path = write_spice(
        tmp_path / "SPICE.hdf5",
        {f"m{i}": (SOLVATED, METHANE, 3) for i in range(10)},
    )
    (source,) = open_family("spice", path, by_molecule=True)
    parts = {}
    for record in records(source):
        parts.setdefault(record.split, set()).add(record.sample.group)
    # RandomState(42) turns 0..9 into 8 1 5 0 7 2 9 4 3 6.
    assert parts["val"] == {"m3"}
    assert parts["test"] == {"m6"}
    assert len(parts["train"]) == 8


def test_the_formation_energy_can_be_the_label(spice) -> None:
    (source,) = open_family("spice", spice, energy="formation")
    _, energy, _ = geometries(METHANOL, 12)
    sample = records(source)[0].sample
    assert sample.energy == pytest.approx((energy[0] + 9) * HARTREE, rel=1e-7)
    assert "energies are formation energies" in source.facts.coverage


def test_a_data_set_of_spice_that_says_it_has_other_units_is_refused(spice) -> None:
    with h5py.File(spice, "a") as file:
        name = next(iter(file))
        file[name]["conformations"].attrs["units"] = "angstrom"
    (source,) = open_family("spice", spice, variant="all")
    with pytest.raises(DataError, match="'conformations' is in 'angstrom'; it must be"):
        records(source)


def test_an_unknown_energy_of_spice_is_an_error(spice) -> None:
    with pytest.raises(
        ArgumentError, match="'binding' of SPICE; choose from total, for"
    ):
        open_family("spice", spice, energy="binding")


def test_the_split_of_spice_is_that_before_the_filter(spice) -> None:
    all_of_it = {
        r.sample.name: r.split for r in records(open_family("spice", spice)[0])
    }
    (filtered,) = open_family("spice", spice, max_force=10.0)
    kept = {r.sample.name: r.split for r in records(filtered)}
    assert 0 < len(kept) < len(all_of_it)
    assert kept.items() <= all_of_it.items()


def test_sources_of_hdf5_survive_a_process(spice, ani1x, transition1x) -> None:
    given = [
        *open_family("spice", spice),
        *open_family("ani1x", ani1x),
        *open_family("transition1x", transition1x),
    ]
    for source in given:
        sent = pickle.loads(pickle.dumps(source))
        assert len(entries(sent)) == len(entries(source)) > 0


def test_real_spice_has_the_published_energies() -> None:
    """Range and size of the forces as the table beside the file states them."""
    found = records(open_family("spice", real("spice"), variant="all")[0])
    energy = [record.sample.energy for record in found]
    forces = np.concatenate([record.sample.forces.ravel() for record in found])
    assert (round(min(energy), 3), round(max(energy), 3)) == (-10080.843, -6517.675)
    assert round(float(np.sqrt((forces**2).mean())), 3) == 0.860


def test_forces_of_real_spice_point_downhill() -> None:
    """Between two conformers the energy changes as the mean force says, to a quarter.

    The sign shows only between geometries that are close; the two closest of the
    molecule are taken.
    """
    found = [
        record.sample
        for record in records(open_family("spice", real("spice"), variant="all")[0])
        if record.sample.group == "C#C.[Na+]"
    ]
    pairs = [
        (np.abs(b.positions - a.positions).max(), i, j)
        for i, a in enumerate(found)
        for j, b in enumerate(found)
        if i < j
    ]
    _, i, j = min(pairs)
    step = found[j].positions - found[i].positions
    work = ((found[i].forces + found[j].forces) / 2 * step).sum()
    drop = found[i].energy - found[j].energy
    assert work == pytest.approx(drop, rel=0.25)
