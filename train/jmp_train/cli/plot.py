"""``jmp-train plot``: curves of runs."""

from __future__ import annotations

from pathlib import Path

import click

from jmp_calc.cli import CONTEXT
from jmp_train.cli import FOLDER

PICTURE = "curves.png"
"""Name of the picture in the folder of a run."""


@click.command(context_settings=CONTEXT)
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Picture to write (.png, .pdf, .svg). Of one run it is curves.png in its "
    "folder by default, of several curves.png here.",
)
def plot(*, runs: tuple[Path, ...], out: Path | None) -> None:
    """Draw losses, validation errors, learning rate and speed of runs.

    RUNS are folders of runs; they may still be training. Several are drawn into one
    picture to compare them.

    Example: jmp-train plot runs/nano runs/larger --out compared.png
    """
    from jmp_train.plots.curves import plot_runs

    picture = out or (runs[0] / PICTURE if len(runs) == 1 else Path(PICTURE))
    for note in plot_runs(runs, picture):
        click.echo(note, err=True)
    click.echo(str(picture))
