"""How much memory energy and gradient forces of a graph take, known before they start.

What autograd keeps of a forward pass is, but for a tenth, a fixed number of rows of
edge features per block, two values per edge and radial function, and tables of all
pairs of main and quadruplet edges at each atom. A test compares the estimate with what
is kept.

Live tensors are counted, of the network in its form for inference. The peak of a
process is higher by what the C library holds of freed memory, in pieces between what
is in use. With glibc it is 1.2 to 1.35 times the estimate for crystals of 96 and 240
atoms; where blocks are computed again, up to 0.1 of the estimate and 0.45 GB more, from
21 to 768 atoms. With MALLOC_MMAP_THRESHOLD_=1048576 that takes 1.1 times the estimate
and, with one thread, 1.7 times as long (S, 96 and 432 atoms). Who decides by the
estimate adds a margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from jmp_calc.graph.batch import GRAPHS, AtomGraph
from jmp_calc.models.config import ModelConfig
from jmp_calc.models.layout import count_incoming

ROWS_PER_BLOCK = 33
"""What a block and its output keep, in rows of edge features: 29 to 39 for molecules
and crystals and networks of all sizes."""

_ROWS_OF_BOTH_ENDS = 6
"""Likewise of the embedding, the first output and the final mix."""

_OVERHEAD = 1.15
"""Arrays of a moment, and what the allocator loses between others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Memory that energy and gradient forces take above the weights, bytes."""

    keeping: int
    """If what the blocks made is kept for the derivative."""
    recomputing: int
    """If blocks are computed again for the derivative."""

    @classmethod
    def of(cls, graph: AtomGraph, config: ModelConfig, dtype: torch.dtype) -> Footprint:
        """Estimate it.

        Args:
            graph: One system or a batch.
            config: The network.
            dtype: Precision of the network.
        """
        key = cls, config, dtype
        known = graph.derived.get(key)
        if isinstance(known, cls):
            return known
        n_blocks, n_angular = config.num_blocks, config.num_spherical
        row = graph.main.n_edges * config.emb_size_edge
        n_edges = sum(getattr(graph, name).n_edges for name in GRAPHS)
        radial = 2 * config.num_radial * n_edges
        # sine and cosine of the dihedral, by its index and that of the angle
        n_atoms = graph.n_atoms
        width, quad_width = (
            count_incoming(edges, n_atoms)[1]
            for edges in (graph.main, graph.quadruplet)
        )
        table = n_atoms * width * quad_width * 2 * n_angular**2
        shared = graph.main.n_edges * config.emb_size_sbf * n_angular**2 + 2.0 * table
        bases = radial + 1.5 * table
        blocks = (ROWS_PER_BLOCK * n_blocks + _ROWS_OF_BOTH_ENDS) * row
        # the inputs of every block, and derivatives, beside one block
        one_block = (ROWS_PER_BLOCK + 2 * n_blocks + 4) * row
        factor = _OVERHEAD * dtype.itemsize
        found = graph.derived[key] = cls(
            keeping=int(factor * (bases + shared + blocks)),
            recomputing=int(factor * (max(bases, one_block) + 2 * shared)),
        )
        return found


def bytes_per_main_edge(config: ModelConfig, dtype: torch.dtype) -> int:
    """Return what a main edge adds, most of it kept by the blocks, bytes.

    Args:
        config: The network.
        dtype: Precision of the network.
    """
    rows = ROWS_PER_BLOCK * config.num_blocks + _ROWS_OF_BOTH_ENDS
    return int(_OVERHEAD * dtype.itemsize * config.emb_size_edge * rows)
