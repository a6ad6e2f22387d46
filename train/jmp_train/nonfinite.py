"""Steps without finite loss or gradient: counted, logged, and in a row the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from jmp_calc.errors import DataError
from jmp_calc.files import replacing
from jmp_train.data.batches import GraphDataset
from jmp_train.data.sample import Sample
from jmp_train.metrics.terms import VOIGT

NONFINITE = "nonfinite.extxyz"
"""Name of the file of the systems of such steps."""

_SHOWN = 8


class NonFiniteGuard:
    """Counts skipped steps, and stops a run that makes no others."""

    def __init__(self, dataset: GraphDataset, folder: Path, *, limit: int) -> None:
        """Start without any.

        Args:
            dataset: Training samples.
            folder: Folder of the run.
            limit: Skipped steps in a row that stop the run.
        """
        self._dataset, self._folder, self._limit = dataset, folder, limit
        self._in_a_row = 0
        self._suspects: list[int] = []

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last step was skipped: it may be the weights that are bad."""
        return self._in_a_row > 0

    def count_finite(self) -> None:
        """Count a step that was made."""
        self._in_a_row, self._suspects = 0, []

    def count_skipped(self, suspects: Sequence[int]) -> bool:
        """Count a step that was skipped, and return whether the run must stop.

        Args:
            suspects: Samples that may be the cause.
        """
        self._in_a_row += 1
        self._suspects = list(dict.fromkeys([*self._suspects, *suspects]))
        return self._in_a_row >= self._limit

    def save(self) -> Path:
        """Write the systems of the skipped steps, with labels and names.

        Returns:
            The file, extended XYZ.
        """
        path = self._folder / NONFINITE
        systems = [
            labelled_atoms(self._dataset.sample(index), index)
            for index in self._suspects
        ]
        with replacing(path) as new:
            write(new, systems, format="extxyz")
        return path

    def error(self, step: int, *, loss: float, norm: float) -> DataError:
        """Return the error that ends the run.

        Args:
            step: Number of the last step.
            loss: Its loss.
            norm: Norm of its gradient.
        """
        return DataError(
            f"step {step} has loss {loss} and gradient norm {norm}, and was number "
            f"{self._in_a_row} in a row that is not finite; lower the learning rate, "
            f"or look at training samples {self._suspects[:_SHOWN]} for overlapping "
            f"atoms or wrong labels: they are in {self._folder / NONFINITE}. The last "
            "checkpoint, if there is one, is from before them"
        )

    def state(self) -> dict[str, Any]:
        """Return what must be saved, as plain JSON."""
        return {"in_a_row": self._in_a_row, "suspects": self._suspects}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state: Of a run with the same settings.
        """
        self._in_a_row = int(state["in_a_row"])
        self._suspects = [int(index) for index in state["suspects"]]


def labelled_atoms(sample: Sample, index: int) -> Atoms:
    """Return a sample with its labels, for a file.

    Args:
        sample: The system.
        index: Its number in the training samples.
    """
    atoms = sample.to_atoms()
    stress = sample.stress
    labels: dict[str, Any] = {
        "energy": sample.energy,
        "forces": sample.forces,
        "stress": None if stress is None else np.asarray(stress)[VOIGT],
    }
    known = {name: value for name, value in labels.items() if value is not None}
    if known:
        atoms.calc = SinglePointCalculator(atoms, **known)
    texts = {key: getattr(sample, key) for key in ("task", "source", "group", "name")}
    # an empty value would swallow the entry after it when the file is read
    atoms.info |= {"sample": index} | {key: text for key, text in texts.items() if text}
    atoms.info |= {f"target_{name}": value for name, value in sample.targets.items()}
    return atoms
