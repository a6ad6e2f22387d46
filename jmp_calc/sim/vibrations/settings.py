"""How vibrations are computed, and for which conditions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import require_at_least, require_choice, require_positive

LARGEST_DISPLACEMENT_A = 0.1
"""Largest displacement that still measures a curvature, angstrom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VibrationsSettings:
    """Displacements, and conditions of the thermochemistry."""

    displacement_A: float = 0.01
    """How far each atom is moved, in both directions, angstrom."""
    relax: bool = False
    """Relax the atoms first, down to --fmax."""
    fmax_eV_per_A: float = 0.005
    """Largest force on an atom of a structure at rest, eV/angstrom; above it a warning
    is given."""
    steps: int = 500
    """Most steps of the relaxation."""
    thermo: Literal["auto", "ideal-gas", "harmonic", "none"] = "auto"
    """Thermochemistry: ideal-gas (free molecules), harmonic (adsorbates, no translation
    and rotation) or none; auto is ideal-gas without cell and fixed atoms."""
    temperature_K: float = 298.15
    """Temperature of the thermochemistry, K."""
    pressure_Pa: float = 101325.0
    """Pressure of the ideal gas, Pa."""
    symmetry_number: int | None = None
    """Rotations that turn the molecule into itself (2 for water, 12 for methane); by
    default counted, with 0.05 angstrom for an atom to be in its place."""
    spin: float = 0.0
    """Total electron spin of the molecule: 0 singlet, 0.5 doublet, 1 triplet."""
    broadening_per_cm: float = 10.0
    """Half width of a line in the picture, 1/cm."""
    mode_trajectories: bool = False
    """Also write each mode as a trajectory to look at."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        require_choice(self, "thermo", ("auto", "ideal-gas", "harmonic", "none"))
        require_positive(
            self,
            "displacement_A",
            "fmax_eV_per_A",
            "temperature_K",
            "pressure_Pa",
            "broadening_per_cm",
        )
        require_at_least(self, steps=1)
        if self.symmetry_number is not None:
            require_at_least(self, symmetry_number=1)
        if self.displacement_A > LARGEST_DISPLACEMENT_A:
            raise ArgumentError(
                f"displacement_A is {self.displacement_A}; give a number up to "
                f"{LARGEST_DISPLACEMENT_A:g}"
            )
        if not (self.spin >= 0 and (2 * self.spin).is_integer()):
            raise ArgumentError(
                f"spin is {self.spin}; give the total spin: 0 (all paired), 0.5, 1, ..."
            )


def vibrations_files(folder: Path, stem: str, atoms: Atoms) -> dict[str, Path]:
    """Return every file that ``run_vibrations`` may make.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
        atoms: The structure.
    """
    modes = {
        f"mode_{number}": folder / f"{stem}-mode-{number:03d}.xyz"
        for number in range(1, 3 * len(atoms) + 1)
    }
    return {
        "table": folder / f"{stem}-vibrations.csv",
        "data": folder / f"{stem}-vibrations.json",
        "structure": folder / f"{stem}-structure.xyz",
        "summary": folder / f"{stem}-summary.yml",
        **modes,
    }
