"""``jmp-train evaluate``: errors of trained weights, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jmp_calc.cli import CONTEXT
from jmp_train.cli import FOLDER


@click.command(context_settings=CONTEXT)
@click.argument("weights", metavar="WEIGHTS_OR_RUN")
@click.option(
    "--stores", type=FOLDER, help="Folder of stores; of a run, if they moved."
)
@click.option(
    "--data",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="File or folder that ASE reads, instead of stores; may be repeated.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Part of the stores to score.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Task of the run, or store; may be repeated. Default: all.",
)
@click.option(
    "--head", help="Head that predicts; default: the one called like the set."
)
@click.option(
    "--out",
    type=FOLDER,
    help="Folder of the report; default: evaluation-SPLIT in that of the run, or here.",
)
@click.option("--best", "is_best", is_flag=True, help="Of a run, its best checkpoint.")
@click.option(
    "--raw",
    "is_raw",
    is_flag=True,
    help="Weights of the last step, not the averaged ones, of a run.",
)
@click.option(
    "--frames",
    "has_frames",
    is_flag=True,
    help="Write the predicted forces of every atom as extended XYZ, too.",
)
@click.option(
    "--pictures/--no-pictures",
    "has_pictures",
    default=True,
    show_default=True,
    help="Draw predictions against labels.",
)
@click.option(
    "--limit", type=click.IntRange(1), help="Systems of each set; default: all."
)
@click.option(
    "--max-atoms",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Atoms in a batch.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
def evaluate(*, is_raw: bool, **options: Any) -> None:
    """Measure the errors of weights on labelled systems.

    WEIGHTS_OR_RUN is a name (jmp-nano), a weights file, or the folder of a run; of a
    run that has ended its weights file is measured, of another its last checkpoint. The
    report (report.md, report.json) has errors by set, element and number of atoms,
    beside published ones where there are any, with pictures and a CSV of predictions.

    Example: jmp-train evaluate runs/nano --split val

    Example: jmp-train evaluate jmp-nano --head qm7x --data mine.extxyz
    """
    from tqdm import tqdm

    from jmp_train.evaluation.report import notes
    from jmp_train.evaluation.run import (
        REPORT,
        EvaluationSettings,
        run_evaluation,
    )
    from jmp_train.metrics import error_table
    from jmp_train.runlog import RunLog, errors_name, errors_to_json

    settings = EvaluationSettings(is_averaged=not is_raw, **options)
    seen: set[str] = set()
    with tqdm(unit="system", disable=None) as bar:

        def show(name: str, n: int, added: int) -> None:
            if name not in seen:
                seen.add(name)
                bar.reset(total=n)
                bar.set_description(name)
            bar.update(added)

        found = run_evaluation(settings, show)
    measured, errors = found.measured, {s.name: s.errors for s in found.scores}
    is_whole = not (settings.data or settings.limit or settings.head)
    is_of_run = settings.stores is None and not settings.tasks
    if measured.run is not None and is_whole and is_of_run:
        facts = {
            "split": settings.split,
            "step": measured.step,
            "tasks": errors_to_json(errors),
        }
        RunLog(measured.run).write(errors_name(settings.split), facts)
    step = "" if measured.step is None else f", step {measured.step}"
    part = "data" if settings.data else f"{settings.split} part"
    click.echo(f"mean absolute errors, {part}{step}\n{error_table(errors)}")
    for score in found.scores:
        for note in notes(score):
            click.echo(f"{score.name}: {note}")
    click.echo(f"\nreport: {found.out / REPORT}")
