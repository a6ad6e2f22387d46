"""Forces, virial and their own derivatives against finite differences; precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from torch import Tensor

from jmp_calc.graph.build import build_graph
from jmp_calc.models.jmp import JMPModel
from physics.networks import SMOOTH, difference, evaluate, tiny_model

STEP = 2e-4
"""Angstrom, or strain: with four points the error is of the order of STEP^4."""
DERIVATIVE = 1e-6
"""Relative to the largest component."""
FLOAT32_ENERGY = 1e-5
"""Relative; a hundred roundings of 6e-8 in each feature."""
FLOAT32_FORCES = 1e-4
"""Relative to the largest force; a derivative loses one more digit."""

PARTS = ("embedding", "bases", "blocks.0", "blocks.1", "outputs", "head_layers")


def slope(values: np.ndarray) -> np.ndarray:
    """Derivative from values at -2, -1, 1 and 2 steps."""
    return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * STEP)


def energies(model: JMPModel, systems: list[Atoms]) -> np.ndarray:
    """Energies, four per row."""
    return evaluate(model, systems).energy.reshape(-1, 4).T


@pytest.mark.parametrize("name", ["ethanol", "si", "nacl", "cu_slab_co"])
def test_forces_are_minus_the_slope_of_the_energy(
    model: JMPModel, name: str, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    moved = []
    chosen = [(i, k) for i in (0, len(atoms) - 1) for k in range(3)]
    for i, k in chosen:
        for step in (-2, -1, 1, 2):
            moved.append(atoms.copy())
            moved[-1].positions[i, k] += step * STEP
    expected = -slope(energies(model, moved))
    forces = evaluate(model, atoms).forces
    found = np.array([forces[i, k] for i, k in chosen])
    assert np.abs(found - expected).max() < DERIVATIVE * np.abs(forces).max()


@pytest.mark.parametrize("name", ["ethanol", "si", "cu_slab_co"])
def test_the_virial_is_the_slope_of_the_energy_by_strain(
    model: JMPModel, name: str, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    found = evaluate(model, atoms).virial[0]
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    strained = []
    for i, j in pairs:
        direction = np.zeros((3, 3))
        direction[i, j] += 0.5
        direction[j, i] += 0.5
        for step in (-2, -1, 1, 2):
            strained.append(atoms.copy())
            strained[-1].set_cell(
                atoms.cell.array @ (np.eye(3) + step * STEP * direction),
                scale_atoms=False,
            )
            strained[-1].positions += step * STEP * atoms.positions @ direction
    expected = slope(energies(model, strained))
    np.testing.assert_allclose(found, found.T, atol=1e-12 * np.abs(found).max())
    assert difference(np.array([found[p] for p in pairs]), expected) < DERIVATIVE


def test_the_virial_of_a_molecule_follows_from_its_forces(
    model: JMPModel, ethanol: Atoms
) -> None:
    result = evaluate(model, ethanol)
    product = -ethanol.positions.T @ result.forces
    assert difference(result.virial[0], (product + product.T) / 2) < 1e-12


def test_direct_forces_are_not_the_slope_of_the_energy(
    model: JMPModel, ethanol: Atoms
) -> None:
    """So that the tests above cannot pass by comparing a number with itself."""
    direct = evaluate(model, ethanol, kind="direct").forces
    assert difference(direct, evaluate(model, ethanol).forces) > 0.1


def force_matching_loss(model: JMPModel, atoms: Atoms) -> Tensor:
    """A loss on energy and gradient forces, as training has it."""
    result = model(
        build_graph(atoms, model.heads["task"].graph),
        "task",
        forces="gradient",
        create_graph=True,
    )
    target = torch.linspace(-1, 1, result.forces.numel(), dtype=torch.float64)
    return result.energy.square().sum() + (
        (result.forces.flatten() - target).square().sum()
    )


@pytest.mark.parametrize("rules", ["smooth", "published"])
def test_the_gradient_of_a_force_loss_is_its_slope_in_every_parameter_group(
    rules: str, ethanol: Atoms
) -> None:
    model = tiny_model(rules).requires_grad_(True)
    names, parameters = zip(
        *[(n, p) for n, p in model.named_parameters() if "force" not in n], strict=True
    )
    gradients = torch.autograd.grad(force_matching_loss(model, ethanol), parameters)
    generator = torch.Generator().manual_seed(0)
    for part in PARTS:
        mine = [
            (p, g, torch.randn(p.shape, generator=generator, dtype=p.dtype))
            for n, p, g in zip(names, parameters, gradients, strict=True)
            if part in n
        ]
        expected = sum(float((g * d).sum()) for _, g, d in mine)
        values = []
        for step in (-2, -1, 1, 2):
            for p, _, d in mine:
                p.data += step * STEP * d
            values.append(force_matching_loss(model, ethanol).item())
            for p, _, d in mine:
                p.data -= step * STEP * d
        scale = sum(float((g * d).abs().sum()) for _, g, d in mine)
        assert scale > 0
        assert abs(slope(np.array(values)) - expected) < DERIVATIVE * scale, part


@pytest.mark.parametrize("name", ["water", "si"])
def test_second_derivatives_of_the_energy_pass_gradcheck(
    model: JMPModel, name: str, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    graph = build_graph(atoms, model.heads["task"].graph)
    number = graph.numbers - 1

    def energy(positions: Tensor, cell: Tensor) -> Tensor:
        moved = graph.with_positions(positions, cell)
        atom, _, _ = model.backbone(model.embedding(number), moved)
        return model.head_layers["task"].atom_energies(atom).sum()

    inputs = tuple(x.clone().requires_grad_() for x in (graph.positions, graph.cell))
    assert torch.autograd.gradgradcheck(
        energy, inputs, torch.ones((), dtype=torch.float64), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["gradient", "direct"])
@pytest.mark.parametrize("name", ["ethanol", "si", "cu_slab_co"])
def test_float32_agrees_with_float64(
    model: JMPModel, name: str, kind: str, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    double = evaluate(model, atoms, kind=kind)
    rules = model.config.rules
    single = evaluate(tiny_model(rules).float(), atoms, kind=kind)
    assert difference(single.energy, double.energy) < FLOAT32_ENERGY
    assert difference(single.forces, double.forces) < FLOAT32_FORCES
    assert difference(single.virial, double.virial) < FLOAT32_FORCES
    assert difference(single.energy, double.energy) > 0


def test_float32_agrees_with_float64_for_a_perfect_crystal_and_smooth_rules() -> None:
    """Collinear images are everywhere; the published dihedral would be noise there."""
    crystal = bulk("NaCl", "rocksalt", a=5.64)
    rules = replace(SMOOTH, cutoff=4.2)
    double = evaluate(tiny_model("smooth"), crystal, rules=rules)
    single = evaluate(tiny_model("smooth").float(), crystal, rules=rules)
    assert difference(single.energy, double.energy) < FLOAT32_ENERGY
    assert difference(single.virial, double.virial) < FLOAT32_FORCES
