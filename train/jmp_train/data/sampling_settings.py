"""SamplingSettings: how many new geometries of which kind; imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jmp_calc.errors import ArgumentError, did_you_mean

KINDS = (
    "perturb",
    "md",
    "stretch",
    "strain",
    "relax",
    "vibrate",
    "torsion",
    "complex",
    "path",
)
"""Kinds of geometry; ``kinds.MAKERS`` makes them."""
NEED_CALCULATOR = ("md", "relax", "vibrate", "path")
"""Kinds that need forces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingSettings:
    """How many geometries of which kind."""

    kind: str = "perturb"
    """Kind of geometry; what each does is told above."""
    n: int = 10
    """Geometries of each structure; relax: up to this many, the relaxed one last;
    path: images of one reaction."""
    seed: int = 0
    """Seed of all random numbers."""
    amplitude: float = 0.1
    """perturb: largest standard deviation of a displacement, Å; each geometry has its
    own between a tenth of this and all of it."""
    temperature_K: tuple[float, ...] = (300.0,)
    """md, vibrate: temperatures, in turn."""
    timestep_fs: float = 0.5
    """md: time step."""
    spacing_fs: float = 50.0
    """md: time between two geometries."""
    strain: float = 0.05
    """strain: largest size of a component of the symmetric strain."""
    min_distance: float = 0.6
    """Smallest distance of two atoms, as a multiple of the sum of covalent radii."""
    force_tolerance: float = 0.02
    """relax: largest force on an atom at the end, eV/Å."""
    steps: int = 300
    """relax: most steps; what is not relaxed then is a failure."""
    molecules: int = 2
    """complex: most molecules; each complex has between two and this many."""
    max_atoms: int = 40
    """complex: most atoms; a molecule that would be too many is left out."""
    contact: tuple[float, float] = (0.6, 1.4)
    """complex: between which multiples of the sum of van der Waals radii the closest
    contact of a molecule is drawn; torsion: the first is the closest allowed one."""
    same: bool = False
    """complex: all molecules are copies of the structure."""

    def __post_init__(self) -> None:
        """Check kind and numbers."""
        if self.kind not in KINDS:
            raise ArgumentError(
                f"unknown kind of geometry {self.kind!r}; choose from "
                f"{', '.join(KINDS)}{did_you_mean(self.kind, KINDS)}"
            )
        if self.n < 1 or self.seed < 0:
            raise ArgumentError(
                f"n is {self.n} and seed {self.seed}; give at least one geometry and a "
                "seed that is not negative"
            )
        for name in (
            "amplitude",
            "timestep_fs",
            "spacing_fs",
            "strain",
            "force_tolerance",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ArgumentError(
                    f"{name} is {getattr(self, name)}; it must be positive and finite"
                )
        if not self.temperature_K or not all(
            0 < temperature < math.inf for temperature in self.temperature_K
        ):
            raise ArgumentError(
                f"temperature_K is {self.temperature_K}; give positive temperatures"
            )
        if not 0 <= self.min_distance < 1:
            raise ArgumentError(
                f"min_distance is {self.min_distance}; it must be at least 0 and below "
                "1 (a bond is about 1)"
            )
        if self.steps < 1 or self.molecules < 2 or self.max_atoms < 2:
            raise ArgumentError(
                f"steps is {self.steps}, molecules {self.molecules} and max_atoms "
                f"{self.max_atoms}; give at least 1, 2 and 2"
            )
        if not 0 < self.contact[0] <= self.contact[1] < math.inf:
            raise ArgumentError(
                f"contact is {self.contact}; give two positive numbers, the smaller "
                "one first"
            )
