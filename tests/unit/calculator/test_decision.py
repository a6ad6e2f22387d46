"""Head and tags in the calculator: decided once, kept in motion, decided anew."""

from __future__ import annotations

import copy
import pickle

import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator.decision import decide
from jmp_calc.calculator.memory import Memory
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.kept import Kept
from jmp_calc.sim.kept_file import KeptFile
from toys.models import published_model, smooth_model
from toys.slabs import slab_with_co


def test_the_head_is_kept_while_a_bond_breaks(smooth) -> None:
    crystal = bulk("Cu", cubic=True)
    crystal.calc = smooth
    crystal.get_potential_energy()
    for _ in range(20):
        crystal.set_cell(crystal.cell.array * 1.08, scale_atoms=True)
        crystal.get_potential_energy()
        assert smooth.describe(crystal)["head"] == "crystals"
    # the same atoms, met for the first time, are separate
    expanded = crystal.copy()
    assert crystal.get_volume() > 50 * bulk("Cu", cubic=True).get_volume()
    with pytest.raises(UnsupportedSystemError, match="molecule of Cu"):
        JMPCalculator(smooth_model()).describe(expanded)


def test_displaced_copies_keep_the_head(smooth) -> None:
    crystal = bulk("Cu", a=4.7)
    crystal.calc = smooth
    with pytest.raises(UnsupportedSystemError, match="molecule of Cu"):
        crystal.get_potential_energy()
    crystal.set_cell(bulk("Cu", a=4.6).cell, scale_atoms=True)
    crystal.get_potential_energy()
    copy = crystal.copy()
    copy.set_cell(bulk("Cu", a=4.7).cell, scale_atoms=True)
    assert smooth.get_potential_energy(copy) != smooth.get_potential_energy(crystal)


def test_the_head_is_decided_anew_for_another_structure(smooth) -> None:
    slab = fcc111("Cu", (1, 1, 4), vacuum=8.0, periodic=True)
    crystal = bulk("Cu", cubic=True)
    slab.calc = smooth
    crystal.calc = smooth
    for atoms, head in ((slab, "slabs"), (crystal, "crystals"), (slab, "slabs")):
        atoms.get_potential_energy()
        assert smooth.describe(atoms)["head"] == head


def test_attaching_the_calculator_decides_the_head_anew(smooth) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = smooth
    atoms.get_potential_energy()
    slab = fcc111("Cu", (1, 1, 4), vacuum=8.0, periodic=True)
    atoms.cell, atoms.positions = slab.cell, slab.positions
    assert smooth.describe(atoms)["head"] == "crystals"
    atoms.calc = smooth
    assert smooth.describe(atoms)["head"] == "slabs"


def melted(calc: JMPCalculator) -> Atoms:
    """A crystal pulled apart, which is two molecules to who has not seen it before."""
    atoms = bulk("C", cubic=True)
    atoms.calc = calc
    atoms.get_potential_energy()
    atoms.set_cell(atoms.cell.array * 2, scale_atoms=True)
    atoms.get_potential_energy()
    return atoms


def test_results_of_an_earlier_decision_are_not_given_for_a_new_one(smooth) -> None:
    atoms = melted(smooth)
    assert smooth.describe(atoms)["head"] == "crystals"
    atoms.calc = smooth
    assert smooth.describe(atoms)["head"] == "organic"
    expected = JMPCalculator(smooth_model(), head="organic", dtype="float64")
    assert atoms.get_potential_energy() == expected.get_potential_energy(atoms)


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda atoms: pickle.loads(pickle.dumps(atoms))]
)
def test_the_decision_travels_with_the_results(smooth, twin_of) -> None:
    atoms = melted(smooth)
    twin = twin_of(atoms)
    assert not twin.calc.calculation_required(twin, ["energy"])
    assert twin.calc.describe(twin)["head"] == "crystals"
    twin.positions[0] += 0.1
    twin.get_potential_energy()
    assert twin.calc.describe(twin)["head"] == "crystals"


def test_switching_periodicity_off_decides_the_head_anew(smooth) -> None:
    organic = bulk("C", cubic=True)
    organic.calc = smooth
    assert smooth.describe(organic)["head"] == "crystals"
    organic.get_potential_energy()
    organic.pbc = False
    assert smooth.describe(organic)["head"] == "organic"


def test_each_structure_of_a_list_gets_its_own_head(smooth) -> None:
    found = smooth.evaluate([molecule("H2O"), bulk("Cu"), slab_with_co()], ["energy"])
    assert [result["head"] for result in found] == ["organic", "crystals", "slabs"]


def test_tags_are_guessed_and_ase_tags_are_not_read(published) -> None:
    slab = slab_with_co()
    slab.calc = published
    guessed = slab.get_potential_energy()
    explicit = JMPCalculator(
        published_model(), tags=[0] * 8 + [1] * 4 + [2] * 2, dtype="float64"
    )
    assert guessed == explicit.evaluate([slab], ["energy"])[0]["energy"]
    notes = published.describe(slab)["notes"]
    assert any("8 sub-surface (0), 4 surface (1), 2 ads" in note for note in notes)


def test_a_bulk_counts_as_if_it_had_no_tags() -> None:
    atoms = bulk("Cu") * (2, 2, 2)
    assert not atoms.get_tags().any()
    auto, explicit = (
        JMPCalculator(published_model(), head="oc20", tags=tags, dtype="float64")
        for tags in ("auto", [2] * 8)
    )
    energies = [c.evaluate([atoms], ["energy"])[0]["energy"] for c in (auto, explicit)]
    assert energies[0] == energies[1]
    with_ase_tags = JMPCalculator(published_model(), head="oc20", tags="atoms")
    with pytest.raises(UnsupportedSystemError, match="every atom has tag 0"):
        with_ase_tags.evaluate([atoms])


def test_tags_of_the_atoms_are_read_when_asked_for_and_seen_by_the_cache() -> None:
    calc = JMPCalculator(published_model(), tags="atoms", dtype="float64")
    slab = slab_with_co()
    slab.calc = calc
    with pytest.raises(ArgumentError, match=r"atom 0 has tag 3.*other way round"):
        slab.get_potential_energy()
    slab.set_tags([0] * 8 + [1] * 4 + [2] * 2)
    before = slab.get_potential_energy()
    slab.set_tags(2)
    assert calc.calculation_required(slab, ["energy"])
    assert slab.get_potential_energy() != before


def test_guessed_tags_are_kept_while_the_adsorbate_leaves(published) -> None:
    slab = slab_with_co()
    slab.calc = published
    slab.get_potential_energy()
    slab.positions[-2:, 2] -= 12.0
    notes = published.describe(slab)["notes"]
    assert any("8 sub-surface (0), 4 surface (1), 2 ads" in note for note in notes)


def test_a_list_keeps_what_was_decided_while_its_structures_move(
    published, monkeypatch
) -> None:
    decided = []

    def counted(model, atoms, **settings):
        decided.append(atoms)
        return decide(model, atoms, **settings)

    monkeypatch.setattr("jmp_calc.calculator.ase_calculator.decide", counted)
    slab, other = slab_with_co(), slab_with_co()
    published.evaluate([slab, other])
    slab.positions[-2:, 2] -= 12.0
    moved = published.evaluate([other, slab])[1]["energy"]
    assert len(decided) == 2
    kept = [0] * 8 + [1] * 4 + [2] * 2
    explicit = JMPCalculator(published_model(), tags=kept, dtype="float64")
    expected = explicit.evaluate([slab], ["energy"])[0]["energy"]
    # sums of a batch and of one structure round differently
    assert moved == pytest.approx(expected, abs=1e-9)
    fresh = published.evaluate([slab.copy()], ["energy"])[0]["energy"]
    assert fresh != pytest.approx(expected, abs=1e-6)


def test_a_list_forgets_with_other_elements_a_new_calculator_or_the_object() -> None:
    calc = JMPCalculator(smooth_model())
    atoms = bulk("C", cubic=True)
    assert calc.evaluate([atoms], ["energy"])[0]["head"] == "crystals"
    atoms.set_cell(atoms.cell.array * 2, scale_atoms=True)
    assert calc.evaluate([atoms], ["energy"])[0]["head"] == "crystals"
    atoms.calc = calc
    assert calc.evaluate([atoms], ["energy"])[0]["head"] == "organic"
    memory: Memory[str] = Memory()
    memory.keep(atoms, "found")
    assert memory.find(atoms) == "found"
    assert memory.find(atoms.copy()) is None
    atoms.numbers[0] = 8
    assert memory.find(atoms) is None
    del atoms
    assert not memory._found


def test_work_that_goes_on_with_known_results_keeps_the_decision(tmp_path) -> None:
    slab = slab_with_co()
    gone = slab.copy()
    gone.positions[-2:, 2] -= 12.0
    found = []
    for is_new in (True, False):
        # another process: nothing is left but the file
        calc = JMPCalculator(published_model(), dtype="float64")
        file = KeptFile(tmp_path / "kept.part", is_new=is_new)
        kept, moving = Kept(calc, file, {}), slab.copy()
        kept.evaluate([moving])
        moving.positions[:] = gone.positions
        # asked for in another way: this one is not known
        found.append(kept.evaluate([moving], ["energy" if is_new else "forces"]))
        file.close()
    expected = JMPCalculator(
        published_model(), tags=[0] * 8 + [1] * 4 + [2] * 2, dtype="float64"
    ).evaluate([gone])[0]
    assert found[0][0]["energy"] == expected["energy"]
    assert (found[1][0]["forces"] == expected["forces"]).all()
