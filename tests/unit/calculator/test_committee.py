"""Committees: mean and spread of several calculators, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator.committee import Committee, largest_spread
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import evaluate_in_chunks
from toys.models import TINY, build, sibling, smooth_model

EPSILONS = (0.1, 0.2, 0.6)
MEAN = 0.3
STD = np.sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2)


@pytest.fixture
def argon():
    atoms = bulk("Ar", a=5.2, cubic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def lennard_jones(epsilon):
    return LennardJones(sigma=3.4, epsilon=epsilon, rc=6.0, smooth=True)


@pytest.fixture
def committee():
    return Committee([lennard_jones(epsilon) for epsilon in EPSILONS])


def test_mean_and_spread_of_scaled_potentials_are_those_of_the_scales(argon, committee):
    # every property is proportional to epsilon
    unit = lennard_jones(1.0)
    argon.calc = committee
    forces, stress = argon.get_forces(), argon.get_stress()
    np.testing.assert_allclose(forces, MEAN * unit.get_property("forces", argon))
    np.testing.assert_allclose(stress, MEAN * unit.get_property("stress", argon))
    energy = unit.get_property("energy", argon)
    assert argon.get_potential_energy() == pytest.approx(MEAN * energy)
    assert committee.results["energy_std"] == pytest.approx(STD * abs(energy))
    spread = STD * np.abs(unit.get_property("forces", argon))
    np.testing.assert_allclose(committee.results["forces_std"], spread)
    assert committee.force_spread == pytest.approx(np.linalg.norm(spread, axis=1).max())


def test_equal_members_have_no_spread(argon):
    argon.calc = Committee([lennard_jones(0.1), lennard_jones(0.1)])
    argon.get_forces()
    assert argon.calc.force_spread == 0.0


def test_mean_forces_are_the_gradient_of_the_mean_energy(argon, committee):
    argon.calc = committee
    force, step = argon.get_forces()[1, 2], 1e-4
    energies = []
    for sign in (1, -1):
        moved = argon.copy()
        moved.positions[1, 2] += sign * step
        energies.append(committee.get_property("energy", moved))
    slope = (energies[0] - energies[1]) / (2 * step)
    # the error of central differences is of the order of step squared
    assert -slope == pytest.approx(force, abs=1e-5)


def test_many_structures_at_once_give_what_each_gives(argon, committee):
    frames = [argon, argon.copy()]
    frames[1].rattle(0.2, seed=1)
    found = list(evaluate_in_chunks(committee, frames, ("energy", "forces", "stress")))
    for atoms, results in zip(frames, found, strict=True):
        for name in ("energy", "forces", "stress", "energy_std", "forces_std"):
            single = committee.get_property(name, atoms)
            np.testing.assert_allclose(results[name], single)


@pytest.fixture
def models():
    return [JMPCalculator(sibling(seed), dtype="float64") for seed in (1, 2, 3)]


def test_models_are_averaged_and_described_together(models):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    committee = Committee(models)
    atoms.calc = committee
    alone = {
        name: np.array([model.get_property(name, atoms) for model in models])
        for name in ("energy", "forces", "stress")
    }
    # members that differ, or the rest shows nothing
    assert alone["energy"].std() > 1e-3
    for name, values in alone.items():
        mean = atoms.calc.get_property(name, atoms)
        np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-10)
    spread = alone["forces"].std(axis=0, ddof=1)
    np.testing.assert_allclose(committee.results["forces_std"], spread, atol=1e-10)
    assert committee.results["energy_std"] == pytest.approx(alone["energy"].std(ddof=1))
    about = committee.describe(atoms)
    assert about["model"] == "toy-1 + toy-2 + toy-3"
    assert about["head"] == "crystals"
    assert about["is_conservative"]
    assert "no error bar" in about["notes"][0]


def test_a_batch_of_models_gives_what_each_structure_gives(models):
    frames = [molecule("CH3CH2OH"), molecule("H2O")]
    committee = Committee(models)
    for atoms, found in zip(frames, committee.evaluate(frames), strict=True):
        assert found["head"] == "organic"
        for name in ("energy", "forces", "energy_std", "forces_std"):
            single = committee.get_property(name, atoms)
            # sums of a batch and of one structure round differently
            np.testing.assert_allclose(found[name], single, atol=1e-9)


def test_energies_alone_need_no_forces(models):
    (found,) = Committee(models).evaluate([molecule("H2O")], ["energy"])
    assert found["energy_std"] > 0
    assert "forces" not in found


def test_the_same_model_twice_is_refused():
    committee = Committee([JMPCalculator(sibling(1)), JMPCalculator(sibling(1))])
    with pytest.raises(ArgumentError, match="toy-1 is twice in the committee"):
        committee.get_property("energy", molecule("H2O"))
    with pytest.raises(ArgumentError, match="give models that were trained separately"):
        committee.evaluate([molecule("H2O")])


def test_heads_of_other_names_at_one_level_are_joined():
    def renamed():
        model = smooth_model()
        return build(TINY, replace(model.heads["organic"], name="mine"), name="other")

    other = sibling(2, renamed)
    committee = Committee([JMPCalculator(sibling(1)), JMPCalculator(other)])
    (found,) = committee.evaluate([molecule("H2O")])
    assert found["head"] == "organic + mine"
    assert committee.describe(molecule("H2O"))["head"] == "organic + mine"
    # the second model has no head for crystals
    with pytest.raises(UnsupportedSystemError, match="toy-2 is meant for"):
        committee.evaluate([bulk("C")])


def test_a_run_of_a_committee_keeps_the_heads_that_it_began_with(models):
    committee = Committee(models)
    for steps in (committee.get_property, lambda _, a: committee.evaluate([a])):
        crystal = bulk("Cu", cubic=True)
        steps("energy", crystal)
        crystal.set_cell(2 * crystal.cell.array, scale_atoms=True)
        # to who meets them now these are four separate atoms
        steps("energy", crystal)
        with pytest.raises(UnsupportedSystemError, match="molecule of Cu"):
            JMPCalculator(sibling(1)).describe(crystal)


def test_levels_of_theory_are_not_mixed(argon):
    class Told(EMT):
        def __init__(self, level):
            super().__init__()
            self.level = level

        def describe(self, atoms):
            return {"level_of_theory": self.level, "forces": "gradient"}

    committee = Committee([Told("PBE"), Told("RPBE")])
    match = "must agree in level of theory, and these have PBE, RPBE"
    with pytest.raises(UnsupportedSystemError, match=match):
        committee.get_property("energy", bulk("Cu"))
    with pytest.raises(UnsupportedSystemError, match=match):
        committee.evaluate([bulk("Cu")])


def test_a_limit_of_neighbors_of_any_model_counts():
    class Capped(EMT):
        def __init__(self, cap):
            super().__init__()
            self.cap = cap

        def describe(self, atoms):
            about = {"model": "m", "head": "h", "level_of_theory": "PBE", "notes": []}
            facts = {"forces": "gradient", "is_conservative": True}
            return {**about, **facts, "neighbor_cap": self.cap, "weights_sha256": None}

    committee = Committee([Capped(None), Capped("main (nearest 30)")])
    assert committee.describe(bulk("Cu"))["neighbor_cap"] == "main (nearest 30)"
    assert Committee([Capped(None)] * 2).describe(bulk("Cu"))["neighbor_cap"] is None


def test_attaching_a_committee_decides_heads_anew(models):
    committee = Committee(models[:2])
    atoms = bulk("C", cubic=True)
    atoms.calc = committee
    atoms.get_potential_energy()
    atoms.set_cell(2 * atoms.cell.array, scale_atoms=True)
    atoms.calc = committee
    assert committee.describe(atoms)["head"] == "organic"


def test_one_member_is_no_committee():
    with pytest.raises(ArgumentError, match="committee of 1 has no spread"):
        Committee([EMT()])


def test_one_structure_is_no_list(argon, committee):
    with pytest.raises(ArgumentError, match="list of structures"):
        committee.evaluate(argon)


def test_the_largest_spread_is_that_of_the_worst_atom():
    spread = np.array([[0.1, 0.0, 0.0], [0.3, 0.4, 0.0]])
    assert largest_spread(spread) == pytest.approx(0.5)
