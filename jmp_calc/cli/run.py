"""``jmp-md run``: molecular dynamics from a structure file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNSTABLE
from jmp_calc.cli.job import (
    Job,
    describe_forces,
    describe_model,
    describe_structure,
    open_job,
    print_facts,
)
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    OutputOptions,
    Source,
    Structure,
    settings_options,
    source_argument,
)
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES, usual_timestep_fs
from jmp_calc.sim.dynamics.files import MDFiles
from jmp_calc.sim.dynamics.md import MDResult, run_md
from jmp_calc.sim.dynamics.observables import Observables
from jmp_calc.sim.dynamics.picture import plot_md
from jmp_calc.sim.dynamics.settings import TRAJECTORY_FORMATS, MDSettings

EXIT_OF_STATUS = {
    "completed": EXIT_DONE,
    "interrupted": EXIT_INTERRUPTED,
    "unstable": EXIT_UNSTABLE,
}
"""Exit code by the status of a run."""

XYZ_CONSTRAINTS = {"FixAtoms", "FixCartesian"}
"""Constraints that extended XYZ can hold."""


@click.command(cls=HintingCommand)
@source_argument
@settings_options(OutputOptions, "output")
@click.option(
    "--allow-direct-forces",
    is_flag=True,
    help="Let nve run with direct forces, which do not conserve energy.",
)
@settings_options(ModelOptions, "model")
@settings_options(
    MDSettings,
    "settings",
    choices={
        "ensemble": list(ENSEMBLES),
        "trajectory_format": list(TRAJECTORY_FORMATS),
    },
    aliases={"friction_per_fs": "--friction"},
)
def run(
    *,
    source: Source,
    model: ModelOptions,
    settings: MDSettings,
    output: OutputOptions,
    allow_direct_forces: bool,
) -> int:
    """Run molecular dynamics of the structure in INPUT.

    INPUT is any file that ASE reads. Velocities in it are used; otherwise they are
    drawn at --temperature-K. Writes a trajectory, a CSV of energies and temperatures,
    the last structure and a YAML summary. Ctrl-C ends the run early with valid files.

    Exit codes: 0 done, 1 bug, 2 usage or input, 4 unstable, 130 interrupted.
    """
    atoms = source.load()
    stem = source.stem
    structure = Structure(path=source.path, frame=source.frame, name=stem, atoms=atoms)
    if output.plot:
        require_matplotlib()
    picture = None
    with open_job(
        [structure],
        model,
        output,
        name=stem,
        files=lambda folder: astuple(
            MDFiles.under(folder, stem, settings.trajectory_format)
        ),
    ) as job:
        atoms.calc = job.calculator
        if settings.ensemble == "nve":
            job.require_conservative("nve", is_allowed=allow_direct_forces)
        _print_start(structure, settings, job.about)
        with tqdm(total=settings.steps, unit="step", disable=None, leave=False) as bar:

            def show(row: Observables) -> None:
                bar.set_postfix_str(f"{row.temperature_K:.0f} K", refresh=False)
                bar.update(row.step - bar.n)

            result = run_md(
                atoms,
                settings,
                out=job.folder,
                stem=stem,
                overwrite=output.overwrite,
                provenance=job.provenance,
                progress=show,
            )
        if output.plot:
            picture = _draw(result, settings, structure, output, job)
    _print_end(result, settings, picture)
    return EXIT_OF_STATUS[result.status]


def _draw(
    result: MDResult,
    settings: MDSettings,
    structure: Structure,
    output: OutputOptions,
    job: Job,
) -> Path:
    observables = result.files.observables
    picture = observables.with_suffix(f".{output.picture_format}")
    plot_md(
        observables,
        picture,
        title=f"{structure.name}: {describe_model(job.about)}",
        target_K=settings.temperature_K if settings.ensemble == "nvt" else None,
    )
    return picture


def _print_start(
    structure: Structure, settings: MDSettings, about: Mapping[str, Any]
) -> None:
    print_facts(
        {
            "structure": describe_structure(structure),
            "model": describe_model(about),
            "forces": describe_forces(about),
            "run": f"{settings.ensemble}, {settings.temperature_K:g} K, "
            f"{settings.steps} steps of {settings.timestep_fs:g} fs = "
            f"{settings.duration_ps:g} ps, seed {settings.seed}",
        }
    )
    for note in [*about["notes"], *_notes(structure.atoms, settings)]:
        print_facts({"note": note})


def _notes(atoms: Atoms, settings: MDSettings) -> list[str]:
    notes = []
    usual_fs = usual_timestep_fs(atoms)
    if settings.timestep_fs > usual_fs:
        notes.append(
            f"a time step of {settings.timestep_fs:g} fs is long for the lightest "
            f"element here; up to {usual_fs:.1f} fs is usual"
        )
    lost = {type(c).__name__ for c in atoms.constraints} - XYZ_CONSTRAINTS
    if lost:
        notes.append(
            f"extended XYZ cannot hold {', '.join(sorted(lost))}; to go on with the "
            "same constraints take the .traj file"
        )
    return notes


def _print_end(result: MDResult, settings: MDSettings, picture: Path | None) -> None:
    rate = result.n_steps / result.wall_seconds
    error = result.mean_temperature_error_K
    drift = result.energy_drift_meV_per_atom_per_ps
    is_nvt = settings.ensemble == "nvt"
    target = f"; target {settings.temperature_K:g}" if is_nvt else ""
    origin = "" if result.has_new_velocities else "; velocities from the input"
    temperature = f"{result.mean_temperature_K:.0f}"
    if error is not None:
        temperature += f" +- {error:.0f}"
    lines = {
        result.status: f"{result.n_steps} steps in {result.wall_seconds:.1f} s "
        f"({rate:.1f} steps/s)",
        "temperature": f"{temperature} K (mean of second half{target}{origin})",
        "energy": (
            f"changed by {result.conserved_energy_change_meV_per_atom:.3g} meV/atom"
            if drift is None
            else f"drift {drift:.3g} meV/atom/ps"
        )
        + (", heat of the thermostat left out" if is_nvt else ""),
        "trajectory": f"{result.files.trajectory} ({result.n_frames} frames)",
        "observables": str(result.files.observables),
        "final": str(result.files.final),
        "summary": str(result.files.summary),
    }
    if picture is not None:
        lines["picture"] = str(picture)
    print_facts(lines)
    if result.reason is not None:
        print(f"jmp-md: {result.status}: {result.reason}", file=sys.stderr)
