"""Scales and reference energies of a task: fitted in one pass, applied, undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jmp_calc.errors import DataError

MAX_ELEMENT = 118
"""Largest atomic number that is counted."""

_ROWS_PER_UPDATE = 1024
_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStatistics:
    """What the labels of a task look like; measured on its training part."""

    references: dict[int, float]
    """Reference energy by atomic number, eV."""
    energy_std: float
    """Standard deviation of the referenced energy (sigma_E), eV."""
    force_rms: float
    """Root mean square of the force components (sigma_F), eV/Å."""
    mean_atoms: float
    """Mean number of atoms of a system."""
    n_systems: int
    """Systems counted."""
    n_atoms: int
    """Atoms counted."""
    elements: tuple[int, ...]
    """Atomic numbers that occur, ascending."""

    @property
    def energy_scale(self) -> float:
        """The one scale of a head with gradient forces, eV per network unit.

        It is sigma_F (times one Å), because the loss is dominated by forces and both
        labels must share a scale for forces to be the derivative of the energy; a
        task without forces falls back to sigma_E.

        Source:
            Training specification, section 2.2, consistency warning.
        """
        return self.force_rms or self.energy_std or 1.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return {
            "references": {str(z): e for z, e in self.references.items()},
            "energy_std": self.energy_std,
            "force_rms": self.force_rms,
            "mean_atoms": self.mean_atoms,
            "n_systems": self.n_systems,
            "n_atoms": self.n_atoms,
            "elements": list(self.elements),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskStatistics:
        """Return the statistics that :meth:`to_json` wrote.

        Raises:
            DataError: If a field is missing.
        """
        try:
            return cls(
                references={int(z): float(e) for z, e in data["references"].items()},
                energy_std=float(data["energy_std"]),
                force_rms=float(data["force_rms"]),
                mean_atoms=float(data["mean_atoms"]),
                n_systems=int(data["n_systems"]),
                n_atoms=int(data["n_atoms"]),
                elements=tuple(int(z) for z in data["elements"]),
            )
        except KeyError as error:
            raise DataError(
                f"statistics lack the field {error}; prepare the store again"
            ) from None


class StatisticsAccumulator:
    """Statistics of a stream of labelled systems, in one pass and constant memory.

    Keeps the triangular factor of the matrix [counts | energy]. Unlike sums of
    squares it does not lose half the digits, which matters because a total energy is
    about 1e5 times its spread.

    Source:
        Linear reference: training specification, section 1.2. Row-updated QR: Golub
        and Van Loan, Matrix Computations, section 6.5.
    """

    def __init__(self) -> None:
        self._factor = np.zeros((0, MAX_ELEMENT + 2))
        self._rows: list[Float[np.ndarray, " columns"]] = []
        self._column_sum = np.zeros(MAX_ELEMENT + 2)
        self._force_square_sum = 0.0
        self._n_components = 0
        self._n_systems = 0

    def add(
        self,
        numbers: Int[np.ndarray, " atoms"],
        energy: float,
        forces: Float[np.ndarray, "atoms 3"] | None,
    ) -> None:
        """Count one system.

        Args:
            numbers: Atomic numbers, 1 to 118.
            energy: Total energy, eV.
            forces: Forces, eV/Å; None if the system has no force labels.
        """
        row = np.zeros(MAX_ELEMENT + 2)
        row[: MAX_ELEMENT + 1] = np.bincount(numbers, minlength=MAX_ELEMENT + 1)
        row[-1] = energy
        self._rows.append(row)
        self._column_sum += row
        self._n_systems += 1
        if forces is not None:
            self._force_square_sum += float(np.square(forces, dtype=np.float64).sum())
            self._n_components += forces.size
        if len(self._rows) == _ROWS_PER_UPDATE:
            self._update()

    def _update(self) -> None:
        block = np.vstack([self._factor, *self._rows])
        self._factor = np.asarray(np.linalg.qr(block, mode="r"))
        self._rows = []

    def finish(self) -> TaskStatistics:
        """Return the statistics of everything added so far.

        Raises:
            DataError: If nothing was added.
        """
        if self._n_systems == 0:
            raise DataError(
                "there are no systems to take statistics of; check that the data set "
                "is present and that not all of it is excluded or held out"
            )
        if self._rows:
            self._update()
        counts, energy = self._factor[:, :-1], self._factor[:, -1]
        coefficient = np.linalg.lstsq(counts, energy, rcond=_RANK_TOLERANCE)[0]
        square = float(np.square(counts @ coefficient - energy).sum())
        mean = float(self._column_sum[-1] - self._column_sum[:-1] @ coefficient)
        mean /= self._n_systems
        elements = tuple(int(z) for z in np.flatnonzero(self._column_sum[:-1]))
        n_atoms = int(self._column_sum[:-1].sum())
        force_rms = 0.0
        if self._n_components:
            force_rms = float(np.sqrt(self._force_square_sum / self._n_components))
        return TaskStatistics(
            references={z: float(coefficient[z]) for z in elements},
            energy_std=float(np.sqrt(max(square / self._n_systems - mean**2, 0.0))),
            force_rms=force_rms,
            mean_atoms=n_atoms / self._n_systems,
            n_systems=self._n_systems,
            n_atoms=n_atoms,
            elements=elements,
        )
