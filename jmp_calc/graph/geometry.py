"""Vectors and distances of edges, differentiable in positions and cell."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph, EdgeSet


def edge_vectors(graph: AtomGraph, edges: EdgeSet) -> Float[Tensor, "edges 3"]:
    """Return the vector from the source image to the target of each edge, angstrom.

    Differences are taken in the dtype of the positions (float64), before any cast to
    the precision of a network.

    Source:
        GemNet-OC specification, section 2.1.
    """
    cell = graph.cell[graph.system_index[edges.target]]
    shift = (edges.shift.to(cell.dtype)[:, None, :] @ cell)[:, 0]
    return graph.positions[edges.target] - graph.positions[edges.source] - shift
