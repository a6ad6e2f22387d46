"""Which volumes of a crystal to compute, and what to fit to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import (
    require_at_least,
    require_choice,
    require_positive,
)

EQUATIONS = ("birchmurnaghan", "murnaghan", "birch", "vinet", "pouriertarantola")
"""Equations of state by their names in ASE; all have four parameters."""

RELAXATIONS = ("none", "positions", "shape")
"""What can be relaxed at each volume."""

WIDEST_PERCENT = 50.0
"""Largest change of volume that a scan may ask for, %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EosSettings:
    """Which volumes to compute, and what to fit to them."""

    range_percent: float = 6.0
    """The volumes go from this much below that of the input to this much above, %."""
    points: int = 11
    """Volumes, spaced evenly; at least 5."""
    equation: Literal[
        "birchmurnaghan", "murnaghan", "birch", "vinet", "pouriertarantola"
    ] = "birchmurnaghan"
    """Equation of state; birchmurnaghan is of third order."""
    relax: Literal["none", "positions", "shape"] = "positions"
    """What is relaxed at each volume: none, the positions, or positions and the shape
    of the cell at constant volume."""
    fmax_eV_per_A: float = 0.005
    """Largest force on an atom of a relaxed structure, eV/angstrom."""
    steps: int = 300
    """Most steps of a relaxation."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        if not 0 < self.range_percent <= WIDEST_PERCENT:
            raise ArgumentError(
                f"range_percent is {self.range_percent}; give a number above 0 and up "
                f"to {WIDEST_PERCENT:g}"
            )
        require_choice(self, "equation", EQUATIONS)
        require_choice(self, "relax", RELAXATIONS)
        require_at_least(self, points=5, steps=1)
        require_positive(self, "fmax_eV_per_A")


def eos_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return every file that ``run_eos`` makes.

    The structure at the volume of lowest energy is made only if the fit has one.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
    """
    return {
        "table": folder / f"{stem}-eos.csv",
        "structures": folder / f"{stem}-eos.xyz",
        "equilibrium": folder / f"{stem}-equilibrium.xyz",
        "summary": folder / f"{stem}-summary.yml",
    }
