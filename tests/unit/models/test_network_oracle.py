"""The whole network against the enumerated, per-layer one: up to a training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ase.build import fcc111, molecule
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.jmp import JMPModel
from oracle.network import EnumeratedNetwork
from physics.networks import tiny_model

EXACT = 1e-10
"""Relative to the largest magnitude; sums in another order give 1e-14."""


def batch(rules: Any) -> AtomGraph:
    """A molecule and a slab, both without symmetry: every list differs from others."""
    slab = fcc111("Cu", (1, 2, 2), vacuum=5.0, periodic=True)
    systems = [molecule("CH3CH2OH"), slab]
    for atoms in systems:
        atoms.rattle(0.1, seed=3)
    return collate([build_graph(atoms, rules) for atoms in systems])


def values(model: JMPModel, graph: AtomGraph, **how: bool) -> dict[str, Tensor]:
    """Energy, forces, and how a loss of both changes with every weight."""
    found = model(graph, "task", forces="gradient", create_graph=True, **how)
    assert found.forces is not None
    generator = torch.Generator().manual_seed(0)
    label = torch.randn(found.forces.shape, generator=generator, dtype=torch.float64)
    loss = found.energy.abs().sum() + (found.forces - label).norm(dim=1).sum()
    names, weights = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return {
        "energy": found.energy,
        "forces": found.forces,
        **{
            name: gradient
            for name, gradient in zip(names, gradients, strict=True)
            if gradient is not None
        },
    }


@pytest.mark.parametrize("rules", ["smooth", "published"])
@pytest.mark.parametrize("recompute", [False, True])
def test_energy_forces_and_gradients_of_weights_equal_the_enumerated_ones(
    rules: Any, recompute: bool
) -> None:
    model = tiny_model(rules).requires_grad_(True)
    graph = batch(model.heads["task"].graph)
    expected = values(EnumeratedNetwork(model, graph), graph)
    found = values(model, graph, recompute=recompute)
    assert found.keys() == expected.keys()
    assert len(found) > 100
    for name, value in found.items():
        scale = expected[name].abs().max()
        assert scale > 0, name
        assert (value - expected[name]).abs().max() <= EXACT * scale, name
