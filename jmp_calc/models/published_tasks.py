"""What is known about the published pre-training tasks, beyond their weights."""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.models.config import Domain

LICENCE = "CC-BY-NC-4.0"
"""Licence of the published weights."""
CITATION = "Shoghi et al., ICLR 2024, arXiv 2310.16802"
"""Paper of the published weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTask:
    """What is known about a pre-training task, beyond its weights."""

    cutoff: float
    """Cutoff of all four graphs, angstrom."""
    is_periodic: bool
    """Whether the structures had periodic boundaries, in all three directions."""
    energy_scale: float
    """Standard deviation of the referenced energies, eV, unless the file says it."""
    force_scale: float
    """Root mean square of the force components, eV/angstrom, likewise."""
    domain: Domain
    """Kind of structure."""
    level_of_theory: str
    """Method of the labels."""
    elements: tuple[int, ...] = ()
    """Atomic numbers in the training set; empty: not recorded."""


TASKS = {
    "oc20": PublishedTask(
        cutoff=12.0,
        is_periodic=True,
        energy_scale=24.901469505465872,
        force_scale=0.5111534595489502,
        domain="surface",
        level_of_theory="RPBE (VASP), as OC20",
    ),
    "oc22": PublishedTask(
        cutoff=12.0,
        is_periodic=True,
        energy_scale=25.229595396538468,
        force_scale=0.25678861141204834,
        domain="surface",
        level_of_theory="PBE+U (VASP), as OC22",
    ),
    "ani1x": PublishedTask(
        cutoff=8.0,
        is_periodic=False,
        energy_scale=2.8700712783472118,
        force_scale=2.131422996520996,
        domain="molecule",
        level_of_theory="wB97x/6-31G(d), as ANI-1x",
        elements=(1, 6, 7, 8),
    ),
    "transition1x": PublishedTask(
        cutoff=8.0,
        is_periodic=False,
        energy_scale=1.787466168382901,
        force_scale=0.3591422140598297,
        domain="molecule",
        level_of_theory="wB97x/6-31G(d), as Transition-1x",
        elements=(1, 6, 7, 8),
    ),
}
"""The four tasks, in the order of their heads in a file.

Source: training specification, 1.1; GemNet-OC specification, 2.5.
"""
MAX_NEIGHBORS = 30
"""Base number of neighbours of every published task."""
RADIAL_CUTOFF = 12.0
"""Scale of the radial basis, angstrom, whatever the cutoff."""
QUADRUPLET_TAGS = (1, 2)
"""A quadruplet edge needs an end with one of these tags."""
