"""One integer per edge, which grows in canonical order (target, source, shift).

What compares or sorts edges does so with one integer instead of five.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import UnsupportedSystemError


class EdgeKeys:
    """Packs the target, source and shift of edges into one integer each.

    Args:
        n_atoms: Number of atoms.
        shifts: Of all edges that are to have a key; their counter-edges get one too.
    """

    def __init__(self, n_atoms: int, shifts: Iterable[Int[np.ndarray, "_ 3"]]) -> None:
        self.n_atoms = n_atoms
        """Number of atoms."""
        farthest = [largest_shift(shift) for shift in shifts]
        self.span: list[int] = [
            2 * max(most) + 1 for most in zip(*farthest, strict=True)
        ]
        """How many different shifts there are in each direction."""

    @property
    def fit(self) -> bool:
        """Whether the keys fit into 64 bits."""
        return math.prod(self.span) * self.n_atoms * self.n_atoms < 2**63

    def of(
        self,
        source: Int[np.ndarray, " edges"],
        target: Int[np.ndarray, " edges"],
        shift: Int[np.ndarray, "edges 3"],
        *,
        is_counter: bool = False,
    ) -> Int[np.ndarray, " edges"]:
        """Return the key of each edge.

        Args:
            source: Source atom of each edge.
            target: Target atom of each edge.
            shift: Integer image offset of the source.
            is_counter: Return the keys of their counter-edges instead.
        """
        first, second = (source, target) if is_counter else (target, source)
        key: Int[np.ndarray, " edges"] = first * self.n_atoms
        key += second
        for axis, span in enumerate(self.span):
            if span == 1:
                continue
            key *= span
            key += span // 2
            if is_counter:
                key -= shift[:, axis]
            else:
                key += shift[:, axis]
        return key

    def edges(
        self, key: Int[np.ndarray, " edges"]
    ) -> tuple[
        Int[np.ndarray, " edges"],
        Int[np.ndarray, " edges"],
        Int[np.ndarray, "edges 3"],
    ]:
        """Return the source, target and shift of the edge of each key.

        Args:
            key: What :meth:`of` returned for some edges.
        """
        shift = np.zeros((3, len(key)), dtype=np.int64)
        for axis in (2, 1, 0):
            span = self.span[axis]
            if span > 1:
                rest = key // span
                np.subtract(key - rest * span, span // 2, out=shift[axis])
                key = rest
        target = key // self.n_atoms
        return key - target * self.n_atoms, target, shift.T


def largest_shift(shift: Int[np.ndarray, "edges 3"]) -> list[int]:
    """Return the largest absolute shift in each direction.

    Args:
        shift: Integer image offset of each edge.
    """
    if not shift.any():
        return [0, 0, 0]
    # by column: much faster than a reduction over the first axis
    columns = [shift[:, axis] for axis in range(3)]
    return [max(int(column.max()), -int(column.min())) for column in columns]


def too_far_apart(span: Sequence[int]) -> UnsupportedSystemError:
    """Return the error for atoms that lie too many cells apart.

    Args:
        span: How many cells their edges span in each direction.
    """
    return UnsupportedSystemError(
        f"edges span {list(span)} cells, too many to number; wrap the atoms into the "
        "cell"
    )
