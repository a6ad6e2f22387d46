"""How a path between two structures is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmp_calc.sim.requirements import require_at_least, require_choice, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class NebSettings:
    """The band, and until when it is relaxed."""

    images: int = 7
    """Images between the two end points; not used if INPUT holds a whole path."""
    interpolation: Literal["idpp", "linear"] = "idpp"
    """First path: idpp keeps atoms apart, linear is a straight line."""
    relax_ends: bool = False
    """Relax both end points first."""
    skip_climb: bool = False
    """Do not let the highest image climb to the saddle point."""
    optimizer: Literal["fire", "lbfgs", "bfgs"] = "fire"
    """Optimizer of the band: fire (robust), lbfgs or bfgs (faster if all is smooth)."""
    fmax_eV_per_A: float = 0.05
    """Largest force on an atom of a converged band, eV/angstrom; also the limit of the
    end points."""
    climb_from_eV_per_A: float = 0.3
    """Largest force on an atom at which the highest image starts to climb,
    eV/angstrom."""
    steps: int = 500
    """Most steps of the band."""
    spring_eV_per_A2: float = 0.1
    """Stiffness of the springs between images, eV/angstrom^2."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        require_choice(self, "interpolation", ("idpp", "linear"))
        require_choice(self, "optimizer", ("fire", "lbfgs", "bfgs"))
        require_at_least(self, images=1, steps=1)
        require_positive(
            self, "fmax_eV_per_A", "climb_from_eV_per_A", "spring_eV_per_A2"
        )


def neb_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return every file that ``run_neb`` makes.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
    """
    return {
        "table": folder / f"{stem}-neb.csv",
        "path": folder / f"{stem}-path.xyz",
        "saddle": folder / f"{stem}-saddle.xyz",
        "steps": folder / f"{stem}-steps.csv",
        "summary": folder / f"{stem}-summary.yml",
    }
