"""SetScores: everything that is measured on a set, in one pass and bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from jaxtyping import Float

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import system_references
from jmp_train.data.batches import TrainingBatch
from jmp_train.data.sample import Sample
from jmp_train.evaluation.reservoir import Reservoir
from jmp_train.evaluation.rows import frames_file, predicted_atoms, rows, table_file
from jmp_train.evaluation.sets import EvaluationSet
from jmp_train.metrics import BatchPrediction, ErrorMeter, TaskErrors, predictions
from jmp_train.metrics.terms import CLASS_KINDS, VOIGT, scored_atoms

SIZES = (10, 20, 50, 100, 200)
"""Largest number of atoms of each size class but the last."""
MAX_POINTS = 200_000
"""Points of each picture; of more, a random part is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElementErrors:
    """Errors of one element: of forces on its atoms, or of targets of its systems."""

    symbol: str
    """The element."""
    n: int
    """Atoms with forces, or systems with the target."""
    mae: float
    """Mean absolute error of a force component (eV/Å), or of the target."""
    rmse: float
    """Root of its mean square."""
    baseline: float
    """Mean absolute label: the error of predicting zero; of targets, that of the
    constant of the head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetScores:
    """What was measured on one set."""

    name: str
    """Name of the set."""
    title: str
    """The set and its part, for people."""
    head: str
    """What predicted."""
    head_theory: str
    """Level of theory of the head."""
    label_theory: str
    """Level of theory of the labels."""
    errors: TaskErrors
    """Of all systems."""
    by_size: dict[str, TaskErrors]
    """By class of number of atoms."""
    by_source: dict[str, TaskErrors]
    """By data set that the systems come from; empty: there is one."""
    by_element: list[ElementErrors]
    """By element; empty for classes."""
    unseen: tuple[str, ...]
    """Elements of the set that the head was not trained on."""
    points: dict[str, Reservoir] = field(repr=False)
    """Labels and predictions for pictures, by quantity."""
    notes: tuple[str, ...] = ()
    """What a reader of the errors should know."""
    test_of: str = ""
    """Set of which these are the test part, as in ``EvaluationSet``."""


def size_class(n_atoms: int) -> str:
    """Return the class of a number of atoms, such as "11-20".

    Args:
        n_atoms: At least 1.
    """
    low = 1
    for high in SIZES:
        if n_atoms <= high:
            return f"{low}-{high}"
        low = high + 1
    return f"over {SIZES[-1]}"


class _Elements:
    """Sums of errors by atomic number: count, absolute, square, baseline."""

    def __init__(self) -> None:
        self.sums: Float[np.ndarray, "numbers 4"] = np.zeros((121, 4))
        self._numbers: set[int] = set()

    def add(
        self, batch: TrainingBatch, prediction: BatchPrediction, baseline: float
    ) -> None:
        numbers = batch.graph.numbers.cpu().numpy()
        self._numbers |= set(np.unique(numbers).tolist())
        if prediction.forces is not None:
            keep = scored_atoms(batch).cpu().numpy()
            error = (prediction.forces - batch.forces).cpu().numpy()[keep]
            label = batch.forces.cpu().numpy()[keep]
            found = [np.ones(len(error)), abs(error).mean(1), (error**2).mean(1)]
            terms = np.stack([*found, abs(label).mean(1)], axis=1)
            np.add.at(self.sums, numbers[keep], terms)
        elif prediction.target is not None:
            of = batch.graph.system_index.cpu().numpy()
            # each element of a system once
            pairs = np.unique(np.stack([of, numbers]), axis=1)
            label = batch.target.cpu().numpy()
            error = prediction.target[:, 0].cpu().numpy() - label
            terms = np.stack(
                [np.ones(len(error)), abs(error), error**2, abs(label - baseline)], 1
            )
            known = batch.has_target.cpu().numpy()[pairs[0]]
            np.add.at(self.sums, pairs[1][known], terms[pairs[0][known]])

    def errors(self) -> list[ElementErrors]:
        found = []
        for number in np.flatnonzero(self.sums[:, 0]).tolist():
            n, absolute, square, baseline = self.sums[number].tolist()
            found.append(
                ElementErrors(
                    symbol=chemical_symbols[number],
                    n=round(n),
                    mae=absolute / n,
                    rmse=float(np.sqrt(square / n)),
                    baseline=baseline / n,
                )
            )
        return found

    def unseen(self, known: tuple[int, ...]) -> tuple[str, ...]:
        new = sorted(self._numbers - set(known)) if known else []
        return tuple(chemical_symbols[number] for number in new)


def score_set(
    model: JMPModel,
    found: EvaluationSet,
    *,
    out: Path,
    max_atoms: int,
    device: torch.device,
    has_frames: bool = False,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> SetScores:
    """Measure a model on a set, and write the table of its predictions.

    Args:
        model: The network, on ``device``.
        found: The systems and their head.
        out: Folder for ``predictions-SET.csv`` and ``predictions-SET.extxyz``.
        max_atoms: Atoms in a batch.
        device: Where the model is.
        has_frames: Whether to write labelled and predicted forces as extended XYZ.
        limit: Systems to measure on; None: all. The choice is always the same.
        progress: Is told the systems that each batch has added.
    """
    spec = found.head
    total, parts = ErrorMeter(model), ErrorMeter(model)
    elements, points = _Elements(), _reservoirs(spec.kind)
    constant = spec.target.shift if spec.target is not None else 0.0
    frames = out / f"predictions-{found.name}.extxyz" if has_frames else None
    table = out / f"predictions-{found.name}.csv"
    with table_file(table, spec) as writer, frames_file(frames) as write_frame:
        for batch, prediction in predictions(
            model,
            found.dataset,
            _chosen(len(found.dataset), limit),
            forces=spec.forces,
            max_atoms=max_atoms,
            device=device,
        ):
            samples = [found.dataset.sample(i) for i in batch.index.tolist()]
            total.add(batch, prediction)
            for kind, keys in _groups(samples).items():
                parts.add(batch, prediction, [(spec.name, kind, key) for key in keys])
            if spec.kind not in CLASS_KINDS:
                elements.add(batch, prediction, constant)
            _add_points(points, batch, prediction, spec)
            for row in rows(batch, prediction, samples, spec):
                writer.writerow(row)
            if write_frame is not None:
                _write_frames(write_frame, samples, batch, prediction)
            if progress is not None:
                progress(batch.n_systems)
    by_part = parts.errors()
    return SetScores(
        name=found.name,
        title=found.title,
        head=spec.name,
        head_theory=spec.level_of_theory,
        label_theory=found.level_of_theory,
        errors=total.errors()[spec.name,],
        by_size=_sorted_sizes({k[2]: e for k, e in by_part.items() if k[1] == "size"}),
        by_source={k[2]: e for k, e in by_part.items() if k[1] == "source"},
        by_element=elements.errors(),
        unseen=elements.unseen(spec.elements),
        points=points,
        notes=(*found.notes, *_part_words(len(found.dataset), limit)),
        test_of=found.test_of,
    )


def _part_words(n: int, limit: int | None) -> tuple[str, ...]:
    if limit is None or limit >= n:
        return ()
    return (f"a random part: {limit} of {n} systems",)


def _chosen(n: int, limit: int | None) -> Any:
    order = np.arange(n)
    if limit is None or limit >= n:
        return order
    return np.sort(np.random.default_rng(0).permutation(n)[:limit])


def _groups(samples: list[Sample]) -> dict[str, list[str]]:
    return {
        "size": [size_class(sample.n_atoms) for sample in samples],
        "source": [sample.source for sample in samples],
    }


def _sorted_sizes(found: dict[str, TaskErrors]) -> dict[str, TaskErrors]:
    order = [size_class(n) for n in (*SIZES, SIZES[-1] + 1)]
    return {name: found[name] for name in order if name in found}


def _reservoirs(kind: str) -> dict[str, Reservoir]:
    if kind in CLASS_KINDS:
        return {}
    if kind != "energy_forces":
        return {"target": Reservoir(MAX_POINTS, 2)}
    return {name: Reservoir(MAX_POINTS, 2) for name in ("energy", "forces", "stress")}


def _add_points(
    points: dict[str, Reservoir],
    batch: TrainingBatch,
    prediction: BatchPrediction,
    spec: HeadSpec,
) -> None:
    """Keep pairs of label and prediction; energies are per atom, without references."""

    def add(name: str, label: torch.Tensor, predicted: torch.Tensor) -> None:
        pairs = torch.stack([label.flatten(), predicted.flatten()], dim=1).cpu().numpy()
        points[name].add(pairs[np.isfinite(pairs).all(axis=1)])

    if prediction.energy is not None:
        # without the atoms, which would hide all that the network has to learn
        base = system_references(batch.graph, [spec] * batch.n_systems)
        base = base + spec.energy_shift
        label, found = batch.energy - base, prediction.energy - base
        add("energy", label / batch.n_atoms, found / batch.n_atoms)
    if prediction.forces is not None:
        keep = scored_atoms(batch)
        add("forces", batch.forces[keep], prediction.forces[keep])
    if prediction.stress is not None:
        rows_, columns_ = VOIGT
        add(
            "stress",
            batch.stress[:, rows_, columns_],
            prediction.stress[:, rows_, columns_],
        )
    if prediction.target is not None and "target" in points:
        add("target", batch.target, prediction.target[:, 0])


def _write_frames(
    write: Callable[[Any], None],
    samples: list[Sample],
    batch: TrainingBatch,
    prediction: BatchPrediction,
) -> None:
    if prediction.energy is None:
        return
    energies = prediction.energy.tolist()
    forces: list[Any] = [None] * len(samples)
    if prediction.forces is not None:
        sizes = batch.n_atoms.tolist()
        forces = [part.cpu().numpy() for part in torch.split(prediction.forces, sizes)]
    for sample, energy, force in zip(samples, energies, forces, strict=True):
        write(predicted_atoms(sample, force, energy))
