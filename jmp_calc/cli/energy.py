"""``jmp-md energy``: single points of whole files."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_INTERRUPTED, EXIT_USAGE
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.frames import FrameChoice
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
    ResumableOptions,
    settings_options,
)
from jmp_calc.cli.structures import Source, Structure, unique_names
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.energy import EnergyResult, EnergySettings, run_energy
from jmp_calc.sim.energy.files import EnergyFiles
from jmp_calc.sim.energy.labels import ErrorStatistics
from jmp_calc.sim.energy.picture import plot_energies
from jmp_calc.sim.energy.single_points import INTERRUPTED

MANY = "all"
"""First part of the names of table and summary for several files."""

ERROR_LABELS = {
    "energy_meV_per_atom": ("energy", "meV/atom"),
    "forces_eV_per_A": ("forces", "eV/Å"),
    "stress_GPa": ("stress", "GPa"),
}
"""Errors: how they are called on the screen, and their unit."""


@click.command(cls=HintingCommand)
@click.argument(
    "inputs",
    metavar="INPUT...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@click.option(
    "--frame",
    default=":",
    show_default=True,
    help="Structures to take from each file: ':' all, 0 the first, -1 the last, or "
    "start:stop:step.",
)
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model")
@settings_options(EnergySettings, "settings")
@settings_options(CampaignOptions, "campaign")
def energy(
    *,
    inputs: Sequence[Path],
    frame: str,
    model: ModelOptions,
    settings: EnergySettings,
    output: OutputOptions,
    campaign: CampaignOptions,
) -> int:
    """Compute all structures in INPUT... as they are.

    INPUT is any file that ASE reads, of any length. Writes for each file the structures
    with jmp_energy (eV), jmp_forces (eV/angstrom) and, for crystals, jmp_stress
    (eV/angstrom^3, Voigt) as extended XYZ, and for all a CSV table and a YAML summary.
    Labels of the file (REF_energy, REF_forces, REF_stress, or results of its own) are
    compared with. A structure that cannot be computed does not stop the others; the
    table says why.

    Exit codes: 0 done, 1 bug, 2 usage or input, also of single structures, 130
    interrupted.

    Example: jmp-md energy test.xyz --model jmp-nano --head qm7x --plot
    """
    if output.plot:
        require_matplotlib()
    choice = FrameChoice.from_text(frame)
    stems = [Source(path=path).stem for path in inputs]
    paths = dict(zip(unique_names(stems), inputs, strict=True))
    names = list(paths)
    if campaign.is_asked:
        from jmp_calc.cli.campaigns.campaign import Campaign
        from jmp_calc.cli.campaigns.works import EnergyWork

        code = Campaign(
            verb="energy",
            structures=[
                replace(structure, name=f"{structure.name}-{structure.frame}")
                for structure in _structures(paths, choice, sys.maxsize)
            ],
            model=model,
            output=output,
            options=campaign,
            settings=[settings],
            work=EnergyWork(
                settings=settings,
                sources={path: name for name, path in paths.items()},
            ),
            per_task=256,
        ).run()
        if output.plot and output.out is not None:
            table = output.out / "all-energy.csv"
            if table.exists():
                plot_energies(table, _picture(output.out, MANY, output), title=MANY)
        return code
    for path in inputs:
        choice.first(path)
    structures = list(_structures(paths, choice, 1))
    stem = names[0] if len(names) == 1 else MANY

    def files(folder: Path) -> list[Path]:
        found = EnergyFiles.under(folder, stem, names).paths()
        return [*found, _picture(folder, stem, output)] if output.plot else found

    # the first of a long file may be the one that the model does not know
    samples = _structures(paths, choice, settings.chunk)
    with open_job(
        structures, model, output, name=stem, files=files, samples=samples
    ) as job:
        counts = [choice.count(path) for path in inputs]
        total = None if None in counts else sum(n for n in counts if n is not None)
        _print_start(structures, total, job)
        with tqdm(total=total, unit="structure", disable=None, leave=False) as bar:
            result = run_energy(
                {name: choice.read(path) for name, path in paths.items()},
                settings,
                calculator=job.calculator,
                out=job.folder,
                stem=stem,
                overwrite=job.overwrite,
                provenance=_provenance(job, structures, frame),
                progress=bar.update,
            )
        if output.plot and result.n_structures:
            plot_energies(
                result.files.table,
                _picture(job.folder, stem, output),
                title=f"{stem}: {describe_model(job.about)}",
            )
        _print_end(result, output, job, stem)
        if result.status == INTERRUPTED:
            return job.ended(EXIT_INTERRUPTED)
        # those that were refused would be refused again
        job.ended(EXIT_DONE)
        return EXIT_USAGE if result.n_failed else EXIT_DONE


def _structures(
    paths: Mapping[str, Path], choice: FrameChoice, most: int
) -> Iterator[Structure]:
    """Yield some of the structures of each file."""
    for name, path in paths.items():
        for number, atoms in itertools.islice(choice.read(path), most):
            yield Structure(path=path, frame=number, name=name, atoms=atoms)


def _provenance(
    job: Job, structures: Sequence[Structure], frame: str
) -> Mapping[str, Any]:
    found = job.common_provenance(structures)
    return {**found, "inputs": {**found["inputs"], "frames": frame}}


def _picture(folder: Path, stem: str, output: OutputOptions) -> Path:
    return folder / f"{stem}-energy.{output.picture_format}"


def _print_start(structures: Sequence[Structure], total: int | None, job: Job) -> None:
    first = structures[0]
    more = len(structures) - 1
    print_facts(
        {
            "first": describe_structure(first),
            "structures": (f"{total}" if total is not None else "all")
            + (f" in {more + 1} files" if more else ""),
            "model": describe_model(job.about),
            "forces": describe_forces(job.about),
        }
    )
    for note in job.about["notes"]:
        print_facts({"note": note})


def _print_end(
    result: EnergyResult, output: OutputOptions, job: Job, stem: str
) -> None:
    good = result.n_structures - result.n_failed
    rate = result.n_structures / result.wall_seconds
    if result.errors:
        _print_errors(result.errors)
    if result.n_structures:
        files = result.files
        where = next(iter(files.structures.values()))
        if len(files.structures) > 1:
            where = job.folder / "NAME-energy.xyz"
        print_facts(
            {
                "done": f"{good} structures in {result.wall_seconds:.1f} s "
                f"({rate:.1f} per second)",
                "failed": result.n_failed or None,
                "spread": None
                if result.max_force_std_eV_per_A is None
                else "of the models up to "
                f"{result.max_force_std_eV_per_A:.3g} eV/Å on an atom",
                "results": where,
                "table": files.table,
                "summary": files.summary,
                "picture": _picture(job.folder, stem, output) if output.plot else None,
            }
        )
    if result.first_problem is not None:
        print(
            f"jmp-md: {result.n_failed} of {result.n_structures} structures could not "
            f"be computed; the first: {result.first_problem}",
            file=sys.stderr,
        )
    if result.reason is not None:
        print(f"jmp-md: interrupted: {result.reason}", file=sys.stderr)


def _print_errors(errors: Mapping[str, ErrorStatistics]) -> None:
    print(
        f"\n  {'result - label':22s} {'values':>9s} {'mean':>11s} {'MAE':>11s} "
        f"{'RMSE':>11s} {'scatter':>12s}"
    )
    for name, found in errors.items():
        label, unit = ERROR_LABELS[name]
        print(
            f"  {f'{label} ({unit})':22s} {found.n_values:9d} {found.mean:11.4g} "
            f"{found.mae:11.4g} {found.rmse:11.4g} {found.spread:12.4g}"
        )
    print("  scatter: RMSE about the mean, for labels that count from another zero\n")
