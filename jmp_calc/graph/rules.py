"""How a structure becomes the four graphs of GemNet-OC: part of a head's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jmp_calc.errors import ArgumentError

DEFAULT_TAG = 2
"""Tag of every atom unless told otherwise, as in all data but that of OC20."""

Rules = Literal["published", "smooth"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphRules:
    """How a structure becomes the four graphs of GemNet-OC.

    ``published`` reproduces gemnet_oc section 2: one cutoff, hard nearest-K limits,
    symmetrisation that depends on atom order, a fixed radial scale of 12 angstrom.
    ``smooth`` has no neighbour limit and gives each graph its own cutoff, at which its
    envelope ends, so that nothing jumps and atom order never matters.
    """

    rules: Rules = "smooth"
    """Which set of rules the weights were trained with."""
    cutoff: float
    """Largest distance of a main edge, angstrom."""
    atom_edge_cutoff: float | None = None
    """Largest distance of an atom-edge edge, angstrom; None: ``cutoff``."""
    quadruplet_cutoff: float | None = None
    """Largest distance of a quadruplet edge, angstrom; None: ``cutoff``."""
    atom_atom_cutoff: float | None = None
    """Largest distance of an atom-atom edge, angstrom; None: ``cutoff``."""
    max_neighbors: int | None = None
    """Base number M of incoming main edges per atom (published rules only)."""
    max_neighbors_by_size: tuple[tuple[int, int], ...] = ()
    """Pairs (n, M): systems of more than n atoms use this M instead; of several that
    apply, the one with the largest n (published rules only)."""
    is_periodic: bool | None = None
    """False: never periodic; True: all three directions, whatever ``atoms.pbc`` says
    for the published rules; None: as ``atoms.pbc`` says."""
    radial_cutoff: float | None = None
    """Scale of the radial basis, angstrom; None: each graph's own cutoff."""
    quadruplet_tags: tuple[int, ...] | None = None
    """Keep a quadruplet edge only if one end has one of these tags; None: keep all."""

    def __post_init__(self) -> None:
        """Check that the rules are consistent."""
        if self.rules == "published" and self.max_neighbors is None:
            raise ArgumentError("published graph rules need max_neighbors")
        if self.rules == "smooth" and (
            self.max_neighbors is not None or self.radial_cutoff is not None
        ):
            raise ArgumentError(
                "smooth graph rules have neither max_neighbors nor radial_cutoff"
            )
        if self.rules == "smooth" and self.max_neighbors_by_size:
            raise ArgumentError(
                "smooth graph rules have no max_neighbors_by_size, as they have no "
                "limit of neighbors"
            )
        self._check_limits()
        if not self.cutoff > 0:
            raise ArgumentError(
                f"cutoff is {self.cutoff} angstrom; it must be positive"
            )

    def _check_limits(self) -> None:
        limits = self.max_neighbors_by_size
        if any(min(pair) < 1 for pair in limits):
            raise ArgumentError(
                f"max_neighbors_by_size is {limits}; give pairs (n, M) of numbers of "
                "at least 1: systems of more than n atoms use M neighbors"
            )
        if len({n for n, _ in limits}) < len(limits):
            raise ArgumentError(
                f"max_neighbors_by_size is {limits}; give each number of atoms once"
            )
        if self.max_neighbors is not None and self.max_neighbors < 1:
            raise ArgumentError(
                f"max_neighbors is {self.max_neighbors}; it must be at least 1"
            )

    @property
    def cutoffs(self) -> dict[str, float]:
        """Cutoff of each graph by name (main, atom_edge, quadruplet, atom_atom)."""
        return {
            "main": self.cutoff,
            "atom_edge": self.atom_edge_cutoff or self.cutoff,
            "quadruplet": self.quadruplet_cutoff or self.cutoff,
            "atom_atom": self.atom_atom_cutoff or self.cutoff,
        }

    def neighbor_limits(self, n_atoms: int) -> dict[str, int] | None:
        """Return the neighbour limit of each graph by name, or None without limits.

        Args:
            n_atoms: Number of atoms of the system.

        Source:
            GemNet-OC specification, section 2.5 (sizes: MatBench, QMOF).
        """
        if self.max_neighbors is None:
            return None
        larger = [pair for pair in self.max_neighbors_by_size if n_atoms > pair[0]]
        m = max(larger)[1] if larger else self.max_neighbors
        return {
            "main": m,
            "atom_edge": int(m * 20 / 30),
            "quadruplet": int(m * 8 / 30),
            "atom_atom": int(m * 1000 / 30),
        }
