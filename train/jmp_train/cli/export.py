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
    """Write the weights of a run as a weights file.

    Of a run that has ended it is the file that the run left; else, and with --best and
    --raw, the (averaged) weights of a checkpoint.

    RUN is the folder of a run, or one of its checkpoints (RUN/checkpoints/step-...).
    Neither data nor the weights that the run started from are needed.

    Example: jmp-train export runs/nano --out mine.safetensors
    """
    from jmp_calc.files import copy_file
    from jmp_train.export import export_weights, finished_weights

    left = None if raw else finished_weights(run)
    if left is not None:
        file, _ = left
        click.echo(file if out is None else copy_file(file, out))
        return
    click.echo(export_weights(run, out, is_best=best, is_averaged=not raw))
