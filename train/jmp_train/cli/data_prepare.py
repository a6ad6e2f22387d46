"""``jmp-train data prepare``: published or own files -> stores, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT
from jmp_calc.cli.options import HintingCommand, settings_options
from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.cli import FOLDER
from jmp_train.data.source import FamilyInfo, FamilyOptions

if TYPE_CHECKING:
    from jmp_train.prepare import PrepareProgress


def find_family(name: str) -> FamilyInfo:
    """Return a family of sets.

    Args:
        name: Key of ``FAMILIES``.

    Raises:
        ArgumentError: If there is none of that name.
    """
    from jmp_train.data.families import FAMILIES

    if name not in FAMILIES:
        raise ArgumentError(
            f"unknown set {name!r}; choose from {', '.join(FAMILIES)} "
            "(user: anything with labels that ASE reads)" + did_you_mean(name, FAMILIES)
        )
    return FAMILIES[name]


@click.command(context_settings=CONTEXT, cls=HintingCommand)
@click.argument("set_name", metavar="SET")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    help="Folder for the stores; stores of the same name are replaced when the new "
    "ones are complete.",
)
@settings_options(FamilyOptions, "options", aliases={"targets": "--target"})
@click.option(
    "--exclude-rmd17",
    is_flag=True,
    help="Leave out systems that hold a molecule of rMD17, to test on those later.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Processes that read; by default one for each core.",
)
def prepare(
    *,
    set_name: str,
    source: Path,
    out: Path,
    options: FamilyOptions,
    exclude_rmd17: bool,
    processes: int | None,
) -> None:
    """Turn the files of a set into stores.

    SET is a family of sets: ani1x, transition1x, qm9, rmd17, md22, spice, oc20, oc22,
    matbench, qmof, or user for anything with labels that ASE reads, and a few more that
    an unknown name lists. SOURCE is its file or folder. An option that the family has
    no use for is an error.

    The same command goes on where it was interrupted. Each set gets a report with
    tables and a picture in OUT/NAME-report.

    Example: jmp-train data prepare rmd17 downloads/rmd17 --variant aspirin --out stores
    """
    family = find_family(set_name)
    if not source.exists():
        raise ArgumentError(f"there is no {source}; SOURCE must be {family.formats}")
    from jmp_train.data.families import open_sources
    from jmp_train.prepare import prepare as write_stores

    sources = open_sources(family, source, options)
    with _Bar() as bar:
        prepared = write_stores(
            sources,
            out,
            processes=processes,
            exclude_rmd17=exclude_rmd17,
            progress=bar.show,
        )
    for entry in prepared:
        text = (entry.report / "report.txt").read_text(encoding="utf-8")
        click.echo(f"{text}\nreport   {entry.report}\n")


class _Bar:
    """Shows how far a preparation is."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, now: PrepareProgress) -> None:
        if now.stage != self._stage:
            self.__exit__()
            if now.n_resumed:
                click.echo(f"{now.n_resumed} parts were finished before", err=True)
            unit = "part" if now.stage == "read" else "shard"
            self._bar = tqdm(
                total=now.total,
                initial=now.n_resumed,
                desc=now.stage,
                unit=unit,
                disable=None,
            )
            self._stage = now.stage
        self._bar.n = now.done
        if now.stage == "read":
            self._bar.set_postfix_str(f"{now.n_systems} systems", refresh=False)
        self._bar.refresh()
