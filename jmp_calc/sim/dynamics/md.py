"""Molecular dynamics with any ASE calculator, from a structure to files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.dynamics.constraints import has_center_fixed
from jmp_calc.sim.dynamics.ensembles import build_dynamics, prepare
from jmp_calc.sim.dynamics.files import MDFiles, frame_from
from jmp_calc.sim.dynamics.observables import Meter, Observables, Snapshot
from jmp_calc.sim.dynamics.recorder import COMPLETED, INTERRUPTED, UNSTABLE, Recorder
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.sim.output import versions

_RATTLE_FAILED = "Did not converge"
"""What ASE's FixBondLengths raises when atoms move too far in one step."""

__all__ = ["MDResult", "MDSettings", "run_md"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MDResult:
    """Outcome of :func:`run_md`."""

    status: str
    """``completed``, ``interrupted`` or ``unstable``."""
    reason: str | None
    """Why the run ended early; None if it did not."""
    n_steps: int
    """Good steps done."""
    n_frames: int
    """Frames in the trajectory."""
    wall_seconds: float
    """Duration of the integration, s."""
    degrees_of_freedom: int
    """Number that temperatures refer to."""
    has_new_velocities: bool
    """Whether the initial velocities were drawn; otherwise they are the input's."""
    mean_temperature_K: float
    """Mean over the second half of the logged steps, K."""
    mean_temperature_error_K: float | None
    """Standard error of that mean, K; None for a short run."""
    energy_drift_meV_per_atom_per_ps: float | None
    """Slope of the conserved energy; None for a short run."""
    conserved_energy_change_meV_per_atom: float
    """Conserved energy at the end minus that at the start."""
    atoms: Atoms
    """The last good structure with energy, forces and momenta."""
    files: MDFiles
    """Where everything is."""


class Guard:
    """Tells whether a run has left the physical range."""

    def __init__(
        self, first: Snapshot, settings: MDSettings, *, degrees_of_freedom: int
    ) -> None:
        self._energy = first.observables.potential_energy_eV
        self._limit_K = settings.temperature_limit(
            first.observables.temperature_K, degrees_of_freedom
        )
        self._limit_eV = settings.max_energy_change_eV_per_atom

    def problem(self, shot: Snapshot) -> str | None:
        """Return what is wrong with a step and what to do, or None."""
        row = shot.observables
        finding = self._finding(shot)
        if finding is None:
            return None
        return (
            f"step {row.step} ({row.time_ps:g} ps): {finding}; relax the input first, "
            "use a shorter timestep_fs or a lower temperature_K, and check that the "
            "model covers this structure"
        )

    def _finding(self, shot: Snapshot) -> str | None:
        row = shot.observables
        if not math.isfinite(row.potential_energy_eV):
            return f"the potential energy is {row.potential_energy_eV} eV"
        is_bad = ~np.isfinite(shot.forces).all(axis=1)
        if is_bad.any():
            return f"the force on atom {int(np.argmax(is_bad))} is not finite"
        if not row.temperature_K <= self._limit_K:
            return (
                f"the temperature is {row.temperature_K:.0f} K, above "
                f"max_temperature_K = {self._limit_K:.0f}"
            )
        change = (row.potential_energy_eV - self._energy) / len(shot.forces)
        if abs(change) > self._limit_eV:
            return (
                f"the potential energy has changed by {change:.1f} eV/atom since the "
                f"start, more than max_energy_change_eV_per_atom = {self._limit_eV:g}"
            )
        return None


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    *,
    out: str | Path,
    stem: str = "md",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[Observables], None] | None = None,
) -> MDResult:
    """Run molecular dynamics and write trajectory, observables and summary.

    The first forces are computed before any file is made. Whatever ends the run later,
    the files are valid and hold what was done: Ctrl-C and instability are told by
    ``status``; any other error is raised again after the files are complete. The text
    of a ``KeyboardInterrupt``, if there is one, is told as what stopped the run.

    Args:
        atoms: Start, with its calculator; not changed. Its velocities are used if it
            has any, and its constraints are kept. The centre of mass is fixed if there
            are no constraints.
        settings: What to do.
        out: Folder for the files; made if missing.
        stem: First part of every file name.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called at the start and after every good step.

    Returns:
        How the run ended, its averages, the last structure and the files.

    Raises:
        ArgumentError: If a file would be replaced, there is no calculator, or a
            setting is unknown.
        UnsupportedSystemError: If the structure is empty, cannot move, or has no finite
            energy and forces at the start.
        DataError: If a file cannot be written.
    """
    _check(atoms)
    files = MDFiles.under(out, stem, settings.trajectory_format)
    files.check(overwrite=overwrite)
    rng = np.random.default_rng(settings.seed)
    system, has_new_velocities = prepare(atoms, settings, rng)
    dynamics = build_dynamics(system, settings, rng)
    meter = Meter(system, timestep_fs=settings.timestep_fs)
    first = meter.read(0)
    degrees_of_freedom = int(system.get_number_of_degrees_of_freedom())
    guard = Guard(first, settings, degrees_of_freedom=degrees_of_freedom)
    if problem := guard.problem(first):
        raise UnsupportedSystemError(f"the starting structure is unusable: {problem}")
    template = system.copy()
    template.set_constraint(atoms.constraints)
    head = {
        **(provenance or {}),
        "settings": asdict(settings),
        "system": {
            "formula": atoms.get_chemical_formula(),
            "n_atoms": len(atoms),
            "pbc": atoms.pbc,
            "constraints": [type(c).__name__ for c in atoms.constraints],
            "is_center_of_mass_fixed": has_center_fixed(system),
            "degrees_of_freedom": degrees_of_freedom,
            "initial_velocities": "drawn" if has_new_velocities else "from the input",
        },
        "versions": versions(),
    }
    with Recorder(
        files,
        template=template,
        settings=settings,
        degrees_of_freedom=degrees_of_freedom,
        head=head,
        overwrite=overwrite,
    ) as recorder:
        recorder.write(first)
        status, reason = _integrate(dynamics, meter, guard, recorder, progress)
        recorder.finish(status, reason)
    return MDResult(
        status=status,
        reason=reason,
        n_steps=recorder.last.observables.step,
        n_frames=recorder.n_frames,
        wall_seconds=recorder.wall_seconds,
        degrees_of_freedom=degrees_of_freedom,
        has_new_velocities=has_new_velocities,
        **asdict(recorder.statistics()),
        atoms=frame_from(template, recorder.last),
        files=files,
    )


def _check(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    if atoms.calc is None:
        raise ArgumentError("atoms has no calculator; set atoms.calc before run_md")


def _integrate(
    dynamics: MolecularDynamics,
    meter: Meter,
    guard: Guard,
    recorder: Recorder,
    progress: Callable[[Observables], None] | None,
) -> tuple[str, str | None]:
    """Do the steps; return status and reason."""
    try:
        # a diverging run is reported by the guard, not by a warning per array
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in dynamics.irun(recorder.settings.steps):
                # step 0 is written already
                if dynamics.nsteps > 0:
                    shot = meter.read(dynamics.nsteps)
                    if problem := guard.problem(shot):
                        return UNSTABLE, problem
                    recorder.write(shot)
                if progress is not None:
                    progress(recorder.last.observables)
    except KeyboardInterrupt as error:
        what = str(error) or "Ctrl-C"
        return INTERRUPTED, f"{what} after step {recorder.last.observables.step}"
    except UnsupportedSystemError as error:
        # the start was accepted, so it is the run that made it impossible
        return UNSTABLE, f"after step {recorder.last.observables.step}: {error}"
    except RuntimeError as error:
        if str(error) != _RATTLE_FAILED:
            raise
        return UNSTABLE, (
            f"after step {recorder.last.observables.step}: the fixed bond lengths "
            "cannot be kept; use a shorter timestep_fs"
        )
    return COMPLETED, None
