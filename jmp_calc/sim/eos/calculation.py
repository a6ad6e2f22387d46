"""Computes a crystal at several volumes, all relaxed side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.elastic.symmetry import find_point_group
from jmp_calc.sim.eos.fit import EosFit, fit_eos
from jmp_calc.sim.eos.settings import EosSettings, eos_files
from jmp_calc.sim.output import extxyz_text, save_structure, save_text, without_results
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.requirements import require_crystal
from jmp_calc.sim.side_by_side import Relaxed, hold_all, relax_together

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How a scan can end."""

POOR_FIT = 0.02
"""Error of a fit by the range of the energies above which a note is given."""

USUAL_DERIVATIVE = (1.0, 10.0)
"""Derivatives of bulk moduli that crystals have."""

SYMMETRY_TOLERANCE_A = 0.01
"""Largest distance of an atom from its symmetric place, angstrom."""


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
    notes: tuple[str, ...]
    """What a user has to know before using the numbers."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether all is well."""
        return self.status == COMPLETED


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
    if fit is None or not volumes[0] < fit.volume_A3 < volumes[-1]:
        files.pop("equilibrium")
    result = EosResult(
        status=NOT_CONVERGED if reason else COMPLETED,
        reason=reason,
        fit=fit,
        volumes_A3=volumes,
        energies_eV=energies,
        n_atoms=len(atoms),
        notes=tuple(_notes(atoms, energies, fit, settings)),
        files=files,
    )
    record.make_folder()
    _save(result, found)
    record.save(
        status=result.status,
        reason=reason,
        settings=settings,
        results=_results(result),
        files=files,
    )
    return result


def _compute(
    atoms: Atoms,
    volumes: np.ndarray,
    settings: EosSettings,
    calculator: Any,
    progress: Callable[[int, int], None] | None,
) -> list[Relaxed]:
    systems = []
    for volume in volumes:
        system = _scaled(atoms, float(volume))
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


def _notes(
    atoms: Atoms, energies: np.ndarray, fit: EosFit | None, settings: EosSettings
) -> Iterator[str]:
    if fit is not None:
        spread = float(np.ptp(energies)) / len(atoms) * 1e3
        if fit.rms_meV_per_atom > POOR_FIT * spread:
            yield (
                f"the curve is a poor fit: it misses the energies by "
                f"{fit.rms_meV_per_atom:.2g} meV/atom (root mean square) of "
                f"{spread:.2g} meV/atom that they span; look for a jump or noise in "
                "them, or take a smaller --range-percent"
            )
        low, high = USUAL_DERIVATIVE
        if not low <= fit.bulk_modulus_derivative <= high:
            yield (
                f"B0' is {fit.bulk_modulus_derivative:.2g}, and crystals have {low:g} "
                f"to {high:g}; do not trust the bulk modulus"
            )
    if settings.relax != "shape":
        group = None
        with contextlib.suppress(UnsupportedSystemError):
            group = find_point_group(atoms, SYMMETRY_TOLERANCE_A)
        if group is not None and not group.is_cubic:
            yield (
                f"the crystal is not cubic ({group.space_group}) and the shape of its "
                "cell was held, which makes the bulk modulus too large; let it follow "
                "with --relax shape"
            )


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
    if fit is not None and "equilibrium" in result.files:
        nearest = int(np.argmin(np.abs(result.volumes_A3 - fit.volume_A3)))
        equilibrium = _scaled(without_results(found[nearest].atoms), fit.volume_A3)
        save_structure(equilibrium, result.files["equilibrium"])


def _scaled(atoms: Atoms, volume: float) -> Atoms:
    """Return a crystal with all vectors scaled alike to a volume."""
    system: Atoms = atoms.copy()
    factor = (volume / float(atoms.cell.volume)) ** (1 / 3)
    system.set_cell(atoms.cell * factor, scale_atoms=True)
    return system


def _results(result: EosResult) -> dict[str, Any]:
    fit, n_atoms = result.fit, result.n_atoms
    if fit is None:
        return {"fit": None, "n_atoms": n_atoms, "notes": result.notes}
    return {
        "n_atoms": n_atoms,
        "notes": result.notes,
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
