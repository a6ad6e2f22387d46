"""Is a molecule the same as another? By composition, by bonds, by geometry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Float
from scipy.spatial.distance import cdist

from jmp_train.data.sample import Sample, hill_formula

BOND_FACTOR = 1.2
"""Atoms are bonded within this multiple of the sum of their covalent radii."""

LEVELS = ("composition", "connectivity", "geometry")
"""Kinds of identity, each stricter than the one before."""


def connectivity(sample: Sample) -> str:
    """Return a name for the graph of bonds that ignores the order of the atoms.

    It is the formula and the Weisfeiler-Lehman hash of the graph of elements; some
    different graphs share it (such as decalin and bicyclopentyl), equal ones always do.
    Periodic systems count bonds inside the cell only.

    Args:
        sample: Any system.
    """
    import networkx

    radius = covalent_radii[sample.numbers]
    distance = cdist(sample.positions, sample.positions)
    is_bond = distance < BOND_FACTOR * (radius[:, None] + radius)
    np.fill_diagonal(is_bond, False)
    graph = networkx.Graph()
    for index, number in enumerate(sample.numbers):
        graph.add_node(index, element=str(number))
    graph.add_edges_from(zip(*np.nonzero(np.triu(is_bond)), strict=True))
    name = networkx.weisfeiler_lehman_graph_hash(
        graph, node_attr="element", iterations=max(4, len(sample.numbers) // 2)
    )
    return f"{hill_formula(sample.numbers)} {name}"


def shape(sample: Sample) -> Float[np.ndarray, " pairs"]:
    """Return the sorted distances by pair of elements.

    They do not change when a molecule is moved, rotated, mirrored, or its equal atoms
    exchanged.

    Args:
        sample: A molecule.
    """
    distance = cdist(sample.positions, sample.positions)
    first, second = np.triu_indices(len(sample.numbers), k=1)
    pair = np.sort(np.stack([sample.numbers[first], sample.numbers[second]]), axis=0)
    order = np.lexsort((distance[first, second], pair[1], pair[0]))
    return np.asarray(distance[first, second][order], dtype=np.float64)


class KnownSystems:
    """What has been seen in some sets, at every level of identity."""

    def __init__(self, samples: Iterable[Sample], *, tolerance: float = 0.1) -> None:
        """Remember systems.

        Args:
            samples: Those that count as known.
            tolerance: Largest change of a distance between two copies of a geometry,
                Å.
        """
        self._tolerance = tolerance
        self._formulas: set[str] = set()
        self._shapes: dict[str, list[Float[np.ndarray, " pairs"]]] = defaultdict(list)
        for sample in samples:
            self._formulas.add(hill_formula(sample.numbers))
            self._shapes[connectivity(sample)].append(shape(sample))

    def knows(self, sample: Sample, level: str) -> bool:
        """Return whether a system is known.

        Args:
            sample: Any system.
            level: One of ``LEVELS``.
        """
        if level == "composition":
            return hill_formula(sample.numbers) in self._formulas
        known = self._shapes.get(connectivity(sample), [])
        if level == "connectivity":
            return bool(known)
        mine = shape(sample)
        return any(
            np.abs(mine - other).max(initial=0.0) < self._tolerance for other in known
        )
