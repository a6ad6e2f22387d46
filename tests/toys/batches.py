"""Small labelled batches and predictions, written by hand."""

from __future__ import annotations

from dataclasses import replace

import torch

from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadSpec, TargetSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.data.batches import TrainingBatch
from jmp_train.metrics import BatchPrediction
from jmp_train.recipes.smoke import TINY
from toys.training import RULES, toy_crystals, toy_molecules

GAP = HeadSpec(
    name="gap",
    kind="scalar",
    graph=RULES,
    forces=None,
    target=TargetSpec(
        name="gap", unit="eV", scale=2.0, shift=1.0, references={1: 0.5, 8: 2.0}
    ),
)
METAL = HeadSpec(
    name="metal",
    kind="binary",
    graph=RULES,
    forces=None,
    target=TargetSpec(name="is_metal", classes=("no", "yes")),
)
PHASE = HeadSpec(
    name="phase",
    kind="multiclass",
    graph=RULES,
    forces=None,
    target=TargetSpec(name="phase", classes=("a", "b", "c")),
)


def energy_head(name: str) -> HeadSpec:
    """A head of energies and gradient forces."""
    return HeadSpec(
        name=name,
        graph=RULES,
        forces="gradient",
        energy_scale=2.0,
        references={1: -10.0, 8: -100.0, 14: -50.0},
    )


def toy_model() -> JMPModel:
    """A tiny network with heads for energies, a number and classes."""
    silicon = replace(energy_head("pbe"), elements=(14,), level_of_theory="PBE")
    heads = [energy_head("qm7x"), silicon, GAP, METAL, PHASE]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return JMPModel(TINY, heads)


def water(head: str = "qm7x", *, target: float | None = None) -> TrainingBatch:
    """A water molecule labelled -130 eV, with forces of 1, 2 and 3 eV/Å along x."""
    forces = torch.zeros((3, 3), dtype=torch.float64)
    forces[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    value = torch.nan if target is None else target
    return TrainingBatch(
        graph=build_graph(toy_molecules(1)[0].to_atoms(), RULES, tags=[2, 2, 2]),
        head=[head],
        energy=torch.tensor([-130.0], dtype=torch.float64),
        forces=forces,
        stress=torch.full((1, 3, 3), torch.nan, dtype=torch.float64),
        target=torch.tensor([value], dtype=torch.float64),
        has_energy=torch.tensor([True]),
        has_forces=torch.tensor([True]),
        has_stress=torch.tensor([False]),
        has_target=torch.tensor([target is not None]),
        n_atoms=torch.tensor([3]),
        is_fixed=torch.tensor([False, False, False]),
        index=torch.tensor([0]),
    )


def silicon() -> TrainingBatch:
    """Two silicon atoms with a stress label of 0.01 times 1 to 6 in Voigt order."""
    batch = water("pbe")
    stress = 0.01 * torch.tensor(
        [[[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]], dtype=torch.float64
    )
    return replace(
        batch,
        graph=build_graph(toy_crystals(1)[0].to_atoms(), RULES, tags=[1, 1]),
        forces=batch.forces[:2],
        stress=stress,
        has_stress=torch.tensor([True]),
        n_atoms=torch.tensor([2]),
        is_fixed=torch.tensor([False, False]),
    )


def energies(energy: float, force_x: float, n_atoms: int = 3) -> BatchPrediction:
    """An energy and the same force along x on every atom."""
    forces = torch.zeros((n_atoms, 3), dtype=torch.float64)
    forces[:, 0] = force_x
    return BatchPrediction(
        energy=torch.tensor([energy], dtype=torch.float64), forces=forces
    )


def targets(*values: float) -> BatchPrediction:
    """The numbers of one system that a head other than that of energies gives."""
    return BatchPrediction(target=torch.tensor([values], dtype=torch.float64))
