"""``jmp-train data download``: the published files of a set."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jmp_calc.cli import CONTEXT
from jmp_train.cli import FOLDER
from jmp_train.cli.data_prepare import find_family


@click.command(context_settings=CONTEXT)
@click.argument("set_name", metavar="SET")
@click.option("--to", "folder", type=FOLDER, help="Folder for the files.")
@click.option("--file", "names", multiple=True, help="Only this file; may be repeated.")
@click.option(
    "--list", "only_list", is_flag=True, help="Show the files, fetch nothing."
)
def download(
    *, set_name: str, folder: Path | None, names: tuple[str, ...], only_list: bool
) -> None:
    """Fetch the published files of SET.

    An interrupted transfer goes on where it ended. Size and hash are checked where they
    are published. Archives are not unpacked.

    Example: jmp-train data download rmd17 --to downloads
    """
    from jmp_calc.errors import ArgumentError
    from jmp_calc.pretrained.transfer import size_text
    from jmp_train.data.download import choose_files, fetch_files
    from jmp_train.text_table import text_table

    family = find_family(set_name)
    files = choose_files(family, names)
    click.echo(f"{'set':9s}{family.title}\n{'licence':9s}{family.licence}\n")
    if only_list:
        rows = [("file", "size", "hash", "from")]
        rows += [
            (
                file.file,
                size_text(file.size) if file.size else "?",
                "sha256" if file.sha256 else "md5" if file.md5 else "–",
                file.url,
            )
            for file in files
        ]
        click.echo(text_table(rows))
        return
    if folder is None:
        raise ArgumentError("say where the files are to go: --to downloads")
    # before the progress bar, which goes to stderr
    sys.stdout.flush()
    for found in fetch_files(files, folder):
        state = "was there" if found.was_there else "downloaded"
        click.echo(f"{state:12s}{found.path} ({found.check})")
    click.echo(f"\nprepare makes stores of it; it wants {family.formats}")
