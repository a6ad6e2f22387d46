"""Which coordinate is scanned, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import require_at_least, require_positive

KINDS = {2: "bond", 3: "angle", 4: "dihedral"}
"""Number of atoms -> what they define."""

FULL_TURN = 360.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanSettings:
    """The coordinate, its values, and whether the rest follows."""

    atoms: str | None = None
    """Atoms by their number in the file, from 0: 0,1 scans a bond, 0,1,2 the angle at
    atom 1, and 0,1,2,3 the dihedral about 1-2."""
    start: float | None = None
    """First value: Å for a bond, degrees for an angle or dihedral; a dihedral starts
    where it is unless told otherwise."""
    stop: float | None = None
    """Last value, in the same unit; a dihedral makes a full turn unless told
    otherwise."""
    points: int = 25
    """Values, spaced evenly."""
    relax: bool = False
    """Relax all else at each value; without it the two halves move as they are."""
    fmax_eV_per_A: float = 0.01
    """Largest force on an atom of a relaxed structure, eV/angstrom."""
    steps: int = 500
    """Most steps of a relaxation."""
    moved: str | None = None
    """Atoms that move along with the last one; by default those bonded to it on its
    side."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        require_at_least(self, points=2, steps=1)
        require_positive(self, "fmax_eV_per_A")
        kind = self.kind
        for name in ("start", "stop"):
            value = getattr(self, name)
            if value is None:
                if kind != "dihedral":
                    raise ArgumentError(
                        f"{name} is not given; a {kind} needs start and stop "
                        "(--start and --stop)"
                    )
            else:
                _check_value(name, value, kind)
        if self.start is not None and self.start == self.stop:
            raise ArgumentError(
                f"start and stop are both {self.start:g}; give two values"
            )
        parsed_atoms("moved", self.moved)

    @property
    def indices(self) -> tuple[int, ...]:
        """The atoms that define the coordinate."""
        found = parsed_atoms("atoms", self.atoms)
        if len(found) not in KINDS:
            given = "not given" if self.atoms is None else repr(self.atoms)
            raise ArgumentError(
                f"atoms is {given}; give two atoms for a bond, three for an "
                "angle or four for a dihedral, such as 0,1,2,3"
            )
        return found

    @property
    def kind(self) -> str:
        """``bond``, ``angle`` or ``dihedral``."""
        return KINDS[len(self.indices)]

    @property
    def unit(self) -> str:
        """Unit of the coordinate, for people."""
        return "Å" if self.kind == "bond" else "degrees"

    @property
    def column(self) -> str:
        """Name of the coordinate in tables, with unit."""
        return f"{self.kind}_{'A' if self.kind == 'bond' else 'deg'}"

    def values(self, present: float) -> np.ndarray:
        """Return the values to compute.

        Args:
            present: The coordinate of the input, angstrom or degrees.
        """
        start = present if self.start is None else self.start
        stop = start + FULL_TURN if self.stop is None else self.stop
        return np.linspace(start, stop, self.points)


def parsed_atoms(name: str, text: str | None) -> tuple[int, ...]:
    """Return atoms of a text such as ``0,1,5``.

    Args:
        name: The setting, for the message.
        text: Numbers with commas or blanks between them; None: no atoms.

    Raises:
        ArgumentError: If it holds anything else, or an atom twice.
    """
    words = (text or "").replace(",", " ").split()
    if not all(word.isdecimal() for word in words):
        raise ArgumentError(
            f"{name} is {text!r}; give numbers of atoms, from 0, with commas: 0,1,2,3"
        )
    found = tuple(int(word) for word in words)
    if len(set(found)) < len(found):
        raise ArgumentError(f"{name} is {text!r}; give each atom once")
    return found


def _check_value(name: str, value: float, kind: str) -> None:
    if kind == "bond" and not 0 < value < math.inf:
        raise ArgumentError(f"{name} is {value}; give a length above 0 Å")
    # an angle of 0 or 180 degrees has no plane to turn in
    if kind == "angle" and not 0 < value < 180:
        raise ArgumentError(f"{name} is {value}; give an angle between 0 and 180")
    if kind == "dihedral" and not abs(value) <= 2 * FULL_TURN:
        raise ArgumentError(f"{name} is {value}; give an angle between -720 and 720")


def scan_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return every file that ``run_scan`` makes.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
    """
    return {
        "table": folder / f"{stem}-scan.csv",
        "structures": folder / f"{stem}-scan.xyz",
        "summary": folder / f"{stem}-summary.yml",
    }
