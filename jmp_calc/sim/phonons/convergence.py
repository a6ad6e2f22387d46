"""Whether mesh and supercell are large enough: results against those of larger ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from phonopy import Phonopy

from jmp_calc.sim.phonons.analysis import run_bands, run_mesh, run_thermal
from jmp_calc.sim.phonons.band_path import BandPath
from jmp_calc.sim.phonons.crystal import choose_mesh, larger_supercell, shape_text
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings
from jmp_calc.units import GAS_CONSTANT, KJ_PER_MOL

Solve = Callable[[Int[np.ndarray, "3 3"]], Phonopy]
"""From a supercell to phonopy's object with force constants."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvergenceRow:
    """One mesh or supercell, and what changed since the one before."""

    kind: Literal["supercell", "mesh"]
    """What was made larger."""
    size: str
    """Its size."""
    n_points: int
    """Atoms of the supercell, or q-points of the mesh."""
    free_energy_meV: float
    """Free energy of the vibrations, meV/atom; imaginary modes left out."""
    heat_capacity_kB: float
    """Heat capacity, kB/atom; imaginary modes left out."""
    lowest_THz: float | None = None
    """Lowest frequency of the bands, THz; None for meshes."""
    frequency_change_THz: float | None = None
    """Largest change of a frequency of the bands, THz; None for the first, and for
    meshes."""
    free_energy_change_meV: float | None = None
    """Change of the free energy, meV/atom; None for the first."""
    is_converged: bool = False
    """Whether the changes are within the tolerances."""


def grow_supercell(
    phonon: Phonopy,
    supercell: Int[np.ndarray, "3 3"],
    solve: Solve,
    path: BandPath,
    settings: PhononSettings,
    limits: ConvergenceSettings,
) -> tuple[Phonopy, Int[np.ndarray, "3 3"], list[ConvergenceRow]]:
    """Enlarge a supercell until bands and free energy stay as they are.

    Args:
        phonon: phonopy's object of the first supercell, with force constants.
        supercell: The first supercell, in lattice vectors, rows.
        solve: Computes another one.
        path: Bands that are compared.
        settings: Mesh.
        limits: Tolerances, and the largest supercell.

    Returns:
        phonopy's object of the largest supercell, that supercell, and a row for each.
    """
    cell = phonon.unitcell.cell
    mesh = choose_mesh(phonon, settings)
    bands = run_bands(phonon, path).stacked
    rows = [_row("supercell", phonon, supercell, mesh, limits, bands)]
    while not rows[-1].is_converged:
        following = larger_supercell(cell, supercell)
        n_atoms = len(phonon.unitcell) * round(abs(np.linalg.det(following)))
        if n_atoms > limits.max_supercell_atoms:
            break
        supercell, phonon = following, solve(following)
        before, bands = bands, run_bands(phonon, path).stacked
        rows.append(
            _row("supercell", phonon, supercell, mesh, limits, bands, rows[-1], before)
        )
    return phonon, supercell, rows


def grow_mesh(
    phonon: Phonopy, mesh: tuple[int, int, int], limits: ConvergenceSettings
) -> tuple[tuple[int, int, int], list[ConvergenceRow]]:
    """Double a mesh until the free energy stays as it is.

    Args:
        phonon: phonopy's object with force constants.
        mesh: The first mesh.
        limits: Tolerance, and the largest mesh.

    Returns:
        The last mesh that was compared with a larger one, and a row for each.
    """
    chosen = mesh
    rows = [_row("mesh", phonon, None, mesh, limits)]
    while not rows[-1].is_converged:
        # 2 n + 1 is odd again; a direction with one point has no dispersion to sample
        a, b, c = (2 * n + 1 if n > 1 else 3 for n in mesh)
        if a * b * c > limits.max_mesh_points:
            break
        chosen, mesh = mesh, (a, b, c)
        rows.append(_row("mesh", phonon, None, mesh, limits, before=rows[-1]))
    return chosen, rows


def _row(
    kind: Literal["supercell", "mesh"],
    phonon: Phonopy,
    supercell: Int[np.ndarray, "3 3"] | None,
    mesh: tuple[int, int, int],
    limits: ConvergenceSettings,
    bands: Float[np.ndarray, "points bands"] | None = None,
    before: ConvergenceRow | None = None,
    bands_before: Float[np.ndarray, "points bands"] | None = None,
) -> ConvergenceRow:
    run_mesh(phonon, mesh, with_symmetry=True)
    thermal = run_thermal(phonon, np.array([limits.converge_temperature_K]))
    n_atoms = len(phonon.primitive)
    free_energy = thermal.free_energy_kJ_per_mol[0] * KJ_PER_MOL * 1000 / n_atoms
    change = None if before is None else float(free_energy - before.free_energy_meV)
    shift = None
    if bands is not None and bands_before is not None:
        shift = float(np.abs(bands - bands_before).max())
    is_converged = change is not None and abs(change) < limits.free_energy_tolerance_meV
    if shift is not None and shift > limits.frequency_tolerance_THz:
        is_converged = False
    return ConvergenceRow(
        kind=kind,
        size=shape_text(supercell) if supercell is not None else _mesh_text(mesh),
        n_points=len(phonon.supercell) if supercell is not None else int(np.prod(mesh)),
        free_energy_meV=float(free_energy),
        heat_capacity_kB=float(
            thermal.heat_capacity_J_per_K_per_mol[0] / GAS_CONSTANT / n_atoms
        ),
        lowest_THz=None if bands is None else float(bands.min()),
        frequency_change_THz=shift,
        free_energy_change_meV=change,
        is_converged=is_converged,
    )


def _mesh_text(mesh: tuple[int, int, int]) -> str:
    return " x ".join(map(str, mesh))
