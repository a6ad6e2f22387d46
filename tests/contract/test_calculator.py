"""What ASE and its users expect of a calculator, for every kind of model."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import FiniteDifferenceCalculator, calculate_numerical_forces
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.optimize import BFGS

from jmp_calc.calculator import JMPCalculator
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained import PRETRAINED, load_model
from jmp_calc.pretrained.table import BUNDLED
from toys.models import MODELS

SHIPPED = {
    name: lambda name=name: load_model(name, offline=True)
    for name, entry in PRETRAINED.items()
    if entry.is_bundled and (BUNDLED / entry.file).is_file()
}


@pytest.fixture(scope="module", params=sorted({**MODELS, **SHIPPED}))
def model(request) -> JMPModel:
    return {**MODELS, **SHIPPED}[request.param]()


@pytest.fixture
def calc(model) -> JMPCalculator:
    return JMPCalculator(model, dtype="float64")


@pytest.fixture
def passes(calc, monkeypatch) -> list[int]:
    """Number of systems of each forward pass of the network."""
    seen: list[int] = []
    forward = calc.model.forward

    def counted(graph, *args, **kwargs):
        seen.append(graph.n_systems)
        return forward(graph, *args, **kwargs)

    monkeypatch.setattr(calc.model, "forward", counted)
    return seen


@pytest.fixture
def crystal(model) -> Atoms:
    """Skewed, smaller than the cutoff, off its symmetric places, under strain."""
    atoms = bulk("Si", "diamond", a=5.5)
    atoms.positions[1] += [0.1, 0.05, -0.1]
    return atoms


def periodic_calc(model: JMPModel, **settings) -> JMPCalculator:
    """A calculator for the crystal, whatever the head was made for."""
    has_bulk = any(s.domain == "bulk" for s in model.heads.values())
    head = None if has_bulk else "oc20"
    return JMPCalculator(model, head=head, dtype="float64", **settings)


def test_properties_have_the_shapes_and_types_of_ase(calc, ethanol) -> None:
    ethanol.calc = calc
    n = len(ethanol)
    assert isinstance(ethanol.get_potential_energy(), float)
    assert ethanol.get_potential_energy(force_consistent=True) == calc.results["energy"]
    for values, shape in (
        (ethanol.get_forces(), (n, 3)),
        (ethanol.get_potential_energies(), (n,)),
    ):
        assert values.shape == shape
        assert values.dtype == np.float64
        assert values.flags.c_contiguous
    assert ethanol.get_potential_energies().sum() == pytest.approx(
        ethanol.get_potential_energy(), rel=1e-12
    )


def test_results_are_copies(calc, ethanol) -> None:
    ethanol.calc = calc
    forces = ethanol.get_forces()
    before = forces.copy()
    forces[:] = 0
    np.testing.assert_array_equal(ethanol.get_forces(), before)


def test_a_repeated_call_does_no_forward_pass(calc, passes, ethanol) -> None:
    ethanol.calc = calc
    ethanol.get_forces()
    ethanol.get_forces()
    ethanol.get_potential_energy()
    ethanol.get_potential_energies()
    assert passes == [1]
    ethanol.positions[0, 0] += 0.01
    ethanol.get_forces()
    assert passes == [1, 1]


def test_an_energy_alone_is_not_differentiated(calc, ethanol, monkeypatch) -> None:
    ethanol.calc = calc
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *_, **__: pytest.fail("differentiated")
    )
    ethanol.get_potential_energy()
    assert "forces" not in calc.results


def test_a_changed_cell_is_seen(model, crystal) -> None:
    crystal.calc = periodic_calc(model)
    before = crystal.get_potential_energy()
    crystal.cell = crystal.cell.array * 1.02
    assert crystal.get_potential_energy() != before


def test_what_the_model_ignores_does_not_cost_a_pass(calc, passes, ethanol) -> None:
    ethanol.calc = calc
    ethanol.get_potential_energy()
    ethanol.set_initial_magnetic_moments(np.ones(len(ethanol)))
    ethanol.set_initial_charges(np.ones(len(ethanol)))
    ethanol.get_potential_energy()
    assert passes == [1]


def test_gradient_forces_match_finite_differences(model, water) -> None:
    calc = JMPCalculator(model, forces="gradient", dtype="float64")
    water.calc = calc
    forces = water.get_forces()
    expected = calculate_numerical_forces(water, eps=1e-5)
    np.testing.assert_allclose(forces, expected, atol=1e-6 * abs(forces).max())
    assert abs(forces).max() > 1e-3


def test_stress_matches_finite_differences(model, crystal) -> None:
    calc = periodic_calc(model, forces="gradient")
    crystal.calc = calc
    stress = crystal.get_stress()
    crystal.calc = FiniteDifferenceCalculator(calc, eps_strain=1e-6)
    expected = crystal.get_stress()
    np.testing.assert_allclose(stress, expected, atol=1e-6 * abs(expected).max())
    assert stress.shape == (6,)
    assert stress.dtype == np.float64
    assert abs(stress).max() > 1e-6


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_stress_needs_three_periodic_directions(calc, cu_slab_co, pbc) -> None:
    cu_slab_co.pbc = pbc
    if not cu_slab_co.pbc.any():
        cu_slab_co = molecule("CH4")
    cu_slab_co.calc = calc
    with pytest.raises(
        PropertyNotImplementedError, match="periodic in three directions"
    ):
        cu_slab_co.get_stress()


def test_a_lone_atom_has_no_force_and_half_the_energy_of_two_far_apart(model) -> None:
    calc = JMPCalculator(model, dtype="float64")
    atom = Atoms("C", positions=[[1.0, 2.0, 3.0]])
    pair = Atoms("C2", positions=[[0, 0, 0], [0, 0, 40.0]])
    alone, both = calc.evaluate([atom, pair])
    np.testing.assert_array_equal(alone["forces"], np.zeros((1, 3)))
    np.testing.assert_array_equal(both["forces"], np.zeros((2, 3)))
    shift = model.heads[alone["head"]].energy_shift
    assert both["energy"] - shift == pytest.approx(2 * (alone["energy"] - shift))


def test_an_atom_that_leaves_does_not_end_a_run(calc) -> None:
    atoms = molecule("CH4")
    atoms.calc = calc
    for _ in range(12):
        atoms.positions[1] += 0.7
        assert np.isfinite(atoms.get_forces()).all()
    np.testing.assert_allclose(atoms.get_forces()[1], 0, atol=1e-12)


def test_a_calculator_survives_pickle_and_deepcopy(calc, ethanol) -> None:
    ethanol.calc = calc
    expected = ethanol.get_forces()
    for twin in (pickle.loads(pickle.dumps(calc)), copy.deepcopy(calc)):
        twin.reset()
        again = ethanol.copy()
        again.calc = twin
        np.testing.assert_array_equal(again.get_forces(), expected)


def test_it_can_be_used_for_provenance(calc) -> None:
    assert calc.name == "jmp"
    assert json.loads(json.dumps(calc.todict()))["dtype"] == "float64"


def test_it_can_be_mixed_with_other_calculators(calc, ethanol) -> None:
    other = LennardJones(sigma=1.0, epsilon=0.01, rc=5.0)
    both = [atoms_with(c, ethanol) for c in (calc, other)]
    total = atoms_with(SumCalculator([calc, other]), ethanol)
    expected = sum(a.get_potential_energy() for a in both)
    assert total.get_potential_energy() == pytest.approx(expected, rel=1e-12)


def atoms_with(calc, atoms: Atoms) -> Atoms:
    twin = atoms.copy()
    twin.calc = calc
    return twin


def test_it_can_be_reused_over_structures(calc) -> None:
    energies = []
    for name in ("H2O", "CH4", "H2O"):
        atoms = molecule(name)
        atoms.calc = calc
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[2] != energies[1]


def test_an_optimizer_runs(model) -> None:
    atoms = molecule("H2O")
    atoms.calc = JMPCalculator(model, forces="gradient", dtype="float64")
    before = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=0.0, steps=3)
    assert atoms.get_potential_energy() < before


def test_many_at_once_equal_one_at_a_time(model, ethanol, cu_slab_co, passes, calc):
    cu_slab_co.pbc = True
    structures = [ethanol, cu_slab_co, molecule("CH4"), Atoms("H")]
    together = calc.evaluate(structures, ["energy", "forces", "energies"])
    assert passes == [4]
    for atoms, result in zip(structures, together, strict=True):
        alone = JMPCalculator(model, dtype="float64")
        atoms.calc = alone
        expected = atoms.get_forces()
        scale = max(1.0, abs(expected).max())
        np.testing.assert_allclose(result["forces"], expected, atol=1e-10 * scale)
        assert result["energy"] == pytest.approx(alone.results["energy"], rel=1e-10)
        np.testing.assert_allclose(result["energies"], alone.results["energies"])
        assert result["head"] == alone.describe(atoms)["head"]


def test_stress_of_many_equals_stress_of_one(model, crystal) -> None:
    calc = periodic_calc(model)
    strained = crystal.copy()
    strained.set_cell(crystal.cell.array * 1.03, scale_atoms=True)
    together = calc.evaluate([crystal, strained], ["stress"])
    for atoms, result in zip((crystal, strained), together, strict=True):
        atoms.calc = calc
        np.testing.assert_allclose(result["stress"], atoms.get_stress(), rtol=1e-10)


def test_descriptors_are_invariant_features_of_each_atom(calc, ethanol) -> None:
    features = calc.get_descriptors(ethanol)
    assert features.shape == (9, calc.model.config.emb_size_atom)
    assert features.dtype == np.float64
    ethanol.rotate(40, (1, 2, 3))
    np.testing.assert_allclose(calc.get_descriptors(ethanol), features, atol=1e-9)
    assert abs(features[0] - features[2]).max() > 1e-6


def test_single_precision_agrees_with_double(model, ethanol) -> None:
    results = [
        JMPCalculator(model, dtype=dtype).evaluate([ethanol])[0]
        for dtype in ("float32", "float64")
    ]
    assert results[0]["energy"] == pytest.approx(results[1]["energy"], abs=1e-4)
    scale = abs(results[1]["forces"]).max()
    np.testing.assert_allclose(
        results[0]["forces"], results[1]["forces"], atol=1e-3 * scale
    )
