"""Vectors and distances of edges, differentiable in positions and cell."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph, EdgeSet


def edge_vectors(graph: AtomGraph, edges: EdgeSet) -> Float[Tensor, "edges 3"]:
    """Return the vector from the source image to the target of each edge, angstrom.

    Differences are taken in the dtype of the positions (float64), before any cast to
    the precision of a network. An edge from an atom to its own image does not depend on
    where the atom is: its gradient is exactly zero, not the rounding of a sum that
    cancels (which collinear images would amplify).

    Source:
        GemNet-OC specification, section 2.1.
    """
    cell = graph.cell[graph.system_index[edges.target]]
    shift = (edges.shift.to(cell.dtype)[:, None, :] @ cell)[:, 0]
    difference = graph.positions[edges.target] - graph.positions[edges.source]
    is_other = (edges.target != edges.source).to(difference.dtype)
    return difference * is_other[:, None] - shift
