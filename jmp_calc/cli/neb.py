"""``jmp-md neb``: the barrier between two structures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jmp_calc.cli import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    EXIT_UNSTABLE,
)
from jmp_calc.cli.each import ProgressBar, print_job
from jmp_calc.cli.job import (
    Job,
    describe_model,
    describe_structure,
    open_job,
    print_facts,
)
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    OutputOptions,
    ResumableOptions,
    settings_options,
)
from jmp_calc.cli.structures import Structure, structures_argument
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.neb.settings import NebSettings, neb_files

if TYPE_CHECKING:
    from jmp_calc.sim.neb.calculation import NebResult


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model")
@settings_options(NebSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
def neb(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: NebSettings,
    output: OutputOptions,
) -> int:
    """Barrier between two structures, by a nudged elastic band with climbing image.

    INPUT... are two files with the end points, atoms in the same order; or one file and
    --frame ':' with the end points or a whole path, such as the -path.xyz of a band
    that is to go on. Writes energies along the path and steps (CSV; Å, eV, eV/Å), the
    path and the saddle point (extended XYZ), and a YAML summary. A true saddle point
    has one imaginary mode: jmp-md vibrations initial-saddle.xyz.

    Exit codes: 0 converged, 1 bug, 2 usage or input; with files written 3 not
    converged, 4 unstable (an image could not be computed any more), 130 interrupted.

    Example: jmp-md neb initial.xyz final.xyz --images 7 --relax-ends --plot
    """
    if output.plot:
        require_matplotlib()
    stem = structures[0].name

    def files(folder: Path) -> list[Path]:
        pictures = [_picture(folder, stem, output)] if output.plot else []
        return [*neb_files(folder, stem).values(), *pictures]

    with open_job(structures, model, output, name=f"{stem}-neb", files=files) as job:
        print_job(job)
        return job.ended(_work(structures, settings, output, job))


def _work(
    structures: Sequence[Structure],
    settings: NebSettings,
    output: OutputOptions,
    job: Job,
) -> int:
    # ASE's bands take a while to import, which --help must not wait for
    from jmp_calc.sim.neb.calculation import INTERRUPTED, UNSTABLE, run_neb
    from jmp_calc.sim.neb.picture import plot_neb

    _print_start(structures, settings, job)
    stem = structures[0].name
    with ProgressBar("step") as bar:
        result = run_neb(
            [structure.atoms for structure in structures],
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=stem,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=lambda step: bar.show(
                step.step,
                settings.steps,
                f"barrier {step.barrier_eV:.3f} eV, largest force "
                f"{step.max_force_eV_per_A:.3g} eV/Å",
            ),
        )
    picture = None
    if output.plot:
        picture = _picture(job.folder, stem, output)
        plot_neb(result, picture, title=f"{stem}: {describe_model(job.about)}")
    _print_result(result)
    print_facts({**result.files, "picture": picture})
    for note in result.notes:
        print(f"jmp-md: {stem}: warning: {note}", file=sys.stderr)
    if result.is_converged:
        return EXIT_DONE
    print(f"jmp-md: {stem}: {result.status}: {result.reason}", file=sys.stderr)
    codes = {INTERRUPTED: EXIT_INTERRUPTED, UNSTABLE: EXIT_UNSTABLE}
    return codes.get(result.status, EXIT_NOT_CONVERGED)


def _picture(folder: Path, stem: str, output: OutputOptions) -> Path:
    return folder / f"{stem}-neb.{output.picture_format}"


def _print_start(
    structures: Sequence[Structure], settings: NebSettings, job: Job
) -> None:
    is_path = len(structures) > 2
    band = f"{settings.images} images by {settings.interpolation}"
    if is_path:
        band = f"{len(structures) - 2} images from the input"
    climb = "" if settings.skip_climb else ", the highest climbs"
    print_facts(
        {
            "from": describe_structure(structures[0]),
            "to": describe_structure(structures[-1]),
            "band": f"{band}, by {settings.optimizer} to {settings.fmax_eV_per_A:g} "
            f"eV/Å{climb}",
            "note": None
            if job.about["is_conservative"]
            else "direct forces need not fit the energies along the path; "
            "--forces gradient is safer",
        }
    )


def _print_result(result: NebResult) -> None:
    last = result.steps[-1]
    print("\n  image  path (Å)  energy (eV)")
    rows = zip(result.fit.path, result.energies, strict=True)
    for number, (length, energy) in enumerate(rows):
        mark = "  highest" if number == result.saddle else ""
        print(f"  {number:5d}  {length:8.3f}  {energy:11.4f}{mark}")
    print()
    print_facts(
        {
            "done": f"{result.status} after {last.step} steps, largest force "
            f"{last.max_force_eV_per_A:.3g} eV/Å",
            "barrier": f"{result.barrier:.4f} eV forward, {result.back_barrier:.4f} eV "
            f"backward (curve: {result.fitted_barrier_eV:.4f} eV)",
            "reaction": f"{result.reaction_energy:+.4f} eV",
        }
    )
