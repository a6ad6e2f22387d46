"""``jmp-train data check`` and ``stats``: are stores intact, and what is in them?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT, EXIT_DONE, EXIT_USAGE
from jmp_train.cli import FOLDER


def _bar_of(store: Path) -> tuple[tqdm[Any], Callable[[int], None]]:
    """Return a progress bar over the records of a store, and what moves it."""
    from jmp_train.data.header import read_header

    total = read_header(store)["n_systems"]
    bar: tqdm[Any] = tqdm(
        total=total, desc=store.name, unit="system", disable=None, leave=False
    )

    def move(n: int) -> None:
        bar.update(n - bar.n)

    return bar, move


def _stores_in(path: Path) -> list[Path]:
    """Return a store itself, or the stores in a folder."""
    from jmp_train.data.header import HEADER

    inside = [] if (path / HEADER).is_file() else sorted(path.glob(f"*/{HEADER}"))
    return [file.parent for file in inside] or [path]


@click.command(context_settings=CONTEXT)
@click.argument("stores", type=FOLDER, nargs=-1, required=True)
def check(*, stores: tuple[Path, ...]) -> int:
    """Verify every record of STORES, which are stores or folders of stores.

    Checksums, layout, finite values, sizes, counts of labels and the fingerprint. The
    exit code is 2 if anything is wrong.

    Example: jmp-train data check stores
    """
    from jmp_train.prepare.verify import check_store

    code = EXIT_DONE
    for store in (store for path in stores for store in _stores_in(path)):
        bar, move = _bar_of(store)
        with bar:
            found = check_store(store, progress=move)
        if not found.n_faults:
            click.echo(f"intact    {store}: {found.n_systems} systems")
            continue
        code = EXIT_USAGE
        click.echo(f"damaged   {store}: {found.n_faults} faults; prepare it again")
        for fault in found.faults:
            click.echo(f"  {fault}")
        if found.n_faults > len(found.faults):
            click.echo(f"  and {found.n_faults - len(found.faults)} more")
    return code


@click.command(context_settings=CONTEXT)
@click.argument("store", type=FOLDER)
def stats(*, store: Path) -> int:
    """Count the statistics of STORE in one pass and compare them with its header.

    Printed are reference energies, sigma_E, sigma_F and the like. The exit code is 2 if
    the header says something else.

    Example: jmp-train data stats stores/qm9-train
    """
    from jmp_train.prepare.verify import measure_store, statistics_text

    bar, move = _bar_of(store)
    with bar:
        found = measure_store(store, progress=move)
    click.echo(statistics_text(store, found.statistics))
    if not found.differences:
        click.echo("\nthe header says the same")
        return EXIT_DONE
    click.echo("\nthe header says something else; prepare the store again")
    for difference in found.differences:
        click.echo(f"  {difference}")
    return EXIT_USAGE
