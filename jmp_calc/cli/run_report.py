"""What ``jmp-md run`` tells before and after a run."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from jmp_calc.cli.job import (
    describe_forces,
    describe_model,
    describe_structure,
    print_facts,
)
from jmp_calc.cli.structures import Structure
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.settings import MDSettings

if TYPE_CHECKING:
    from jmp_calc.sim.dynamics.md import MDResult

XYZ_CONSTRAINTS = {"FixAtoms", "FixCartesian"}
"""Constraints that extended XYZ can hold."""


def print_start(
    structure: Structure,
    settings: MDSettings,
    about: Mapping[str, Any],
    resumed_step: int | None,
) -> None:
    """Print what is about to be done.

    Args:
        structure: The input.
        settings: Physics.
        about: What it is computed with.
        resumed_step: Where it goes on; None: it begins.
    """
    temperature = f"{settings.temperature_K:g}"
    if settings.temperature_end_K is not None:
        temperature += f" to {settings.temperature_end_K:g}"
    pressure = ""
    if find_ensemble(settings).has_barostat:
        pressure = f", {settings.pressure_GPa:g}"
        if settings.pressure_end_GPa is not None:
            pressure += f" to {settings.pressure_end_GPa:g}"
        pressure += " GPa"
    print_facts(
        {
            "structure": describe_structure(structure),
            "model": describe_model(about),
            "forces": describe_forces(about),
            "run": f"{settings.ensemble}, {temperature} K{pressure}, "
            f"{settings.n_steps} steps of {settings.timestep_fs:g} fs = "
            f"{settings.duration_ps:g} ps, seed {settings.seed}",
            "resumed": None
            if resumed_step is None
            else f"at step {resumed_step}, {settings.n_steps - resumed_step} to go",
        }
    )
    for note in [*about["notes"], *_notes(structure.atoms, settings)]:
        print_facts({"note": note})


def _notes(atoms: Atoms, settings: MDSettings) -> list[str]:
    # neighbour lists of ASE bring scipy along, which --help must not wait for
    from jmp_calc.sim.dynamics.velocities import usual_timestep_fs

    notes = []
    usual_fs = usual_timestep_fs(atoms)
    if settings.timestep_fs > usual_fs:
        notes.append(
            f"a time step of {settings.timestep_fs:g} fs is long for the lightest "
            f"element here; up to {usual_fs:.1f} fs is usual"
        )
    if settings.time_ps is not None and not math.isclose(
        settings.duration_ps, settings.time_ps
    ):
        notes.append(
            f"{settings.time_ps:g} ps is no multiple of the time step; the run lasts "
            f"{settings.duration_ps:g} ps"
        )
    is_free = not (atoms.pbc.any() or atoms.constraints) and len(atoms) > 1
    if settings.ensemble == "nvt-nhc" and is_free and not settings.fix_rotation:
        notes.append(
            "nvt-nhc leaves a molecule turning as fast as it began, whatever the "
            "temperature; --fix-rotation stops it, or use nvt"
        )
    lost = {type(c).__name__ for c in atoms.constraints} - XYZ_CONSTRAINTS
    if lost:
        notes.append(
            f"extended XYZ cannot hold {', '.join(sorted(lost))}; to go on with the "
            "same constraints take the .traj file"
        )
    return notes


def print_end(
    result: MDResult, settings: MDSettings, picture: Path | None, done: int
) -> None:
    """Print how a run ended, its averages and its files.

    Args:
        result: Outcome.
        settings: Physics.
        picture: What was drawn.
        done: Steps of earlier parts of the run.
    """
    rate = result.n_steps / result.wall_seconds
    before = f", {done} of them before" if done else ""
    lines = {
        result.status: f"{result.n_steps} steps in {result.wall_seconds:.1f} s "
        f"({rate:.1f} steps/s){before}",
        "temperature": _temperature_text(result, settings),
        "pressure": None
        if result.mean_pressure_GPa is None
        else f"{result.mean_pressure_GPa:.3g} GPa, volume "
        f"{result.mean_volume_A3:.1f} A^3 (means of second half)",
        "energy": _energy_text(result, settings),
        "bonds": None
        if result.worst_bond is None
        else f"longest {result.largest_bond_stretch:.2f} times its start "
        f"({result.worst_bond})",
        "contacts": None
        if result.closest_atoms is None
        else f"closest new one {result.closest_new_contact:.2f} of the sum of covalent "
        f"radii ({result.closest_atoms})",
        "trajectory": f"{result.files.trajectory} ({result.n_frames} frames)",
        "observables": str(result.files.observables),
        "final": str(result.files.final),
        "checkpoint": str(result.files.checkpoint),
        "summary": str(result.files.summary),
        "picture": None if picture is None else str(picture),
    }
    print_facts(lines)
    if result.reason is not None:
        print(f"jmp-md: {result.status}: {result.reason}", file=sys.stderr)


def _temperature_text(result: MDResult, settings: MDSettings) -> str:
    origin = "" if result.has_new_velocities else "; velocities from the input"
    has_target = find_ensemble(settings).has_thermostat and not settings.is_ramp
    target = f"; target {settings.temperature_K:g}" if has_target else ""
    temperature = f"{result.mean_temperature_K:.0f}"
    if result.mean_temperature_error_K is not None:
        temperature += f" +- {result.mean_temperature_error_K:.0f}"
    return f"{temperature} K (mean of second half{target}{origin})"


def _energy_text(result: MDResult, settings: MDSettings) -> str:
    drift = result.energy_drift_meV_per_atom_per_ps
    text = f"drift {drift:.3g} meV/atom/ps" if drift is not None else ""
    if drift is None:
        change = result.conserved_energy_change_meV_per_atom
        text = f"changed by {change:.3g} meV/atom"
    ensemble = find_ensemble(settings)
    if ensemble.has_barostat:
        return f"{text}, that of thermostat and barostat included"
    return (
        f"{text}, heat of the thermostat left out" if ensemble.has_thermostat else text
    )
