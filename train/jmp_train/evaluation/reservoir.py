"""A random part of a stream of rows, in bounded memory, for pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


class Reservoir:
    """Keeps a uniform random choice of the rows that it has been shown."""

    def __init__(self, capacity: int, n_columns: int, *, seed: int = 0) -> None:
        """Begin with nothing.

        Args:
            capacity: Rows that are kept.
            n_columns: Numbers of a row.
            seed: Seed of the choice.
        """
        self.n_seen = 0
        """Rows that were shown."""
        self._capacity = capacity
        self._generator = np.random.default_rng(seed)
        self._rows: Float[np.ndarray, "rows columns"] = np.empty((0, n_columns))
        self._marks: Float[np.ndarray, " rows"] = np.empty(0)

    def add(self, rows: Float[np.ndarray, "new columns"]) -> None:
        """Show rows.

        Args:
            rows: Any number of them.
        """
        self.n_seen += len(rows)
        self._rows = np.concatenate([self._rows, rows])
        self._marks = np.concatenate([self._marks, self._generator.random(len(rows))])
        if len(self._rows) > 2 * self._capacity:
            self._drop()

    @property
    def rows(self) -> Float[np.ndarray, "rows columns"]:
        """The rows that are kept, in the order in which they came."""
        self._drop()
        return self._rows

    def _drop(self) -> None:
        # those with the smallest random marks: every row has the same chance
        if len(self._rows) <= self._capacity:
            return
        kept = np.sort(np.argpartition(self._marks, self._capacity)[: self._capacity])
        self._rows, self._marks = self._rows[kept], self._marks[kept]
