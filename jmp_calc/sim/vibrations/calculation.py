"""The whole job: forces, second derivatives, modes, thermochemistry, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.output import extxyz_text, save_structure, save_text, without_results
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import compute_together, relax_together
from jmp_calc.sim.vibrations.hessian import (
    Hessian,
    Modes,
    compute_hessian,
    find_modes,
    free_atoms,
)
from jmp_calc.sim.vibrations.settings import VibrationsSettings, vibrations_files
from jmp_calc.sim.vibrations.thermo import (
    SOFT_PER_CM,
    Thermochemistry,
    compute_thermochemistry,
)
from jmp_calc.units import PER_CM

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How the work can end."""

IMAGINARY_PER_CM = 0.5
"""Imaginary frequencies below this are rounding, 1/cm."""

RIGID_PER_CM = 100.0
"""Frequency of a motion of the whole body above which a note is given, 1/cm."""

FRAMES = 24
"""Frames of a mode's trajectory."""

SHOWN_A = 0.25
"""How far the atom that moves most moves in it, angstrom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VibrationsResult:
    """Outcome of :func:`run_vibrations`."""

    status: str
    """``completed`` or ``not converged``."""
    reason: str | None
    """Why it is not converged."""
    atoms: Atoms
    """The structure whose vibrations these are, with energy and forces."""
    energy_eV: float
    """Its potential energy, eV."""
    max_force_eV_per_A: float
    """Length of the largest force on an atom that may move, eV/angstrom."""
    hessian: Hessian
    """Second derivatives."""
    modes: Modes
    """Normal modes."""
    thermochemistry: Thermochemistry | None
    """None if it was not asked for."""
    notes: tuple[str, ...]
    """What a user has to know before using the numbers."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether a relaxation, if there was one, reached its goal."""
        return self.status == COMPLETED

    @property
    def n_imaginary(self) -> int:
        """Vibrations that lower the energy."""
        return int((self.modes.vibrations_per_cm < -IMAGINARY_PER_CM).sum())


def run_vibrations(
    atoms: Atoms,
    settings: VibrationsSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "molecule",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VibrationsResult:
    """Compute the harmonic vibrations of a structure.

    Atoms that ``FixAtoms`` holds do not take part: fix the slab under an adsorbate.

    Args:
        atoms: A structure at rest; not changed.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of their names.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called with the displacements done and their number.

    Raises:
        ArgumentError: If a file would be replaced.
        UnsupportedSystemError: If the structure cannot be computed, or the
            thermochemistry does not fit it.
        DataError: If a file cannot be written.

    Source:
        Wilson, Decius and Cross, Molecular Vibrations (1955); thermochemistry:
        Cramer, Essentials of Computational Chemistry (2004), chapter 10, as in ASE.
    """
    files = vibrations_files(Path(out), stem, atoms)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    free_atoms(atoms)
    start, is_converged = _start(atoms, settings, calculator)
    energy = float(start.get_potential_energy())
    force = float(np.linalg.norm(start.get_forces(), axis=1).max())
    hessian = compute_hessian(
        start, calculator, displacement=settings.displacement_A, progress=progress
    )
    modes = find_modes(start, hessian)
    result = VibrationsResult(
        status=COMPLETED if is_converged else NOT_CONVERGED,
        reason=None if is_converged else f"{settings.steps} steps were not enough",
        atoms=start,
        energy_eV=energy,
        max_force_eV_per_A=force,
        hessian=hessian,
        modes=modes,
        thermochemistry=compute_thermochemistry(start, modes, energy, settings),
        notes=tuple(_notes(start, force, modes, settings)),
        files=_made(files, modes, settings),
    )
    record.make_folder()
    _save(result)
    record.save(
        status=result.status,
        reason=result.reason,
        settings=settings,
        results=_results(result),
        files=result.files,
    )
    return result


def _start(
    atoms: Atoms, settings: VibrationsSettings, calculator: Any
) -> tuple[Atoms, bool]:
    """Return the structure, relaxed if asked for, with results, and if it converged."""
    if settings.relax:
        relaxation = RelaxSettings(
            fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
        )
        found = relax_together([atoms], relaxation, calculator, names=["relaxation"])[0]
        return found.atoms, found.is_converged
    start = without_results(atoms)
    results = compute_together([start], ("energy", "forces"), calculator)[0]
    start.calc = SinglePointCalculator(
        start, energy=float(results["energy"]), forces=results["forces"]
    )
    return start, True


def _notes(
    atoms: Atoms, force: float, modes: Modes, settings: VibrationsSettings
) -> Iterator[str]:
    if force > settings.fmax_eV_per_A:
        yield (
            f"the structure is not at rest: the largest force is {force:.3g} eV/Å, "
            f"above {settings.fmax_eV_per_A:g}; relax it first (--relax)"
        )
    if settings.thermo in ("auto", "ideal-gas") and not _is_possible(atoms, settings):
        yield (
            f"a molecule with {_n_electrons(atoms)} electrons cannot have a spin of "
            f"{settings.spin:g}, which the entropy counts; give --spin"
        )
    waves = modes.vibrations_per_cm
    imaginary = waves[waves < -IMAGINARY_PER_CM]
    if len(imaginary):
        listed = ", ".join(f"{-wave:.0f}i" for wave in imaginary[:5])
        yield (
            f"{len(imaginary)} of {len(waves)} vibrations are imaginary ({listed} "
            "cm^-1), so this is no minimum; they are left out of the thermochemistry"
        )
    stiff = np.abs(modes.rigid_per_cm)
    if stiff.size and stiff.max() > RIGID_PER_CM:
        yield (
            f"translations and rotations have up to {stiff.max():.0f} cm^-1 before "
            "they are projected out: the structure is not at rest, or the forces are "
            "noisy (--dtype float64)"
        )
    soft = waves[(waves >= -IMAGINARY_PER_CM) & (waves < SOFT_PER_CM)]
    if len(soft) and settings.thermo != "none":
        yield (
            f"{len(soft)} vibrations are below {SOFT_PER_CM:g} cm^-1, where the "
            "harmonic entropy is only a guess"
        )
    if atoms.pbc.any() and modes.is_rigid.any():
        yield (
            "the structure is periodic, and only translations are taken out; for a "
            "molecule remove pbc, for a crystal use jmp-md phonons"
        )


def _n_electrons(atoms: Atoms) -> int:
    charge = atoms.info.get("charge", 0)
    is_number = isinstance(charge, (int, float, np.number))
    return int(atoms.numbers.sum()) - (round(charge) if is_number else 0)


def _is_possible(atoms: Atoms, settings: VibrationsSettings) -> bool:
    """Return whether electrons can have the spin that a gas is to have."""
    is_gas = not (atoms.pbc.any() or atoms.constraints)
    return not is_gas or (_n_electrons(atoms) - round(2 * settings.spin)) % 2 == 0


def _made(
    files: Mapping[str, Path], modes: Modes, settings: VibrationsSettings
) -> dict[str, Path]:
    """Return the files without those of modes that do not vibrate or are not wanted."""
    numbers = np.flatnonzero(~modes.is_rigid) + 1 if settings.mode_trajectories else ()
    kept = {f"mode_{number}" for number in numbers}
    return {
        name: path
        for name, path in files.items()
        if not name.startswith("mode_") or name in kept
    }


def _save(result: VibrationsResult) -> None:
    modes, files = result.modes, result.files
    waves = modes.frequencies_per_cm
    shapes = modes.data.get_modes()
    # shapes are normed with the masses, and so hold the mass that moves
    moved = 1 / (shapes**2).sum(axis=(1, 2))
    save_table(
        {
            "mode": list(range(1, len(waves) + 1)),
            "frequency_per_cm": waves.tolist(),
            "energy_meV": (waves * PER_CM * 1e3).tolist(),
            "reduced_mass_amu": moved.tolist(),
            "kind": [_kind(result, number) for number in range(len(waves))],
        },
        files["table"],
    )
    save_text(files["data"], encode(modes.data))
    save_structure(result.atoms, files["structure"])
    for name, path in files.items():
        if name.startswith("mode_"):
            number = int(name.removeprefix("mode_")) - 1
            save_text(path, "".join(extxyz_text(f) for f in _animated(result, number)))


def _kind(result: VibrationsResult, number: int) -> str:
    if result.modes.is_rigid[number]:
        return "whole body"
    wave = result.modes.frequencies_per_cm[number]
    return "imaginary" if wave < -IMAGINARY_PER_CM else "vibration"


def _animated(result: VibrationsResult, number: int) -> Iterator[Atoms]:
    shape = result.modes.data.get_modes(all_atoms=True)[number]
    shape = shape * SHOWN_A / np.linalg.norm(shape, axis=1).max()
    for phase in np.linspace(0, 2 * np.pi, FRAMES, endpoint=False):
        frame = without_results(result.atoms)
        frame.positions += np.sin(phase) * shape
        frame.info["mode"] = number + 1
        frame.info["frequency_per_cm"] = float(result.modes.frequencies_per_cm[number])
        yield frame


def _results(result: VibrationsResult) -> dict[str, Any]:
    thermo = result.thermochemistry
    return {
        "energy_eV": result.energy_eV,
        "max_force_eV_per_A": result.max_force_eV_per_A,
        "frequencies_per_cm": result.modes.vibrations_per_cm,
        "n_imaginary": result.n_imaginary,
        "whole_body_per_cm": result.modes.rigid_per_cm,
        "hessian_asymmetry_eV_per_A2": result.hessian.asymmetry,
        "free_atoms": result.hessian.free,
        "thermochemistry": None if thermo is None else asdict(thermo),
        "notes": result.notes,
    }
