"""``jmp-train data conformers`` and ``data make``: from SMILES to labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT
from jmp_calc.cli.options import HintingCommand, settings_options
from jmp_train.cli import FOLDER
from jmp_train.data.making_options import MakingOptions


@click.command(context_settings=CONTEXT)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Extended XYZ file to write.",
)
@click.option(
    "--n",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Conformers of each molecule that are tried; copies are left out.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of all random numbers.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def conformers(*, file: Path, out: Path, n: int, seed: int, overwrite: bool) -> int:
    """Make molecules in three dimensions from the SMILES in FILE.

    FILE has one SMILES a line; # begins a comment. RDKit embeds each (ETKDG) and
    relaxes it (MMFF94, or UFF where that has no parameters). What fails is listed with
    the reason; the exit code is then 3.

    Example: jmp-train data conformers molecules.smi --n 3 --out start.xyz
    """
    from jmp_calc.cli import EXIT_DONE, EXIT_NOT_CONVERGED
    from jmp_calc.errors import DataError
    from jmp_calc.files import replacing
    from jmp_calc.sim.output import check_new, extxyz_text, writing
    from jmp_train.cli.data_make import check_extended_xyz
    from jmp_train.data.conformers import conformers as embedded
    from jmp_train.data.conformers import needing_rdkit, read_list

    check_extended_xyz(out, file)
    check_new([out], overwrite=overwrite)
    needing_rdkit()
    entries = read_list(file)
    failed: list[str] = []
    n_made = 0
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as new, new.open("w", encoding="utf-8") as stream:
            for entry in tqdm(entries, unit="molecule", disable=None):
                try:
                    for atoms in embedded(entry.smiles, n, seed=seed):
                        stream.write(extxyz_text(atoms))
                        n_made += 1
                except DataError as error:
                    failed.append(f"{entry.smiles}: {error}")
            if not n_made:
                raise DataError(f"no molecule was made; {failed[0]}")
    click.echo(f"{n_made} conformers of {len(entries)} molecules in {out}")
    for line in failed:
        click.echo(f"  {line}", err=True)
    return EXIT_NOT_CONVERGED if failed else EXIT_DONE


@click.command(context_settings=CONTEXT, cls=HintingCommand)
@click.argument("name", metavar="RECIPE")
@click.option("--out", type=FOLDER, required=True, help="Folder for all that is made.")
@settings_options(MakingOptions, "options")
def make(*, name: str, out: Path, options: MakingOptions) -> None:
    """Make and label all structures of a recipe.

    RECIPE is xtb: GFN2-xTB molecules, complexes and reactions, from the list of SMILES
    of the project. Needs RDKit and tblite: pip install 'jmp-calc[train,xtb,rdkit]'.

    The same command goes on where it was interrupted. What was made and what failed is
    in OUT/made.json; 'jmp-train data prepare xtb OUT --out STORES' turns it into
    stores.

    Example: jmp-train data make xtb --processes 2 --out made
    """
    from jmp_calc.errors import ArgumentError, did_you_mean
    from jmp_train.data.making import make_data
    from jmp_train.data.recipes import DATA_RECIPES

    if name not in DATA_RECIPES:
        raise ArgumentError(
            f"unknown recipe {name!r}; choose from {', '.join(DATA_RECIPES)}"
            + did_you_mean(name, DATA_RECIPES)
        )
    with _Bars() as bars:
        report = make_data(DATA_RECIPES[name], out, options, bars.show)
    n_labelled = sum(stage.get("labelled", 0) for stage in report.values())
    minutes = sum(stage["seconds"] for stage in report.values()) / 60
    click.echo(f"{n_labelled} labelled structures in {out} ({minutes:.0f} minutes)")


class _Bars:
    """One bar for each stage, with the time left."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, stage: str, n_done: int, n_failed: int, total: int) -> None:
        if stage != self._stage:
            self.__exit__()
            self._stage = stage
            self._bar = tqdm(total=total, initial=n_done, desc=stage, disable=None)
        self._bar.set_postfix_str(f"{n_failed} failed", refresh=False)
        self._bar.update(n_done - self._bar.n)
