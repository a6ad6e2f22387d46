"""Computes a structure at many values of one coordinate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.output import extxyz_text, save_text, without_results
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.scan.coordinate import Coordinate
from jmp_calc.sim.scan.settings import ScanSettings, scan_files
from jmp_calc.sim.side_by_side import Relaxed, compute_together, relax_together
from jmp_calc.units import KCAL_PER_MOL

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How the work can end."""

HELD = {"bond": 1e-3, "angle": 0.1, "dihedral": 0.1}
"""How far a held coordinate may be off, angstrom or degrees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanResult:
    """Outcome of :func:`run_scan`."""

    status: str
    """``completed`` or ``not converged``."""
    reason: str | None
    """Why it is not converged."""
    settings: ScanSettings
    """What was done."""
    values: np.ndarray
    """The coordinate, angstrom or degrees."""
    energies_eV: np.ndarray
    """Energies, eV."""
    frames: tuple[Atoms, ...]
    """Geometries with energies and forces."""
    is_point_converged: tuple[bool, ...]
    """For each value whether its relaxation reached the goal."""
    present: float
    """The coordinate of the input."""
    moved: tuple[int, ...]
    """Atoms that moved as one with the last atom."""
    files: Mapping[str, Path]
    """What was written."""

    @property
    def is_converged(self) -> bool:
        """Whether all relaxations reached their goal."""
        return self.status == COMPLETED

    @property
    def relative_eV(self) -> np.ndarray:  # noqa: N802 (a unit)
        """Energies above the lowest, eV."""
        relative: np.ndarray = self.energies_eV - self.energies_eV.min()
        return relative

    @property
    def lowest(self) -> int:
        """Number of the point of lowest energy."""
        return int(np.argmin(self.energies_eV))

    @property
    def highest(self) -> int:
        """Number of the point of highest energy."""
        return int(np.argmax(self.energies_eV))


def run_scan(
    atoms: Atoms,
    settings: ScanSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "molecule",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ScanResult:
    """Compute a structure along a bond, an angle or a dihedral.

    Every point starts from the input, with the half beyond the bond moved as one; so
    points do not depend on each other, and all are computed side by side.

    Args:
        atoms: A structure; not changed. Its constraints are kept.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of their names.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called with the points done and the rounds of relaxation, or the
            number of points.

    Raises:
        ArgumentError: If a file would be replaced.
        UnsupportedSystemError: If the coordinate does not fit the structure, or a
            point cannot be computed.
        DataError: If a file cannot be written.

    Source:
        Held coordinates: ASE's ``FixBondLengths`` and ``FixInternals``.
    """
    files = scan_files(Path(out), stem)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    coordinate = Coordinate(without_results(atoms), settings)
    present = coordinate.value(atoms)
    values = settings.values(present)
    systems = [coordinate.at(float(value)) for value in values]
    points = _compute(systems, values, coordinate, settings, calculator, progress)
    is_done = tuple(
        point.is_converged
        and coordinate.difference(point.atoms, float(value)) <= HELD[settings.kind]
        for point, value in zip(points, values, strict=True)
    )
    reason = None
    if not all(is_done):
        reason = (
            f"the relaxations of {is_done.count(False)} of {len(points)} points did "
            "not converge; allow more --steps or a larger --fmax-eV-per-A"
        )
    result = ScanResult(
        status=NOT_CONVERGED if reason else COMPLETED,
        reason=reason,
        settings=settings,
        values=values,
        energies_eV=np.array([point.energy for point in points]),
        frames=tuple(_frames(points, values, atoms, settings)),
        is_point_converged=is_done,
        present=present,
        moved=coordinate.moved,
        files=files,
    )
    record.make_folder()
    _save(result, points)
    record.save(
        status=result.status,
        reason=reason,
        settings=settings,
        results=_results(result),
        files=files,
    )
    return result


def _compute(
    systems: Sequence[Atoms],
    values: np.ndarray,
    coordinate: Coordinate,
    settings: ScanSettings,
    calculator: Any,
    progress: Callable[[int, int], None] | None,
) -> list[Relaxed]:
    if not settings.relax:
        wanted = ("energy", "forces")
        found = compute_together(systems, wanted, calculator, progress=progress)
        return [
            _computed(system, results)
            for system, results in zip(systems, found, strict=True)
        ]
    for system, value in zip(systems, values, strict=True):
        coordinate.hold(system, float(value))
    relaxation = RelaxSettings(
        fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
    )
    names = [f"{settings.kind} {value:g} {settings.unit}" for value in values]
    return relax_together(
        systems, relaxation, calculator, names=names, progress=progress
    )


def _computed(system: Atoms, results: Mapping[str, Any]) -> Relaxed:
    energy = float(results["energy"])
    system.calc = SinglePointCalculator(
        system, energy=energy, forces=np.array(results["forces"])
    )
    return Relaxed(
        atoms=system,
        energy=energy,
        max_force_eV_per_A=float(np.linalg.norm(system.get_forces(), axis=1).max()),
        n_steps=0,
        is_converged=True,
    )


def _frames(
    points: Sequence[Relaxed], values: np.ndarray, atoms: Atoms, settings: ScanSettings
) -> list[Atoms]:
    frames = []
    for point, value in zip(points, values, strict=True):
        frame = point.atoms
        # what held the coordinate is no part of the structure, and no file can hold it
        frame.set_constraint(atoms.constraints)
        frame.info[settings.column] = float(value)
        frames.append(frame)
    return frames


def _save(result: ScanResult, points: Sequence[Relaxed]) -> None:
    settings = result.settings
    save_table(
        {
            settings.column: result.values.tolist(),
            "energy_eV": result.energies_eV.tolist(),
            "relative_energy_eV": result.relative_eV.tolist(),
            "relative_energy_kcal_per_mol": (
                result.relative_eV / KCAL_PER_MOL
            ).tolist(),
            "max_force_eV_per_A": [point.max_force_eV_per_A for point in points],
            "relaxation_steps": [point.n_steps for point in points],
            "is_converged": list(result.is_point_converged),
        },
        result.files["table"],
    )
    text = "".join(extxyz_text(frame) for frame in result.frames)
    save_text(result.files["structures"], text)


def _results(result: ScanResult) -> dict[str, Any]:
    column = result.settings.column
    return {
        "coordinate": result.settings.kind,
        "atoms": result.settings.indices,
        f"{column}_of_input": result.present,
        f"{column}_lowest": result.values[result.lowest],
        f"{column}_highest": result.values[result.highest],
        "lowest_energy_eV": result.energies_eV[result.lowest],
        "range_eV": result.relative_eV.max(),
        "moved_atoms": result.moved,
    }
