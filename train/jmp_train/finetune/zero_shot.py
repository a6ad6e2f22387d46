"""What trained heads already know about the data of a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.references import (
    ReferenceFit,
    fit_references,
    sum_of_references,
)
from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.store import Store
from jmp_train.metrics import choose_samples, evaluate_model
from jmp_train.metrics.evaluate import Samples, predictions

N_SCORED = 48
"""Systems that the heads are compared on."""
N_FITTED = 400
"""Systems that references are fitted to when a head is kept."""
LARGEST_RATIO = 0.5
"""Error of a head, relative to that of zero forces, up to which it is worth keeping."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadScore:
    """Errors of a head that has not seen the data."""

    name: str
    """The head."""
    force_mae: float
    """Mean absolute error of force components, eV/Å."""
    baseline: float
    """That of zero forces."""


def candidate_heads(
    source: JMPModel, *, elements: Sequence[int], is_periodic: bool
) -> list[str]:
    """Return the heads that could say something about the data.

    Args:
        source: Trained weights.
        elements: Atomic numbers in the data.
        is_periodic: Whether the data are periodic.
    """
    return [
        spec.name
        for spec in source.heads.values()
        if spec.target is None
        and (not spec.elements or set(elements) <= set(spec.elements))
        and spec.graph.is_periodic in (None, is_periodic)
    ]


def score_heads(
    source: JMPModel,
    store: Store,
    heads: Sequence[str],
    *,
    device: torch.device | str = "cpu",
) -> list[HeadScore]:
    """Return the force errors of some heads on a part of the data, the best first.

    Args:
        source: Trained weights, on that device.
        store: Training systems with forces.
        heads: Heads to compare.
        device: Where to compute.
    """
    scores = []
    for head in heads:
        dataset = dataset_of(store, source.heads[head])
        errors = evaluate_model(
            source,
            dataset,
            choose_samples(dataset, N_SCORED),
            forces="gradient",
            device=device,
        )[head]
        scores.append(
            HeadScore(
                name=head,
                force_mae=errors.force_mae_eV_per_A,
                baseline=errors.baseline_force_mae_eV_per_A,
            )
        )
    return sorted(scores, key=lambda score: score.force_mae)


def best_head(scores: Sequence[HeadScore]) -> str | None:
    """Return the head that is worth keeping; None: a random one is better.

    Args:
        scores: The best first.
    """
    if not scores:
        return None
    best = scores[0]
    return best.name if best.force_mae < LARGEST_RATIO * best.baseline else None


def find_head(source: JMPModel, name: str) -> HeadSpec:
    """Return a head of energy and forces by name.

    Args:
        source: Trained weights.
        name: Of the head.

    Raises:
        ArgumentError: If there is none.
    """
    spec = source.heads.get(name)
    if spec is None or spec.target is not None:
        have = [spec.name for spec in source.heads.values() if spec.target is None]
        raise ArgumentError(
            f"the weights have no head {name!r} of energy and forces; they have "
            f"{', '.join(have) or 'none'}" + did_you_mean(name, have)
        )
    return spec


def residual_references(
    source: JMPModel,
    store: Store,
    head: str,
    *,
    device: torch.device | str = "cpu",
) -> ReferenceFit:
    """Fit references to what a kept head leaves unexplained of the energies.

    With them, the first energies of the run are as right as references can make them.

    Args:
        source: Trained weights, on that device.
        store: Training systems with energies.
        head: The head that is kept.
        device: Where to compute.

    Raises:
        DataError: If there are too few energies.
    """
    spec = source.heads[head]
    dataset = dataset_of(store, spec)
    numbers, index = [], []
    energy: list[float] = []
    for batch, prediction in predictions(
        source,
        dataset,
        _with_all_elements(store, choose_samples(dataset, N_FITTED)),
        forces=None,
        device=device,
    ):
        assert prediction.energy is not None
        graph = batch.graph
        for system in batch.has_energy.nonzero()[:, 0].tolist():
            z = graph.numbers[graph.system_index == system].cpu().numpy()
            mine = np.zeros_like(z)
            known = sum_of_references(z, mine, spec.references or {})[0]
            index.append(np.full_like(z, len(energy)))
            numbers.append(z)
            left = batch.energy[system] - prediction.energy[system]
            energy.append(float(left) + float(known))
    if not energy:
        raise DataError(
            "there are no energies to fit references to; choose --references none"
        )
    return fit_references(
        np.concatenate(numbers), np.concatenate(index), np.array(energy)
    )


def _with_all_elements(store: Store, samples: Samples) -> list[int]:
    """Add the first systems that hold the elements which the samples lack.

    An element without a reference would count as zero, or stop the run.
    """
    chosen = [int(sample) for sample in samples]
    missing = {int(z) for z in store.header["element_systems"]}
    for sample in chosen:
        missing -= set(store[sample].numbers.tolist())
    for sample in range(len(store)):
        if not missing:
            break
        found = store[sample]
        held = set(found.numbers.tolist())
        if held & missing and found.energy is not None:
            chosen.append(sample)
            missing -= held
    return sorted(chosen)


def feature_change(
    source: JMPModel,
    systems: Sequence[Atoms],
    *,
    old: GraphRules,
    new: GraphRules,
    device: torch.device | str = "cpu",
) -> float:
    """Return how much other graph rules change the atom features, as a fraction.

    It is the norm of the change over the norm of the features, over all atoms. Every
    head reads these features, so a new head can be judged as well as an old one.

    Args:
        source: Trained weights, on that device.
        systems: A few structures.
        old: Rules that the weights were trained with.
        new: Other rules.
        device: Where to compute.
    """
    change, size = 0.0, 0.0
    with torch.no_grad():
        for atoms in systems:
            before, after = (
                source.descriptors(build_graph(atoms, rules).to(device)).double()
                for rules in (old, new)
            )
            change += float((after - before).square().sum())
            size += float(before.square().sum())
    return (change / size) ** 0.5 if size else 0.0


def dataset_of(store: Store, spec: HeadSpec) -> GraphDataset:
    """Return a store as the samples of a head, with the graphs of that head.

    Args:
        store: Labelled systems.
        spec: The head.
    """
    task = TaskConfig(name=spec.name, graph=spec.graph)
    return GraphDataset({spec.name: store}, {spec.name: task})
