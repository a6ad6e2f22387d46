"""What a phonon calculation is asked to do: settings with their units and checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import require

MOST_TEMPERATURES = 100_000
"""A table with more rows is a mistyped step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhononSettings:
    """Displacements, meshes and temperatures of a phonon calculation."""

    relax: Literal["none", "positions", "both"] = "none"
    """Relax the positions, or both positions and cell, before atoms are displaced
    (forces to 0.001 eV/angstrom, stress to 0.01 GPa, symmetry kept)."""
    supercell: str | None = None
    """Cell of the displacements: "N", "N N N" or nine whole numbers (rows: supercell
    vectors in input vectors); by default the smallest one that --supercell-width-A
    allows."""
    supercell_width_A: float = 10.0
    """Smallest distance between opposite faces of a supercell that is chosen here,
    angstrom."""
    displacement_A: float = 0.01
    """Length of the displacements, angstrom."""
    primitive: Literal["auto", "input"] = "auto"
    """Cell of the bands: auto finds the primitive one, input takes that of the file."""
    symmetry_tolerance_A: float = 1e-5
    """Largest distance of an atom from its symmetric place, angstrom."""
    mesh: str | None = None
    """q-points for density of states and thermal properties, "N" or "N N N", centred at
    Gamma; by default as many as --mesh-length-A asks for."""
    mesh_length_A: float = 40.0
    """The mesh has this length times the length of each reciprocal vector as number of
    points (rounded up to odd), angstrom."""
    band_points: int = 51
    """q-points on the longest line of the band path."""
    temperature_min_K: float = 0.0
    """First temperature of the thermal properties, K."""
    temperature_max_K: float = 1000.0
    """Last temperature of the thermal properties, K."""
    temperature_step_K: float = 10.0
    """Distance of the temperatures, K."""
    born: Path | None = None
    """File in phonopy's BORN format (dielectric tensor, Born charges of the independent
    atoms) for the non-analytic correction; without it there is none."""
    imaginary_tolerance_THz: float = 0.1
    """Modes below minus this frequency count as imaginary, THz."""

    def __post_init__(self) -> None:
        """Check every number once.

        Raises:
            ArgumentError: If one is out of its range.
        """
        for name in (
            "supercell_width_A",
            "displacement_A",
            "symmetry_tolerance_A",
            "mesh_length_A",
            "temperature_step_K",
        ):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        for name in ("temperature_min_K", "imaginary_tolerance_THz"):
            require(name, getattr(self, name), lambda x: x >= 0, "0 or more")
        require("band_points", self.band_points, lambda x: x >= 2, "2 or more")
        require(
            "temperature_max_K",
            self.temperature_max_K,
            lambda x: x >= self.temperature_min_K,
            f"at least temperature_min_K, {self.temperature_min_K:g}",
        )
        span = self.temperature_max_K - self.temperature_min_K
        if span / self.temperature_step_K > MOST_TEMPERATURES:
            raise ArgumentError(
                f"temperature_step_K is {self.temperature_step_K:g}, which makes more "
                f"than {MOST_TEMPERATURES} temperatures; give a larger step"
            )
        if self.born is not None and not self.born.is_file():
            raise ArgumentError(
                f"born is {self.born}, which is no file; give one in phonopy's BORN "
                "format, or leave it out for phonons without the correction"
            )
        _ = self.supercell_matrix, self.mesh_numbers

    @property
    def supercell_matrix(self) -> Int[np.ndarray, "3 3"] | None:
        """Supercell vectors in input vectors, rows; None: to be chosen."""
        if self.supercell is None:
            return None
        numbers = _integers("supercell", self.supercell, (1, 3, 9))
        if len(numbers) < 9:
            if min(numbers) < 1:
                raise ArgumentError(
                    f"supercell is {self.supercell!r}; repetitions must be 1 or more"
                )
            return np.diag(numbers * 3 if len(numbers) == 1 else numbers)
        matrix = np.array(numbers).reshape(3, 3)
        if round(np.linalg.det(matrix)) <= 0:
            raise ArgumentError(
                f"supercell is {self.supercell!r}, whose determinant is "
                f"{round(np.linalg.det(matrix))}; give a matrix with one above 0"
            )
        return matrix

    @property
    def mesh_numbers(self) -> tuple[int, int, int] | None:
        """Points of the mesh along the reciprocal vectors; None: to be chosen."""
        if self.mesh is None:
            return None
        numbers = _integers("mesh", self.mesh, (1, 3))
        if min(numbers) < 1:
            raise ArgumentError(f"mesh is {self.mesh!r}; numbers must be 1 or more")
        a, b, c = numbers * 3 if len(numbers) == 1 else numbers
        return a, b, c


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceSettings:
    """Whether mesh and supercell are made larger, and when that is enough."""

    converge: Literal["none", "mesh", "supercell", "both"] = "none"
    """What is made larger until results stop changing: the mesh is doubled, the
    supercell grows by one cell in its narrowest directions. Results are those of the
    largest supercell, and of the last mesh but one."""
    frequency_tolerance_THz: float = 0.1
    """A supercell is large enough if no frequency of the bands changes by more with the
    next one, THz."""
    free_energy_tolerance_meV: float = 1.0
    """Mesh and supercell are large enough if the free energy changes by less,
    meV/atom."""
    converge_temperature_K: float = 300.0
    """Temperature of that free energy, K."""
    max_supercell_atoms: int = 500
    """Supercells do not grow beyond this number of atoms."""
    max_mesh_points: int = 500_000
    """Meshes do not grow beyond this number of q-points."""

    def __post_init__(self) -> None:
        """Check every number once.

        Raises:
            ArgumentError: If one is out of its range.
        """
        for name in ("frequency_tolerance_THz", "free_energy_tolerance_meV"):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        for name in ("max_supercell_atoms", "max_mesh_points"):
            require(name, getattr(self, name), lambda x: x >= 1, "1 or more")
        require(
            "converge_temperature_K",
            self.converge_temperature_K,
            lambda x: x >= 0,
            "0 or more",
        )

    @property
    def has_mesh(self) -> bool:
        """Whether the mesh is made larger."""
        return self.converge in ("mesh", "both")

    @property
    def has_supercell(self) -> bool:
        """Whether the supercell is made larger."""
        return self.converge in ("supercell", "both")


def _integers(name: str, text: str, counts: tuple[int, ...]) -> list[int]:
    # "2x2x2" and "2,2,2" are how other programs and people write it
    words = text.lower().replace(",", " ").replace("x", " ").split()
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        allowed = ["one", *(f"{count}" for count in counts[1:])]
        raise ArgumentError(
            f"{name} is {text!r}; give {' or '.join(allowed)} whole numbers, such as "
            "'2 2 2'"
        )
    return numbers
