"""The graph of a structure that moves: what has not changed is not built again.

All edges a little longer than the cutoff are kept from one search. As long as no atom
has moved by half of that margin they hold every edge there can be, and their distances
say which exist now. If those are the same as before, so is the whole topology. If some
are not, what depends on others only is kept.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Bool, Float, Int, UInt8

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.graph.build import assemble, tag_array
from jmp_calc.graph.edge_sets import (
    Edges,
    build_edge_sets,
    periodic_directions,
    search_cutoff,
)
from jmp_calc.graph.neighbors import (
    MIN_DISTANCE,
    Candidates,
    edges_within,
    neighbor_list,
    squared_distances,
)
from jmp_calc.graph.rules import GraphRules

SKIN = 1.0
"""How much longer than the cutoff the edges are that are kept, angstrom."""


class GraphInMotion:
    """Builds the graph of one structure again and again while it moves.

    Each graph is that of :func:`jmp_calc.graph.build.build_graph`, to the last bit.

    Args:
        rules: What the weights assume about edges.
        tags: OC20 tag of each atom; None: 2 for all.
        skin: How much longer than the cutoff the edges are that are kept, angstrom.
        device: That of the network, see :func:`jmp_calc.graph.neighbors.neighbor_list`.
    """

    def __init__(
        self,
        rules: GraphRules,
        tags: Int[np.ndarray, " atoms"] | None = None,
        *,
        skin: float = SKIN,
        device: torch.device | None = None,
    ) -> None:
        self.rules = rules
        self.tags = None if tags is None else np.array(tags)
        self.n_searches = 0
        """Searches so far."""
        self.n_topologies = 0
        """Times that edges have changed so far, the first ones included."""
        self._skin, self._device = skin, device
        self._start: Atoms | None = None
        self._candidates: Candidates | None = None
        self._zones: UInt8[np.ndarray, " candidates"] | None = None
        self._graph: AtomGraph | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy or another process finds again what is large and quickly found
        again = partial(type(self), skin=self._skin, device=self._device)
        return again, (self.rules, self.tags)

    def is_for(self, rules: GraphRules, tags: Int[np.ndarray, " atoms"] | None) -> bool:
        """Return whether these are its rules and tags.

        Args:
            rules: What the weights assume about edges.
            tags: OC20 tag of each atom, or None.
        """
        if rules != self.rules:
            return False
        if tags is None or self.tags is None:
            return tags is self.tags
        return np.array_equal(tags, self.tags)

    def build(self, atoms: Atoms) -> AtomGraph:
        """Return the graph of where the structure is now, on the CPU.

        Args:
            atoms: The structure; elements and periodicity may change, at the price of
                a new search.

        Raises:
            UnsupportedSystemError: As :func:`jmp_calc.graph.build.build_graph`.
        """
        pbc = periodic_directions(atoms.pbc, self.rules)
        cell, cutoff = atoms.cell.array, search_cutoff(self.rules)
        if not self._holds_for(atoms, cutoff):
            self._search(atoms, pbc, cutoff)
        assert self._candidates is not None
        squared = squared_distances(atoms.positions, cell, pbc, edges=self._candidates)
        if squared.min(initial=np.inf) <= MIN_DISTANCE**2:
            # says which atoms overlap
            edges_within(
                atoms.positions, cell, pbc, edges=self._candidates, cutoff=cutoff
            )
        zones = self._zones_of(squared, cutoff, is_periodic=bool(pbc.any()))
        if (
            self._graph is None
            or self._zones is None
            or not np.array_equal(zones, self._zones)
        ):
            return self._built(atoms, squared, zones)
        return self._graph.with_positions(
            positions=torch.tensor(atoms.positions, dtype=torch.float64),
            cell=torch.tensor(cell, dtype=torch.float64)[None],
        )

    def _search(self, atoms: Atoms, pbc: Bool[np.ndarray, "3"], cutoff: float) -> None:
        source, target, shift, _ = neighbor_list(
            atoms.positions,
            atoms.cell.array,
            pbc,
            cutoff=cutoff + self._skin,
            device=self._device,
        )
        if self._start is None or not np.array_equal(
            self._start.numbers, atoms.numbers
        ):
            self._graph = None
        self._candidates, self._zones = (source, target, shift), None
        self._start = atoms.copy()
        self.n_searches += 1

    def _zones_of(
        self,
        squared: Float[np.ndarray, " candidates"],
        cutoff: float,
        *,
        is_periodic: bool,
    ) -> UInt8[np.ndarray, " candidates"]:
        """Return how many cutoffs each edge is within; 0: there is no such edge."""
        inside = squared <= cutoff**2 if is_periodic else squared < cutoff**2
        zones = inside.view(np.uint8)
        shorter = {value for value in self.rules.cutoffs.values() if value < cutoff}
        if shorter:
            distance = np.sqrt(squared)
            for value in shorter:
                zones += distance <= value
        return zones

    def _built(
        self,
        atoms: Atoms,
        squared: Float[np.ndarray, " candidates"],
        zones: UInt8[np.ndarray, " candidates"],
    ) -> AtomGraph:
        """Return a graph of new edges, with all of the last one that they leave."""
        assert self._candidates is not None
        source, target, shift = self._candidates
        inside = np.flatnonzero(zones)
        found = Edges(
            source=source.take(inside),
            target=target.take(inside),
            shift=shift.T.take(inside, axis=1).T,
            distance=np.sqrt(squared.take(inside)),
        )
        before, cell = self._graph, atoms.cell.array
        tags = tag_array(self.tags, len(atoms))
        graph = assemble(
            positions=atoms.positions,
            numbers=atoms.numbers,
            cell=cell,
            tags=tags,
            edges=build_edge_sets(
                atoms.positions,
                cell,
                atoms.pbc,
                tags=tags,
                rules=self.rules,
                found=found,
            ),
            rules=self.rules,
            before=before,
        )
        if before is None or graph.derived is not before.derived:
            self.n_topologies += 1
        self._graph = graph
        self._zones = zones if self._is_decided_by_zones(found, len(atoms)) else None
        return graph

    def _is_decided_by_zones(self, found: Edges, n_atoms: int) -> bool:
        """Whether the edges depend on cutoffs only, not on which ones are nearer."""
        limits = self.rules.neighbor_limits(n_atoms)
        if limits is None:
            return True
        return bool(
            np.bincount(found.target, minlength=1).max() <= min(limits.values())
        )

    def _holds_for(self, atoms: Atoms, cutoff: float) -> bool:
        """Whether no pair can have come within the cutoff from beyond the skin."""
        start = self._start
        if start is None or not (
            np.array_equal(start.numbers, atoms.numbers)
            and np.array_equal(start.pbc, atoms.pbc)
            and np.isfinite(atoms.positions).all()
        ):
            return False
        old, new = start.cell.array, atoms.cell.array
        moved, stretch = start.positions, 1.0
        if not np.array_equal(old, new):
            if not np.isfinite(new).all() or min(_volume(old), _volume(new)) < 1e-3:
                return False
            # a pair that is r apart was at most |F^-1| (r + both moves) apart
            deformation = np.linalg.solve(old, new)
            moved = moved @ deformation
            stretch = float(np.linalg.norm(np.linalg.inv(deformation), ord=2))
        step = float(np.sqrt(((atoms.positions - moved) ** 2).sum(axis=1).max()))
        # less than the skin by a margin for rounding
        return (cutoff + 2 * step) * stretch < cutoff + self._skin * (1 - 1e-6)


def _volume(cell: Float[np.ndarray, "3 3"]) -> float:
    return abs(float(np.linalg.det(cell)))
