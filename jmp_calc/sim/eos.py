"""Equation of state: energies of a crystal at several volumes, and their curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ase.eos
import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.output import extxyz_text, save_text
from jmp_calc.sim.record import (
    Record,
    require_at_least,
    require_choice,
    require_positive,
    save_table,
)
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import Relaxed, hold_all, relax_together
from jmp_calc.units import GPA

EQUATIONS = ("birchmurnaghan", "murnaghan", "birch", "vinet", "pouriertarantola")
"""Equations of state by their names in ASE; all have four parameters."""

RELAXATIONS = ("none", "positions", "shape")
"""What can be relaxed at each volume."""

WIDEST_PERCENT = 50.0
"""Largest change of volume that a scan may ask for, %."""

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How a scan can end."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class EosFit:
    """An equation of state fitted to energies."""

    equation: str
    """Which one."""
    volume_A3: float
    """Volume of lowest energy, angstrom^3."""
    energy_eV: float
    """Energy there, eV."""
    bulk_modulus_GPa: float
    """Bulk modulus there, GPa."""
    bulk_modulus_derivative: float
    """Its derivative with respect to pressure."""
    rms_meV_per_atom: float
    """Root mean square distance of the energies from the curve, meV per atom."""
    parameters: tuple[float, float, float, float]
    """E0, B0, B', V0 in ASE units, in the order of ``ase.eos``."""

    def energies(self, volumes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the curve at some volumes, eV.

        Args:
            volumes: Volumes of the cell, angstrom^3.
        """
        curve = getattr(ase.eos, self.equation)
        return np.asarray(curve(np.asarray(volumes, dtype=float), *self.parameters))


@dataclass(frozen=True, kw_only=True, slots=True)
class EosResult:
    """Outcome of :func:`run_eos`."""

    status: str
    """``completed`` or ``not converged``."""
    reason: str | None
    """Why it is not converged."""
    fit: EosFit | None
    """The curve; None if the energies have no minimum."""
    volumes_A3: np.ndarray
    """Volumes of the cell, angstrom^3."""
    energies_eV: np.ndarray
    """Energies of the cell, eV."""
    n_atoms: int
    """Atoms of the cell."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether all is well."""
        return self.status == COMPLETED


def eos_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return every file that :func:`run_eos` makes.

    Args:
        folder: Folder of all files.
        stem: First part of every name.
    """
    return {
        "table": folder / f"{stem}-eos.csv",
        "structures": folder / f"{stem}-eos.xyz",
        "summary": folder / f"{stem}-summary.yml",
    }


def run_eos(
    atoms: Atoms,
    settings: EosSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "crystal",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EosResult:
    """Compute a crystal at several volumes and fit an equation of state.

    All vectors of the cell are scaled alike. The volumes are relaxed side by side. The
    result is not converged if a relaxation is not, or if the minimum of the curve lies
    outside of the volumes, where the fit has no support.

    Args:
        atoms: A crystal, near its lowest energy; not changed. Constraints are kept.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of their names.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called with the volumes done and the rounds of relaxation.

    Raises:
        ArgumentError: If a file would be replaced.
        UnsupportedSystemError: If the structure is no crystal, or cannot be computed.
        DataError: If a file cannot be written.

    Source:
        Birch, Phys. Rev. 71, 809 (1947) (third order), and the other equations as
        ``ase.eos`` has them.
    """
    files = eos_files(Path(out), stem)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    require_crystal(atoms, "an equation of state")
    volumes = float(atoms.cell.volume) * (
        1 + np.linspace(-1, 1, settings.points) * settings.range_percent / 100
    )
    found = _compute(atoms, volumes, settings, calculator, progress)
    energies = np.array([point.energy for point in found])
    fit = fit_eos(volumes, energies, settings.equation, n_atoms=len(atoms))
    reason = _problem(found, volumes, fit)
    result = EosResult(
        status=NOT_CONVERGED if reason else COMPLETED,
        reason=reason,
        fit=fit,
        volumes_A3=volumes,
        energies_eV=energies,
        n_atoms=len(atoms),
        files=files,
    )
    record.make_folder()
    _save(result, found)
    record.save(
        status=result.status, reason=reason, settings=settings, results=_results(result)
    )
    return result


def require_crystal(atoms: Atoms, what: str) -> None:
    """Check that a structure is periodic in three directions.

    Args:
        atoms: The structure.
        what: What needs it, for the message.

    Raises:
        UnsupportedSystemError: If it is not, or has no atoms.
    """
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    if not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise UnsupportedSystemError(
            f"{what} needs a crystal, periodic in three directions, and pbc is "
            f"{atoms.pbc.tolist()}; give a file with a cell and pbc"
        )


def fit_eos(
    volumes: np.ndarray, energies: np.ndarray, equation: str, *, n_atoms: int
) -> EosFit | None:
    """Fit an equation of state by least squares.

    Args:
        volumes: Volumes of the cell, angstrom^3.
        energies: Energies of the cell, eV.
        equation: One of ``EQUATIONS``.
        n_atoms: Atoms of the cell, for the error per atom.

    Returns:
        The curve, or None if the energies have no minimum.
    """
    if np.polyfit(volumes - volumes.mean(), energies, 2)[0] <= 0:
        return None
    state = ase.eos.EquationOfState(volumes, energies, eos=equation)
    try:
        # ASE warns where the minimum is outside; the caller tells it in the result
        volume, energy, modulus = state.fit(warn=False)
    except (RuntimeError, ValueError):
        # what scipy's curve_fit raises if it finds nothing
        return None
    parameters = tuple(float(value) for value in state.eos_parameters)
    if not (np.isfinite(parameters).all() and volume > 0 and modulus > 0):
        return None
    residual = getattr(ase.eos, equation)(volumes, *parameters) - energies
    return EosFit(
        equation=equation,
        volume_A3=float(volume),
        energy_eV=float(energy),
        bulk_modulus_GPa=float(modulus / GPA),
        bulk_modulus_derivative=parameters[2],
        rms_meV_per_atom=float(1e3 * np.sqrt(np.mean(residual**2)) / n_atoms),
        parameters=parameters,  # type: ignore[arg-type]  # four, by EQUATIONS
    )


def _compute(
    atoms: Atoms,
    volumes: np.ndarray,
    settings: EosSettings,
    calculator: Any,
    progress: Callable[[int, int], None] | None,
) -> list[Relaxed]:
    systems = []
    for volume in volumes:
        system = atoms.copy()
        system.set_cell(
            atoms.cell * (volume / atoms.cell.volume) ** (1 / 3), scale_atoms=True
        )
        if settings.relax == "none":
            system = hold_all(system)
        systems.append(system)
    relaxation = RelaxSettings(
        fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
    )
    if settings.relax == "shape":
        relaxation = RelaxSettings(
            move="both",
            cell_change="constant-volume",
            fmax_eV_per_A=settings.fmax_eV_per_A,
            steps=settings.steps,
        )
    names = [f"volume {volume:.2f} Å^3" for volume in volumes]
    return relax_together(
        systems, relaxation, calculator, names=names, progress=progress
    )


def _problem(
    found: Sequence[Relaxed], volumes: np.ndarray, fit: EosFit | None
) -> str | None:
    n_open = sum(not point.is_converged for point in found)
    if n_open:
        return (
            f"the relaxations of {n_open} of {len(found)} volumes did not converge; "
            "allow more --steps or a larger --fmax-eV-per-A"
        )
    if fit is None:
        return (
            "the energies have no minimum that the equation could follow; start from a "
            "relaxed cell (jmp-md relax --move both)"
        )
    if not volumes[0] < fit.volume_A3 < volumes[-1]:
        return (
            f"the minimum of the curve, {fit.volume_A3:.2f} Å^3, is outside of the "
            f"volumes, {volumes[0]:.2f} to {volumes[-1]:.2f} Å^3; start from a relaxed "
            "cell (jmp-md relax --move both) or use a larger --range-percent"
        )
    return None


def _save(result: EosResult, found: Sequence[Relaxed]) -> None:
    fit = result.fit
    fitted: Sequence[float | None] = [None] * len(found)
    if fit is not None:
        fitted = fit.energies(result.volumes_A3).tolist()
    save_table(
        {
            "volume_A3": result.volumes_A3.tolist(),
            "volume_A3_per_atom": (result.volumes_A3 / result.n_atoms).tolist(),
            "energy_eV": result.energies_eV.tolist(),
            "fitted_energy_eV": fitted,
            "max_force_eV_per_A": [point.max_force_eV_per_A for point in found],
            "relaxation_steps": [point.n_steps for point in found],
            "is_converged": [point.is_converged for point in found],
        },
        result.files["table"],
    )
    text = "".join(extxyz_text(point.atoms) for point in found)
    save_text(result.files["structures"], text)


def _results(result: EosResult) -> dict[str, Any]:
    fit, n_atoms = result.fit, result.n_atoms
    if fit is None:
        return {"fit": None, "n_atoms": n_atoms}
    return {
        "n_atoms": n_atoms,
        "fit": {
            "equation": fit.equation,
            "volume_A3": fit.volume_A3,
            "volume_A3_per_atom": fit.volume_A3 / n_atoms,
            "energy_eV": fit.energy_eV,
            "energy_eV_per_atom": fit.energy_eV / n_atoms,
            "bulk_modulus_GPa": fit.bulk_modulus_GPa,
            "bulk_modulus_derivative": fit.bulk_modulus_derivative,
            "rms_meV_per_atom": fit.rms_meV_per_atom,
        },
    }


def plot_eos(result: EosResult, picture: Path, *, title: str) -> None:
    """Draw the energies and the curve, per atom.

    Args:
        result: From :func:`run_eos`.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    figure = new_figure(6.4, 4.4)
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    n_atoms, fit = result.n_atoms, result.fit
    volumes = result.volumes_A3 / n_atoms
    if fit is not None:
        # the curve reaches its minimum also where that is outside of the volumes
        ends = [*result.volumes_A3, fit.volume_A3]
        fine = np.linspace(min(ends), max(ends), 200)
        text = f"{fit.equation}: $B_0$ = {fit.bulk_modulus_GPa:.1f} GPa"
        axes.plot(
            fine / n_atoms, fit.energies(fine) / n_atoms, c=color(1), lw=1.2, label=text
        )
        lowest = fit.volume_A3 / n_atoms
        axes.axvline(
            lowest, c=GRAY, ls="--", lw=1, label=f"$V_0$ = {lowest:.3f} Å³/atom"
        )
    axes.plot(
        volumes, result.energies_eV / n_atoms, "o", c=color(0), ms=4, label="computed"
    )
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel("energy (eV/atom)")
    legend_above(axes)
    tidy(axes)
    save_figure(figure, picture)
