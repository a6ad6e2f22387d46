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
from jmp_calc.sim.evaluation import evaluate_each
from jmp_calc.sim.output import extxyz_text, save_text, without_results
from jmp_calc.sim.record import Record, save_table
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.scan.coordinate import Coordinate
from jmp_calc.sim.scan.settings import ScanSettings, scan_files
from jmp_calc.sim.side_by_side import Relaxed, relax_each
from jmp_calc.units import KCAL_PER_MOL

COMPLETED, NOT_CONVERGED = "completed", "not converged"
"""How the work can end."""

HELD = 1e-6
"""How far a held coordinate may be off, angstrom or degrees."""
CHUNK = 64
"""Points of a rigid scan that the calculator gets at a time."""

Point = Relaxed | UnsupportedSystemError
"""One value: what was computed, or why it could not be."""


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
    """Energies, eV; not-a-number where the point could not be computed."""
    frames: tuple[Atoms, ...]
    """Geometries with energies and forces, of all points that could be computed."""
    is_point_converged: tuple[bool, ...]
    """For each value whether it was computed and its relaxation reached the goal."""
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
        relative: np.ndarray = self.energies_eV - np.nanmin(self.energies_eV)
        return relative

    @property
    def lowest(self) -> int:
        """Number of the point of lowest energy."""
        return int(np.nanargmin(self.energies_eV))

    @property
    def highest(self) -> int:
        """Number of the point of highest energy."""
        return int(np.nanargmax(self.energies_eV))


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
    points do not depend on each other or on the direction, and all are computed side by
    side. A point that cannot be computed does not end the others.

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
        UnsupportedSystemError: If the coordinate does not fit the structure, or no
            point can be computed.
        DataError: If a file cannot be written.
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
    errors = [point for point in points if not isinstance(point, Relaxed)]
    if len(errors) == len(points):
        raise errors[0]
    is_done = tuple(
        isinstance(point, Relaxed)
        and point.is_converged
        and coordinate.difference(point.atoms, float(value)) <= HELD
        for point, value in zip(points, values, strict=True)
    )
    reason = _reason(points, is_done)
    result = ScanResult(
        status=NOT_CONVERGED if reason else COMPLETED,
        reason=reason,
        settings=settings,
        values=values,
        energies_eV=np.array(_of_points(points, "energy")),
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


def _reason(points: Sequence[Point], is_done: Sequence[bool]) -> str | None:
    """Return what is missing, or None."""
    errors = [point for point in points if not isinstance(point, Relaxed)]
    open_ = is_done.count(False) - len(errors)
    told = []
    if errors:
        told.append(
            f"{len(errors)} of {len(points)} points could not be computed, the first: "
            f"{errors[0]}"
        )
    if open_:
        told.append(
            f"the relaxations of {open_} of {len(points)} points did not converge; "
            "allow more --steps or a larger --fmax-eV-per-A"
        )
    return "; ".join(told) or None


def _compute(
    systems: Sequence[Atoms],
    values: np.ndarray,
    coordinate: Coordinate,
    settings: ScanSettings,
    calculator: Any,
    progress: Callable[[int, int], None] | None,
) -> list[Point]:
    names = [f"{settings.kind} {value:g} {settings.unit}" for value in values]
    if not settings.relax:
        return _compute_rigid(systems, names, calculator, progress)
    for system, value in zip(systems, values, strict=True):
        coordinate.hold(system, float(value))
    relaxation = RelaxSettings(
        fmax_eV_per_A=settings.fmax_eV_per_A, steps=settings.steps
    )
    return relax_each(systems, relaxation, calculator, names=names, progress=progress)


def _compute_rigid(
    systems: Sequence[Atoms],
    names: Sequence[str],
    calculator: Any,
    progress: Callable[[int, int], None] | None,
) -> list[Point]:
    points: list[Point] = []
    for start in range(0, len(systems), CHUNK):
        part = systems[start : start + CHUNK]
        for system, results in zip(part, evaluate_each(calculator, part), strict=True):
            if isinstance(results, UnsupportedSystemError):
                name = names[len(points)]
                points.append(UnsupportedSystemError(f"{name}: {results}"))
            else:
                points.append(_computed(system, results))
        if progress is not None:
            progress(len(points), len(systems))
    return points


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
    points: Sequence[Point], values: np.ndarray, atoms: Atoms, settings: ScanSettings
) -> list[Atoms]:
    frames = []
    for point, value in zip(points, values, strict=True):
        if not isinstance(point, Relaxed):
            continue
        frame = point.atoms
        # what held the coordinate is no part of the structure, and no file can hold it
        frame.set_constraint(atoms.constraints)
        frame.info[settings.column] = float(value)
        frames.append(frame)
    return frames


def _of_points(points: Sequence[Point], name: str, missing: Any = np.nan) -> list[Any]:
    """Return one attribute of all points."""
    return [
        getattr(point, name) if isinstance(point, Relaxed) else missing
        for point in points
    ]


def _save(result: ScanResult, points: Sequence[Point]) -> None:
    settings = result.settings
    save_table(
        {
            settings.column: result.values.tolist(),
            "energy_eV": result.energies_eV.tolist(),
            "relative_energy_eV": result.relative_eV.tolist(),
            "relative_energy_kcal_per_mol": (
                result.relative_eV / KCAL_PER_MOL
            ).tolist(),
            "max_force_eV_per_A": _of_points(points, "max_force_eV_per_A"),
            "relaxation_steps": _of_points(points, "n_steps", 0),
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
        "range_eV": np.nanmax(result.relative_eV),
        "moved_atoms": result.moved,
    }
