"""What a relaxation is to do."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from jmp_calc.errors import ArgumentError, did_you_mean

OPTIMIZERS = ("lbfgs", "bfgs", "fire")
"""Names of optimizers; what they are is in :mod:`optimizers`."""
MOVES = ("positions", "cell", "both")
"""What can be relaxed."""
CELL_CHANGES = ("free", "hydrostatic", "constant-volume")
"""How a cell may change."""
TRAJECTORY_ENDINGS = {"traj": ".traj", "xyz": ".xyz", "none": None}
"""Trajectory format -> ending of its files."""

_LONGEST_STEP_A = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxSettings:
    """What to relax, how, and until when."""

    move: Literal["positions", "cell", "both"] = "positions"
    """What is relaxed: positions; the cell with the atoms carried along; or both."""
    optimizer: Literal["lbfgs", "bfgs", "fire"] = "lbfgs"
    """Optimizer: lbfgs, bfgs (slow beyond some hundred atoms) or fire (robust)."""
    fmax_eV_per_A: float = 0.01
    """Largest force on an atom of a relaxed structure, eV/angstrom; what constraints
    take up does not count."""
    stress_tolerance_GPa: float = 0.05
    """Largest stress left in a relaxed cell, GPa."""
    steps: int = 500
    """Most steps of a structure."""
    max_step_A: float = 0.2
    """Longest move of an atom in a step (fire: root of the sum over all atoms), and of
    the cell, whose strain counts times the number of atoms, angstrom; shorter is safer
    and slower."""
    pressure_GPa: float = 0.0
    """Outer pressure on the cell, GPa."""
    cell_change: Literal["free", "hydrostatic", "constant-volume"] = "free"
    """How the cell may change: free, in size only, or in shape only."""
    fixed_axes: str = ""
    """Directions without strain, such as z for a slab or xy: neither stretched nor
    tilted."""
    keep_symmetry: bool = False
    """Keep the space group of the input."""
    symmetry_tolerance_A: float = 0.01
    """Largest distance of an atom from its symmetric place, angstrom."""
    together: int = 64
    """Structures that are relaxed side by side, so that the model gets them at once."""
    trajectory_format: Literal["traj", "xyz", "none"] = "traj"
    """Format of the steps: traj (exact), xyz (extended XYZ) or none."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range, or two exclude each other.
        """
        _check_choice("move", self.move, MOVES)
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        _check_choice("cell_change", self.cell_change, CELL_CHANGES)
        _check_choice("trajectory_format", self.trajectory_format, TRAJECTORY_ENDINGS)
        for name in ("fmax_eV_per_A", "stress_tolerance_GPa", "symmetry_tolerance_A"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"{name} is {value}; give a number above 0")
        for name in ("steps", "together"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} is {getattr(self, name)}; give 1 or more")
        if not 0 < self.max_step_A <= _LONGEST_STEP_A:
            raise ArgumentError(
                f"max_step_A is {self.max_step_A}; give a number above 0 and up to "
                f"{_LONGEST_STEP_A:g}"
            )
        if not math.isfinite(self.pressure_GPa):
            raise ArgumentError(f"pressure_GPa is {self.pressure_GPa}; give a number")
        self._check_cell()

    def _check_cell(self) -> None:
        axes = self.fixed_axes
        if set(axes) - set("xyz") or len(set(axes)) != len(axes):
            raise ArgumentError(
                f"fixed_axes is {axes!r}; give x, y, z or several of them, such as xy"
            )
        if len(axes) == 3:
            raise ArgumentError(
                "fixed_axes is xyz, so nothing of the cell is free; use move=positions "
                "(--move positions)"
            )
        given = {
            "pressure_GPa": self.pressure_GPa != 0,
            "cell_change": self.cell_change != "free",
            "fixed_axes": bool(axes),
        }
        for name, is_given in given.items():
            if is_given and not self.has_cell:
                raise ArgumentError(
                    f"{name} is {getattr(self, name)} and the cell is not relaxed; "
                    "use move=both or move=cell (--move both)"
                )
        if axes and self.cell_change != "free":
            raise ArgumentError(
                f"fixed_axes is {axes!r} and cell_change {self.cell_change!r}; use one "
                "of them"
            )
        if axes and self.keep_symmetry:
            raise ArgumentError(
                f"fixed_axes is {axes!r}, which the symmetry need not allow; leave out "
                "one of fixed_axes and keep_symmetry"
            )
        if self.pressure_GPa and self.cell_change == "constant-volume":
            raise ArgumentError(
                f"pressure_GPa is {self.pressure_GPa:g}, which does nothing at "
                "constant volume; leave out one of them"
            )

    @property
    def has_cell(self) -> bool:
        """Whether the cell is relaxed."""
        return self.move != "positions"

    @property
    def has_positions(self) -> bool:
        """Whether the atoms move by themselves."""
        return self.move != "cell"

    @property
    def properties(self) -> tuple[str, ...]:
        """What the calculator has to compute, by ASE's names."""
        return ("energy", "forces", *(["stress"] if self.has_cell else []))


def _check_choice(name: str, given: str, allowed: Iterable[str]) -> None:
    choices = list(allowed)
    if given not in choices:
        raise ArgumentError(
            f"{name} is {given!r}; choose one of {', '.join(choices)}"
            f"{did_you_mean(given, choices)}"
        )
