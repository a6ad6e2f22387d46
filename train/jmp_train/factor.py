"""Factor: the rows of a least-squares problem, condensed to a triangle as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

MAX_ELEMENT = 118
"""Largest atomic number that is counted."""

N_FIXED = MAX_ELEMENT + 2
"""Columns before the labels: a one, then the number of atoms of each element."""

_ROWS_PER_UPDATE = 1024

Matrix = Float[np.ndarray, "rows columns"]


class Factor:
    """Triangular factor of the rows [1 | counts | labels] of systems seen so far."""

    n_rows: int
    """Rows seen."""

    def __init__(self, n_labels: int) -> None:
        """Begin without rows.

        Args:
            n_labels: Columns after the counts.
        """
        self.n_rows = 0
        self._matrix: Matrix = np.zeros((0, N_FIXED + n_labels))
        self._rows: list[Float[np.ndarray, " columns"]] = []

    def add(
        self, counts: Int[np.ndarray, " elements"], labels: Sequence[float]
    ) -> None:
        """Append a row.

        Args:
            counts: Atoms of each element, by atomic number from 0.
            labels: Values of the labels.
        """
        self._rows.append(np.concatenate([[1.0], counts, labels]))
        self.n_rows += 1
        if len(self._rows) == _ROWS_PER_UPDATE:
            self.triangle()

    def triangle(self) -> Matrix:
        """Return the factor of everything added."""
        if self._rows:
            self._append(np.array(self._rows))
            self._rows = []
        return self._matrix

    def merge(self, other: Factor) -> None:
        """Append all rows of another factor.

        Args:
            other: Of the same labels.
        """
        self.triangle()
        self._append(other.triangle())
        self.n_rows += other.n_rows

    def _append(self, rows: Matrix) -> None:
        block = np.vstack([self._matrix, rows])
        self._matrix = np.asarray(np.linalg.qr(block, mode="r"))

    def to_json(self, elements: Int[np.ndarray, " elements"]) -> dict[str, Any]:
        """Return plain data for a file.

        Args:
            elements: Those that occur in any row.
        """
        matrix = self.triangle()
        kept = _columns(elements, matrix.shape[1])
        # Columns of absent elements are zero, so the others have a factor of their own.
        small = np.asarray(np.linalg.qr(matrix[:, kept], mode="r"))
        return {"n_rows": self.n_rows, "factor": small.tolist()}

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], elements: Int[np.ndarray, " elements"]
    ) -> Factor:
        """Return the factor that :meth:`to_json` wrote.

        Args:
            data: Plain data, and the names of the ``labels``.
            elements: As they were given to it.
        """
        factor = cls(len(data["labels"]))
        small = np.array(data["factor"], dtype=np.float64)
        factor.n_rows = int(data["n_rows"])
        factor._matrix = np.zeros((len(small), N_FIXED + len(data["labels"])))
        factor._matrix[:, _columns(elements, factor._matrix.shape[1])] = small
        return factor


def _columns(
    elements: Int[np.ndarray, " elements"], n_columns: int
) -> Int[np.ndarray, " kept"]:
    """Return the columns that can differ from zero."""
    labels = np.arange(N_FIXED, n_columns)
    return np.concatenate([[0], 1 + elements, labels]).astype(np.int64)
