"""Molecular dynamics with any ASE calculator, from a structure to files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.dynamics.checkpoint import identity_of, load_checkpoint
from jmp_calc.sim.dynamics.constraints import has_center_fixed
from jmp_calc.sim.dynamics.files import MDFiles, alone, frame_from
from jmp_calc.sim.dynamics.guard import Guard
from jmp_calc.sim.dynamics.held import has_spread
from jmp_calc.sim.dynamics.motion import Motion
from jmp_calc.sim.dynamics.observables import Observables
from jmp_calc.sim.dynamics.recorder import (
    COMPLETED,
    INTERRUPTED,
    STOPPED,
    UNSTABLE,
    Recorder,
    RunFacts,
)
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings, WatchSettings
from jmp_calc.sim.output import versions
from jmp_calc.sim.trajectories.h5md import require_h5py

_RATTLE_FAILED = "Did not converge"
"""What ASE's FixBondLengths raises when atoms move too far in one step."""

__all__ = ["MDResult", "MDSettings", "RecordSettings", "WatchSettings", "run_md"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MDResult:
    """Outcome of :func:`run_md`."""

    status: str
    """``completed``, ``interrupted``, ``stopped`` (out of time) or ``unstable``."""
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
    mean_pressure_GPa: float | None
    """Mean over the second half of the logged steps; None if the cell is fixed."""
    mean_volume_A3: float | None
    """Mean over the second half of the logged steps; None if the cell is fixed."""
    largest_bond_stretch: float
    """Largest length of a bond of the input in units of its length there, at the logged
    steps."""
    worst_bond: str | None
    """Which bond that was, and when; None if none became longer in this part."""
    closest_new_contact: float | None
    """Smallest distance, at the logged steps, of atoms that were apart in the input, in
    units of the sum of their covalent radii; None while none are near."""
    closest_atoms: str | None
    """Which atoms that were, and when; None if none came closer in this part."""
    atoms: Atoms
    """The last good structure with energy, forces and momenta."""
    files: MDFiles
    """Where everything is."""


def run_md(
    atoms: Atoms,
    settings: MDSettings,
    *,
    record: RecordSettings | None = None,
    watch: WatchSettings | None = None,
    out: str | Path,
    stem: str = "md",
    overwrite: bool = False,
    resume: bool = False,
    provenance: Mapping[str, Any] | None = None,
    computes: Mapping[str, Any] | None = None,
    progress: Callable[[Observables], None] | None = None,
) -> MDResult:
    """Run molecular dynamics and write trajectory, observables and summary.

    The first forces are computed before any file is made. Whatever ends the run later,
    the files are valid and hold what was done: Ctrl-C and instability are told by
    ``status``; any other error is raised again after the files are complete. The text
    of a ``KeyboardInterrupt``, if there is one, is told as what stopped the run.

    A run that ended early, or is to be longer, goes on with ``resume``: from its last
    checkpoint, with the state of thermostat, barostat and random numbers, so that files
    and numbers become those of a run that never stopped.

    Args:
        atoms: Start, with its calculator; not changed. Its velocities are used if it
            has any, and its constraints are kept. The centre of mass is fixed if there
            are no constraints. With ``resume`` the start of the earlier run.
        settings: What to do.
        record: What to write, and how often.
        watch: When to stop early.
        out: Folder for the files; made if missing.
        stem: First part of every file name.
        overwrite: Whether existing files may be replaced.
        resume: Go on with the run in ``out``.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        computes: Options of the calculator that numbers depend on, by name; a resumed
            run must have the same. Plain data.
        progress: Called at the start and after every good step.

    Returns:
        How the run ended, its averages, the last structure and the files.

    Raises:
        ArgumentError: If a file would be replaced, there is no calculator, a setting is
            unknown, or a resumed run does not fit what it was.
        UnsupportedSystemError: If the structure is empty, cannot move, or has no finite
            energy and forces at the start.
        DataError: If a file cannot be written, or there is nothing to resume.
    """
    _check(atoms)
    if record is not None and record.trajectory_format == "h5md":
        require_h5py()
    record, watch = record or RecordSettings(), watch or WatchSettings()
    _check_spread(atoms, watch)
    files = MDFiles.under(out, stem, record.trajectory_format)
    model = (provenance or {}).get("model", {})
    weights = model.get("weights_sha256")
    identity = identity_of(
        atoms, model.get("model") if weights is None else None, computes
    )
    with contextlib.ExitStack() as held:
        resumed = None
        if resume:
            if files.checkpoint.parent.is_dir():
                held.enter_context(alone(files))
            resumed = load_checkpoint(files.checkpoint)
            resumed.check_input(atoms, identity, files.checkpoint)
            resumed.check_settings(settings, weights, files.checkpoint)
            resumed.check_record(record)
        else:
            files.check(overwrite=overwrite)
        motion = Motion.begin(atoms, settings, resumed)
        first = motion.meter.read(motion.dynamics.nsteps)
        row = first.observables
        facts = RunFacts(
            template=motion.template(atoms),
            start=atoms,
            settings=settings,
            record=record,
            watch=watch,
            identity=identity,
            degrees_of_freedom=motion.degrees_of_freedom,
            weights=weights,
            initial_energy_eV=row.potential_energy_eV
            if resumed is None
            else resumed.initial_energy_eV,
            initial_K=row.temperature_K if resumed is None else resumed.initial_K,
            has_new_velocities=motion.has_new_velocities,
            head={
                **(provenance or {}),
                "settings": {**asdict(settings), **asdict(record), **asdict(watch)},
                "system": _describe(atoms, motion),
                "versions": versions(),
            },
        )
        guard = Guard(
            atoms,
            settings,
            watch,
            initial_K=facts.initial_K,
            initial_energy_eV=facts.initial_energy_eV,
            degrees_of_freedom=motion.degrees_of_freedom,
            bond_stride=record.log_stride,
        )
        if resumed is not None:
            guard.bonds.largest_stretch = resumed.largest_stretch
            guard.contacts.closest = resumed.closest_contact
        if problem := guard.problem(first):
            raise UnsupportedSystemError(
                f"the starting structure is unusable: {problem}"
            )
        if not resume:
            held.enter_context(alone(files))
        with Recorder(files, facts, overwrite=overwrite, resumed=resumed) as recorder:
            if resumed is None:
                recorder.write(first)
            else:
                recorder.go_on(first)
            status, reason = _integrate(motion, guard, recorder, progress)
            recorder.finish(status, reason)
    return MDResult(
        status=status,
        reason=reason,
        n_steps=recorder.last.observables.step,
        n_frames=recorder.n_frames,
        wall_seconds=recorder.wall_seconds,
        degrees_of_freedom=motion.degrees_of_freedom,
        has_new_velocities=motion.has_new_velocities,
        **asdict(recorder.statistics()),
        largest_bond_stretch=guard.bonds.largest_stretch,
        worst_bond=guard.bonds.worst,
        closest_new_contact=guard.contacts.closest,
        closest_atoms=guard.contacts.worst,
        atoms=frame_from(facts.template, recorder.last),
        files=files,
    )


def _check(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    if atoms.calc is None:
        raise ArgumentError("atoms has no calculator; set atoms.calc before run_md")


def _check_spread(atoms: Atoms, watch: WatchSettings) -> None:
    if watch.max_force_spread_eV_per_A is not None and not has_spread(atoms.calc):
        raise ArgumentError(
            "max_force_spread_eV_per_A is "
            f"{watch.max_force_spread_eV_per_A:g}, but the calculator has no spread of "
            "forces; give two models or more (--committee), or leave it out"
        )


def _describe(atoms: Atoms, motion: Motion) -> dict[str, Any]:
    velocities = "drawn" if motion.has_new_velocities else "from the input"
    return {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "pbc": atoms.pbc,
        "constraints": [type(c).__name__ for c in atoms.constraints],
        "is_center_of_mass_fixed": has_center_fixed(motion.atoms),
        "degrees_of_freedom": motion.degrees_of_freedom,
        "initial_velocities": velocities,
    }


def _integrate(
    motion: Motion,
    guard: Guard,
    recorder: Recorder,
    progress: Callable[[Observables], None] | None,
) -> tuple[str, str | None]:
    """Do the steps; return status and reason."""
    n_steps = recorder.facts.settings.n_steps
    try:
        if progress is not None:
            progress(recorder.last.observables)
        # a diverging run is reported by the guard, not by a warning per array
        with np.errstate(over="ignore", invalid="ignore"):
            while motion.dynamics.nsteps < n_steps:
                if guard.is_out_of_time:
                    done = recorder.last.observables.step
                    return (
                        STOPPED,
                        f"max_minutes over after step {done} of {n_steps}",
                    )
                shot = motion.step()
                if problem := guard.problem(shot):
                    return UNSTABLE, problem
                recorder.largest_stretch = guard.bonds.largest_stretch
                recorder.closest_contact = guard.contacts.closest
                recorder.write(shot)
                if progress is not None:
                    progress(shot.observables)
    except KeyboardInterrupt as error:
        what = str(error) or "Ctrl-C"
        return INTERRUPTED, f"{what} after step {recorder.last.observables.step}"
    except UnsupportedSystemError as error:
        # the start was accepted, so it is the run that made it impossible
        return UNSTABLE, (
            f"after step {recorder.last.observables.step}: {error}; look at the last "
            "frames: if they are sane, resume tries again from there"
        )
    except RuntimeError as error:
        if str(error) != _RATTLE_FAILED:
            raise
        return UNSTABLE, (
            f"after step {recorder.last.observables.step}: the fixed bond lengths "
            "cannot be kept; use a shorter timestep_fs"
        )
    return COMPLETED, None
