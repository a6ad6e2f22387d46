"""Triplets and quadruplets one by one, straight from their definition; the oracle.

Slow and plain on purpose (gemnet_oc section 3). Network code never enumerates them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from jmp_calc.graph.batch import AtomGraph, EdgeSet

Image = tuple[int, int, int, int]
"""An atom and the integer offset of its image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnumeratedLists:
    """Index lists; entries are edge indices, each list has shape (columns, items)."""

    e2e: np.ndarray
    """Rows: input main edge b -> a, output main edge c -> a."""
    a2e: np.ndarray
    """Rows: input atom_edge edge b -> a, output main edge c -> a."""
    e2a: np.ndarray
    """Rows: input main edge b -> a, output atom_edge edge c -> a."""
    triplet_in: np.ndarray
    """Rows: input main edge d -> b, output quadruplet edge b -> a."""
    triplet_out: np.ndarray
    """Rows: input quadruplet edge b -> a, output main edge c -> a."""
    quadruplets: np.ndarray
    """Rows: main edge d -> b, quadruplet edge b -> a, main edge c -> a."""


def enumerate_lists(graph: AtomGraph) -> EnumeratedLists:
    """List every triplet and quadruplet of a system or a batch."""
    main, atom_edge, quadruplet = (
        _edges(graph.main),
        _edges(graph.atom_edge),
        _edges(graph.quadruplet),
    )
    triplet_in = _triplets_in(main, quadruplet)
    triplet_out = _triplets(quadruplet, main)
    return EnumeratedLists(
        e2e=_array(_triplets(main, main), 2),
        a2e=_array(_triplets(atom_edge, main), 2),
        e2a=_array(_triplets(main, atom_edge), 2),
        triplet_in=_array(triplet_in, 2),
        triplet_out=_array(triplet_out, 2),
        quadruplets=_array(_quadruplets(main, quadruplet, triplet_in, triplet_out), 3),
    )


def _edges(edges: EdgeSet) -> list[tuple[Image, int]]:
    """Return the source image and the target of each edge."""
    return [
        ((s, *shift), t)
        for s, t, shift in zip(
            edges.source.tolist(),
            edges.target.tolist(),
            edges.shift.tolist(),
            strict=True,
        )
    ]


def _array(rows: list[tuple[int, ...]], columns: int) -> np.ndarray:
    return np.array(rows, dtype=np.int64).reshape(-1, columns).T


def _by_target(edges: list[tuple[Image, int]]) -> dict[int, list[int]]:
    grouped: dict[int, list[int]] = defaultdict(list)
    for index, (_, target) in enumerate(edges):
        grouped[target].append(index)
    return grouped


def _moved(image: Image, by: Image) -> Image:
    """Return an image seen from the cell of another one's home."""
    return (image[0], image[1] + by[1], image[2] + by[2], image[3] + by[3])


def _triplets(
    edges_in: list[tuple[Image, int]], edges_out: list[tuple[Image, int]]
) -> list[tuple[int, int]]:
    """List b -> a <- c for different images b and c."""
    incoming = _by_target(edges_in)
    return [
        (b_to_a, c_to_a)
        for c_to_a, (c, a) in enumerate(edges_out)
        for b_to_a in incoming[a]
        if edges_in[b_to_a][0] != c
    ]


def _triplets_in(
    main: list[tuple[Image, int]], quadruplet: list[tuple[Image, int]]
) -> list[tuple[int, int]]:
    """List d -> b -> a for different images d and a."""
    incoming = _by_target(main)
    return [
        (d_to_b, b_to_a)
        for b_to_a, (b, a) in enumerate(quadruplet)
        for d_to_b in incoming[b[0]]
        if _moved(main[d_to_b][0], b) != (a, 0, 0, 0)
    ]


def _quadruplets(
    main: list[tuple[Image, int]],
    quadruplet: list[tuple[Image, int]],
    triplet_in: list[tuple[int, int]],
    triplet_out: list[tuple[int, int]],
) -> list[tuple[int, int, int]]:
    """List d -> b -> a <- c for different images d and c."""
    starts: dict[int, list[tuple[int, Image]]] = defaultdict(list)
    for d_to_b, b_to_a in triplet_in:
        d = _moved(main[d_to_b][0], quadruplet[b_to_a][0])
        starts[b_to_a].append((d_to_b, d))
    return [
        (d_to_b, b_to_a, c_to_a)
        for b_to_a, c_to_a in triplet_out
        for d_to_b, d in starts[b_to_a]
        if d != main[c_to_a][0]
    ]
