"""``jmp-train data``: published files -> stores, and what can be asked of stores."""

from __future__ import annotations

from pathlib import Path

import click

from jmp_calc.cli import CONTEXT
from jmp_train.cli import FOLDER


@click.group(context_settings=CONTEXT)
def data() -> None:
    """Turn published data files into stores."""


@data.command()
@click.argument("root", type=FOLDER)
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder for the stores; stores of the same name are replaced.",
)
@click.option("--task", "tasks", multiple=True, help="Only this task; may be repeated.")
def prepare(*, root: Path, out: Path, tasks: tuple[str, ...]) -> None:
    """Write the stores of all tasks from the data sets in ROOT.

    ROOT has one folder per data set, with the files as published. Molecules that are
    kept for tests (those of rMD17) are left out; the rest is split into train, val and
    test by a hash of each structure, so that the parts never change.

    Example: jmp-train data prepare ~/data --out stores
    """
    from jmp_train.prepare import label_table
    from jmp_train.prepare import prepare as write_stores

    written = write_stores(root, out, tasks=tasks or None, progress=click.echo)
    click.echo(f"\n{label_table(written)}\n\nstores are in {out}")
