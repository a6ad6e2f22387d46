"""Is a molecule the same as another? By composition, by bonds, by geometry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist

from jmp_train.data.bonds import closer_than
from jmp_train.data.sample import Sample, hill_formula

BOND_FACTOR = 1.2
"""Atoms are bonded within this multiple of the sum of their covalent radii."""
TOLERANCE = 0.1
"""Largest change of a distance between two copies of a geometry, Å."""

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

    (is_bond,) = closer_than(sample, BOND_FACTOR)
    graph = networkx.Graph()
    for index, number in enumerate(sample.numbers):
        graph.add_node(index, element=str(number))
    graph.add_edges_from(zip(*np.nonzero(np.triu(is_bond, k=1)), strict=True))
    name = networkx.weisfeiler_lehman_graph_hash(
        graph, node_attr="element", iterations=max(4, len(sample.numbers) // 2)
    )
    return f"{hill_formula(sample.numbers)} {name}"


def shape(sample: Sample) -> Float[np.ndarray, " pairs"]:
    """Return the sorted distances by pair of elements.

    They do not change when a molecule is moved, rotated, mirrored, or its equal atoms
    exchanged, so that nothing has to be aligned.

    Args:
        sample: A molecule.
    """
    distance = cdist(sample.positions, sample.positions)
    first, second = np.triu_indices(len(sample.numbers), k=1)
    pair = np.sort(np.stack([sample.numbers[first], sample.numbers[second]]), axis=0)
    order = np.lexsort((distance[first, second], pair[1], pair[0]))
    return np.asarray(distance[first, second][order], dtype=np.float64)


class Overlap:
    """Which systems of a few occur among many that go by, at every level of identity.

    Only the few are kept, and bonds are looked for only where the composition fits, so
    that sets of millions can be compared with a test part.
    """

    def __init__(self, wanted: Sequence[Sample], *, tolerance: float = TOLERANCE):
        """Remember the few.

        Args:
            wanted: Systems to look for.
            tolerance: Largest change of a distance between two copies of a geometry,
                Å.
        """
        self.is_hit = {level: np.zeros(len(wanted), dtype=bool) for level in LEVELS}
        """By level, whether each of them has gone by."""
        self._tolerance = tolerance
        self._by_formula: dict[str, list[int]] = defaultdict(list)
        self._by_bonds: dict[str, list[int]] = defaultdict(list)
        self._shapes = [shape(sample) for sample in wanted]
        for number, sample in enumerate(wanted):
            self._by_formula[hill_formula(sample.numbers)].append(number)
            self._by_bonds[connectivity(sample)].append(number)

    def add(self, sample: Sample) -> str | None:
        """Compare a system that goes by, and return the strictest level that fits.

        Args:
            sample: Any system.

        Returns:
            One of ``LEVELS``; None: not even the composition occurs.
        """
        same = self._by_formula.get(hill_formula(sample.numbers), [])
        if not same:
            return None
        self.is_hit["composition"][same] = True
        bonded = self._by_bonds.get(connectivity(sample), [])
        if not bonded:
            return "composition"
        self.is_hit["connectivity"][bonded] = True
        mine = shape(sample)
        equal = [
            number
            for number in bonded
            if np.abs(mine - self._shapes[number]).max(initial=0.0) < self._tolerance
        ]
        self.is_hit["geometry"][equal] = True
        return "geometry" if equal else "connectivity"

    def known(self, level: str) -> Bool[np.ndarray, " wanted"]:
        """Return whether each of the few has gone by.

        Args:
            level: One of ``LEVELS``.
        """
        return self.is_hit[level].copy()
