"""Computes a crystal at several volumes, all relaxed side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.sim.eos.fit import EosFit, fit_eos
from jmp_calc.sim.eos.settings import EosSettings, eos_files
from jmp_calc.sim.output import extxyz_text, save_structure, save_text, without_results
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.requirements import require_crystal
from jmp_calc.sim.side_by_side import Relaxed, hold_all, relax_together

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How a scan can end."""


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
