"""``jmp-train export``: a run -> a weights file."""

from __future__ import annotations

from pathlib import Path

import click

from jmp_calc.cli import CONTEXT
from jmp_train.cli import FOLDER


@click.command(context_settings=CONTEXT)
@click.argument("run", type=FOLDER)
@click.option(
    "--best", is_flag=True, help="The best validation's weights, not the last ones."
)
@click.option("--raw", is_flag=True, help="The weights themselves, not their average.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file; by default NAME.safetensors in the folder of the run.",
)
def export(*, run: Path, best: bool, raw: bool, out: Path | None) -> None:
    """Write the averaged weights of a run as a weights file.

    RUN is the folder of a run, or one of its checkpoints (RUN/checkpoints/step-...).
    Neither data nor the weights that the run started from are needed.

    Example: jmp-train export runs/nano --out mine.safetensors
    """
    from jmp_train.export import export_weights

    click.echo(export_weights(run, out, is_best=best, is_averaged=not raw))
