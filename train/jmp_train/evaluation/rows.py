"""One row per system: labels, predictions and errors, with units in the names."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import ase.io
import numpy as np
from ase import Atoms
from jaxtyping import Float
from torch import Tensor

from jmp_calc.files import replacing
from jmp_calc.models.config import HeadSpec
from jmp_train.data.batches import TrainingBatch
from jmp_train.data.sample import Sample, hill_formula
from jmp_train.metrics.terms import CLASS_KINDS, VOIGT, BatchPrediction, scored_atoms

Row = dict[str, Any]
"""Column -> value; None where there is no label."""


def columns(spec: HeadSpec) -> list[str]:
    """Return the columns of the table of a head.

    Args:
        spec: The head.
    """
    first = ["name", "source", "formula", "n_atoms"]
    if spec.target is None:
        return [
            *first,
            "energy_label_eV",
            "energy_prediction_eV",
            "energy_error_meV_per_atom",
            "force_mae_eV_per_A",
            "force_max_error_eV_per_A",
            "stress_mae_eV_per_A3",
        ]
    name = spec.target.name
    if spec.kind in CLASS_KINDS:
        return [*first, f"{name}_label", f"{name}_prediction", *_probabilities(spec)]
    unit = f"_{spec.target.unit}" if spec.target.unit else ""
    return [*first, *(f"{name}_{what}{unit}" for what in _TARGET_COLUMNS)]


_TARGET_COLUMNS = ("label", "prediction", "error")


def _probabilities(spec: HeadSpec) -> list[str]:
    assert spec.target is not None
    names = spec.target.classes or ("0", "1")
    shown = names[1:] if spec.kind == "binary" else names
    return [f"probability_{name}" for name in shown]


def rows(
    batch: TrainingBatch,
    prediction: BatchPrediction,
    samples: list[Sample],
    spec: HeadSpec,
) -> Iterator[Row]:
    """Yield the rows of a batch.

    Args:
        batch: Labels.
        prediction: For this batch.
        samples: The systems of the batch.
        spec: The head of all of them.
    """
    names = columns(spec)
    numbers = _energy_numbers if spec.target is None else _target_numbers
    table = numbers(batch, prediction, spec)
    for system, sample in enumerate(samples):
        first = [sample.name, sample.source, hill_formula(sample.numbers)]
        values = [*first, sample.n_atoms, *(column[system] for column in table)]
        yield dict(zip(names, values, strict=True))


def _energy_numbers(
    batch: TrainingBatch, prediction: BatchPrediction, _: HeadSpec
) -> list[list[float | None]]:
    assert prediction.energy is not None
    per_atom = 1000 * (prediction.energy - batch.energy) / batch.n_atoms
    mean, largest = _force_numbers(batch, prediction)
    stress: list[float | None] = [None] * batch.n_systems
    if prediction.stress is not None:
        error = (prediction.stress - batch.stress)[:, VOIGT[0], VOIGT[1]]
        stress = _known(error.abs().mean(dim=1))
    return [
        _known(batch.energy),
        prediction.energy.tolist(),
        _known(per_atom),
        mean,
        largest,
        stress,
    ]


def _force_numbers(
    batch: TrainingBatch, prediction: BatchPrediction
) -> tuple[list[float | None], list[float | None]]:
    mean: list[float | None] = [None] * batch.n_systems
    largest = mean.copy()
    if prediction.forces is None:
        return mean, largest
    error = (prediction.forces - batch.forces).abs()
    is_scored = scored_atoms(batch)
    for system in range(batch.n_systems):
        mine = error[is_scored & (batch.graph.system_index == system)]
        if len(mine):
            mean[system], largest[system] = float(mine.mean()), float(mine.max())
    return mean, largest


def _target_numbers(
    batch: TrainingBatch, prediction: BatchPrediction, spec: HeadSpec
) -> list[list[Any]]:
    assert prediction.target is not None
    assert spec.target is not None
    label = _known(batch.target)
    if spec.kind not in CLASS_KINDS:
        value = prediction.target[:, 0]
        return [label, value.tolist(), _known(value - batch.target)]
    names = spec.target.classes or ("0", "1")
    found = [names[i] for i in prediction.classes(spec).tolist()]
    true = [None if value is None else names[int(value)] for value in label]
    return [true, found, *prediction.target.T.tolist()]


def _known(values: Tensor) -> list[float | None]:
    """Return numbers, and None for those that are NaN because there is no label."""
    return [None if value != value else value for value in values.tolist()]


class Table(Protocol):
    """A table that is being written."""

    def writerow(self, row: Row, /) -> Any:
        """Write a row."""


@contextmanager
def table_file(path: Path, spec: HeadSpec) -> Iterator[Table]:
    """Yield a writer of CSV rows; the file appears when all is written.

    Args:
        path: The file.
        spec: The head whose columns it has.
    """
    with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns(spec))
        writer.writeheader()
        yield writer


def predicted_atoms(
    sample: Sample, forces: Float[np.ndarray, "atoms 3"] | None, energy: float
) -> Atoms:
    """Return a system with its labels and predictions, for extended XYZ.

    Args:
        sample: The system.
        forces: Predicted forces, eV/Å.
        energy: Predicted energy, eV.
    """
    atoms = sample.to_atoms()
    atoms.info |= {"name": sample.name, "predicted_energy": energy}
    if sample.energy is not None:
        atoms.info["REF_energy"] = sample.energy
    if sample.forces is not None:
        atoms.arrays["REF_forces"] = sample.forces
    if forces is not None:
        atoms.arrays["predicted_forces"] = forces
    return atoms


@contextmanager
def frames_file(path: Path | None) -> Iterator[Any]:
    """Yield a function that appends a frame to an extended XYZ file.

    Args:
        path: The file; None: frames are dropped.
    """
    if path is None:
        yield None
        return
    with replacing(path) as new, new.open("w", encoding="utf-8") as file:
        yield lambda atoms: ase.io.write(file, atoms, format="extxyz")
