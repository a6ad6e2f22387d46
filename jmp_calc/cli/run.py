"""``jmp-md run``: molecular dynamics from a structure file."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_INTERRUPTED, EXIT_UNSTABLE, WORDS
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    Source,
    settings_options,
    source_argument,
)
from jmp_calc.errors import ArgumentError
from jmp_calc.files import file_hash
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES, usual_timestep_fs
from jmp_calc.sim.dynamics.files import MDFiles
from jmp_calc.sim.dynamics.md import MDResult, run_md
from jmp_calc.sim.dynamics.observables import Observables
from jmp_calc.sim.dynamics.picture import plot_md, require_matplotlib
from jmp_calc.sim.dynamics.settings import TRAJECTORY_FORMATS, MDSettings
from jmp_calc.sim.output import writing

EXIT_OF_STATUS = {
    "completed": EXIT_DONE,
    "interrupted": EXIT_INTERRUPTED,
    "unstable": EXIT_UNSTABLE,
}
"""Exit code by the status of a run."""

XYZ_CONSTRAINTS = {"FixAtoms", "FixCartesian"}
"""Constraints that extended XYZ can hold."""


def build_calculator(options: ModelOptions) -> Any:
    """Return the calculator that the options ask for."""
    from jmp_calc.calculator import JMPCalculator

    return JMPCalculator(
        options.model,
        head=options.head,
        forces=options.forces,
        device=options.device,
        dtype=options.dtype,
        tags=options.tags,
        offline=options.offline,
    )


@click.command(cls=HintingCommand)
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
    the last structure and a YAML summary. Ctrl-C ends the run early with valid files.

    Exit codes: 0 done, 1 bug, 2 usage or input, 4 unstable, 130 interrupted.
    """
    atoms = source.load()
    stem = source.stem
    if out is not None:
        MDFiles.under(out, stem, settings.trajectory_format).check(overwrite=overwrite)
    if plot:
        require_matplotlib()
    with _one_line_warnings() as told, _terminated_like_ctrl_c():
        atoms.calc = build_calculator(model)
        about = atoms.calc.describe(atoms)
        told.extend(about["notes"])
        if settings.ensemble == "nve" and not allow_direct_forces:
            _require_conservative(about)
        _print_start(source, atoms, settings, about)
        provenance = {
            "inputs": _inputs(source),
            "model": {**about, "device": model.device, "dtype": model.dtype},
        }
        with (
            _folder(out, stem) as folder,
            tqdm(total=settings.steps, unit="step", disable=None, leave=False) as bar,
        ):

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
    picture = _draw(result, settings, stem, about) if plot else None
    _print_end(result, settings, picture)
    return EXIT_OF_STATUS[result.status]


def _inputs(source: Source) -> dict[str, Any]:
    words = click.get_current_context().meta.get(WORDS, [])
    return {
        "file": source.path,
        "frame": source.frame,
        "sha256": file_hash(source.path),
        "command": shlex.join(["jmp-md", *words]),
        "working_folder": Path.cwd(),
    }


@contextlib.contextmanager
def _folder(out: Path | None, stem: str) -> Iterator[Path]:
    """Give the folder of the results; without --out make one that nobody else has."""
    if out is not None:
        yield out
        return
    for number in itertools.count(1):
        folder = Path("runs") / f"{stem}-{number}"
        with writing(folder), contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    finally:
        # a run that never started leaves nothing, so that its number is free again
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()


@contextlib.contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (a queue's time limit) and SIGHUP end the run with valid files."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    # one that is ignored (nohup) stays ignored
    before = {n: signal.getsignal(n) for n in numbers}
    changed = [n for n in numbers if before[n] == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[list[str]]:
    """Show a warning as a line for people, without the place in the source.

    Gives a list for what has been told already: a warning that starts like an entry is
    not shown.
    """
    show = warnings.showwarning
    told: list[str] = []

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if not str(message).startswith(tuple(told)):
            print(f"jmp-md: warning: {message}", file=sys.stderr)

    warnings.showwarning = tell
    try:
        yield told
    finally:
        warnings.showwarning = show


def _draw(
    result: MDResult, settings: MDSettings, stem: str, about: dict[str, Any]
) -> Path:
    observables = result.files.observables
    picture = observables.with_suffix(".png")
    model = Path(about["model"]).name
    plot_md(
        observables,
        picture,
        title=f"{stem}: {model}, head {about['head']} ({about['level_of_theory']})",
        target_K=settings.temperature_K if settings.ensemble == "nvt" else None,
    )
    return picture


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
    for note in [*about["notes"], *_notes(atoms, settings)]:
        print(f"{'note':12s}{note}")
    # before the progress bar, which goes to stderr
    sys.stdout.flush()


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
    for label, text in lines.items():
        print(f"{label:12s}{text}")
    if result.reason is not None:
        sys.stdout.flush()
        print(f"jmp-md: {result.status}: {result.reason}", file=sys.stderr)
