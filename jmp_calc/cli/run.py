"""``jmp-md run``: molecular dynamics from a structure file."""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNSTABLE
from jmp_calc.cli.options import (
    ModelOptions,
    Source,
    settings_options,
    source_argument,
)
from jmp_calc.errors import ArgumentError
from jmp_calc.sim.ensembles import ENSEMBLES
from jmp_calc.sim.md import MDResult, run_md
from jmp_calc.sim.observables import Observables
from jmp_calc.sim.plot import plot_md, require_matplotlib
from jmp_calc.sim.report import MDFiles
from jmp_calc.sim.settings import TRAJECTORY_FORMATS, MDSettings

EXIT_OF_STATUS = {
    "completed": EXIT_DONE,
    "interrupted": EXIT_INTERRUPTED,
    "unstable": EXIT_UNSTABLE,
}
"""Exit code by the status of a run."""


def build_calculator(options: ModelOptions) -> Any:
    """Return the calculator that the options ask for."""
    from jmp_calc.calculator import JMPCalculator

    return JMPCalculator(
        options.model,
        head=options.head,
        forces=options.forces,
        device=options.device,
        dtype=options.dtype,
    )


@click.command()
@source_argument
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; by default a new one, runs/INPUT-1, -2, ...",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files in --out.")
@click.option("--plot", is_flag=True, help="Also draw energy and temperature (PNG).")
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
    out: Path | None,
    overwrite: bool,
    plot: bool,
    allow_direct_forces: bool,
) -> int:
    """Run molecular dynamics of the structure in INPUT.

    INPUT is any file that ASE reads. Velocities in it are used; otherwise they are
    drawn at --temperature-K. Writes a trajectory, a CSV of energies and temperatures,
    the last structure and a YAML summary.
    """
    atoms = source.load()
    stem = source.path.stem
    folder = out or _new_folder(stem)
    files = MDFiles.under(folder, stem, settings.trajectory_format)
    files.check(overwrite=overwrite)
    picture = folder / f"{stem}-md.png"
    if plot:
        require_matplotlib()
    atoms.calc = build_calculator(model)
    about = atoms.calc.describe(atoms)
    if settings.ensemble == "nve" and not allow_direct_forces:
        _require_conservative(about)
    _print_start(source, atoms, settings, about)
    provenance = {
        "inputs": {
            "file": source.path,
            "frame": source.frame,
            "sha256": hashlib.sha256(source.path.read_bytes()).hexdigest(),
            "command": sys.argv[1:],
        },
        "model": {**about, "device": model.device, "dtype": model.dtype},
    }
    with tqdm(total=settings.steps, unit="step", disable=None, leave=False) as bar:

        def show(row: Observables) -> None:
            bar.set_postfix_str(f"{row.temperature_K:.0f} K", refresh=False)
            bar.update(row.step - bar.n)

        result = run_md(
            atoms,
            settings,
            out=folder,
            stem=stem,
            overwrite=overwrite,
            provenance=provenance,
            progress=show,
        )
    if plot:
        target = settings.temperature_K if settings.ensemble == "nvt" else None
        title = f"{stem}, {about['model']}, {about['head']}"
        plot_md(files.observables, picture, title=title, target_K=target)
    _print_end(result, settings, picture if plot else None)
    return EXIT_OF_STATUS[result.status]


def _new_folder(stem: str) -> Path:
    candidates = (Path("runs") / f"{stem}-{n}" for n in itertools.count(1))
    return next(folder for folder in candidates if not folder.exists())


def _require_conservative(about: dict[str, Any]) -> None:
    if not about["is_conservative"]:
        raise ArgumentError(
            f"nve needs forces that are the gradient of the energy, but head "
            f"{about['head']!r} of {about['model']} gives direct forces; use "
            "--forces gradient, --ensemble nvt, or --allow-direct-forces"
        )


def _print_start(
    source: Source, atoms: Atoms, settings: MDSettings, about: dict[str, Any]
) -> None:
    periodic = "".join(
        axis for axis, is_on in zip("xyz", atoms.pbc, strict=True) if is_on
    )
    kind = "conservative" if about["is_conservative"] else "not conservative"
    boundary = f"periodic in {periodic}" if periodic else "not periodic"
    lines = {
        "structure": f"{source.path}: {atoms.get_chemical_formula()}, "
        f"{len(atoms)} atoms, {boundary}",
        "model": f"{about['model']}, head {about['head']} ({about['level_of_theory']})",
        "forces": f"{about['forces']}, {kind}",
        "run": f"{settings.ensemble}, {settings.temperature_K:g} K, {settings.steps} "
        f"steps of {settings.timestep_fs:g} fs = {settings.duration_ps:g} ps, "
        f"seed {settings.seed}",
    }
    for label, text in lines.items():
        print(f"{label:12s}{text}")
    for note in about["notes"]:
        print(f"{'note':12s}{note}")
    # before the progress bar, which goes to stderr
    sys.stdout.flush()


def _print_end(result: MDResult, settings: MDSettings, picture: Path | None) -> None:
    rate = result.n_steps / result.wall_seconds
    error = result.mean_temperature_error_K
    drift = result.energy_drift_meV_per_atom_per_ps
    target = (
        f"; target {settings.temperature_K:g}" if settings.ensemble == "nvt" else ""
    )
    origin = "" if result.has_new_velocities else "; velocities from the input"
    temperature = f"{result.mean_temperature_K:.0f}"
    if error is not None:
        temperature += f" +- {error:.0f}"
    lines = {
        result.status: f"{result.n_steps} steps in {result.wall_seconds:.1f} s "
        f"({rate:.1f} steps/s)",
        "temperature": f"{temperature} K (mean of second half{target}{origin})",
        "energy": "too few rows for a drift"
        if drift is None
        else f"drift {drift:.3g} meV/atom/ps, heat of the thermostat left out",
        "trajectory": f"{result.files.trajectory} ({result.n_frames} frames)",
        "observables": str(result.files.observables),
        "final": str(result.files.final),
        "summary": str(result.files.summary),
    }
    if picture is not None:
        lines["picture"] = str(picture)
    for label, text in lines.items():
        print(f"{label:12s}{text}")
    if result.reason is not None:
        sys.stdout.flush()
        print(f"jmp-md: {result.status}: {result.reason}", file=sys.stderr)
