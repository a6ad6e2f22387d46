"""Which strains to apply to a crystal, and how to relax it under them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import require_at_least, require_choice, require_positive

RELAXATIONS = ("none", "positions", "cell")
"""What can be relaxed."""

LARGEST_PERCENT = 5.0
"""Largest strain that counts as small, %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ElasticSettings:
    """Strains, and what is relaxed."""

    strain_percent: float = 0.5
    """Largest strain, %; each of the six is applied in both directions."""
    points: int = 4
    """Strains of each kind, an even number: 2 gives central differences, 4 or more
    also take out the curvature of the stress."""
    relax: Literal["none", "positions", "cell"] = "positions"
    """What is relaxed: none gives the constants of clamped ions; positions relaxes them
    under every strain; cell also relaxes the whole crystal before."""
    fmax_eV_per_A: float = 0.001
    """Largest force on an atom of a relaxed structure, eV/angstrom."""
    steps: int = 300
    """Most steps of a relaxation."""
    residual_stress_GPa: float = 0.1
    """Stress of the unstrained crystal above which a warning is given, GPa."""
    skip_symmetry: bool = False
    """Do not average the constants over the symmetry of the crystal."""
    symmetry_tolerance_A: float = 0.01
    """Largest distance of an atom from its symmetric place, angstrom."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        if not 0 < self.strain_percent <= LARGEST_PERCENT:
            raise ArgumentError(
                f"strain_percent is {self.strain_percent}; give a number above 0 and "
                f"up to {LARGEST_PERCENT:g}"
            )
        if self.points < 2 or self.points % 2:
            raise ArgumentError(
                f"points is {self.points}; give an even number, 2 or more"
            )
        require_choice(self, "relax", RELAXATIONS)
        require_at_least(self, steps=1)
        require_positive(
            self, "fmax_eV_per_A", "residual_stress_GPa", "symmetry_tolerance_A"
        )


def elastic_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return every file that the work on one crystal makes.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
    """
    return {
        "constants": folder / f"{stem}-elastic.csv",
        "stresses": folder / f"{stem}-stresses.csv",
        "summary": folder / f"{stem}-summary.yml",
    }
