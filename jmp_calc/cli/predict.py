"""``jmp-md predict``: properties of the structures in a file, as a table."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import click
from ase import Atoms
from tqdm import tqdm

from jmp_calc.cli.job import terminated_like_ctrl_c
from jmp_calc.cli.options import HintingCommand
from jmp_calc.cli.structures import read_frames
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.files import replacing

if TYPE_CHECKING:
    # torch is imported when the command runs, not for its help
    from jmp_calc.calculator import Predictor, Quantity

TABLE_SUFFIX = ".csv"
"""Ending of a table."""
STRUCTURE_SUFFIXES = (".extxyz", ".xyz")
"""Endings of extended XYZ files."""

_CHUNK = 64
"""Structures between two moves of the progress bar."""

Row = dict[str, Any]


@runtime_checkable
class TextSink(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object:
        """Write text."""


@click.command(cls=HintingCommand)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    help="Weights file, or a name from 'jmp-md models'.",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    help="Head to use, may be repeated; by default all that predict a property, or "
    "the energy head that covers each structure.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="New file: .csv, or .extxyz with the values as jmp_NAME; by default the "
    "table is printed.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file at --out.")
@click.option("--device", default="cpu", show_default=True, help="Where to compute.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    default="float32",
    show_default=True,
    help="Precision of the network.",
)
@click.option("--offline", is_flag=True, help="Fail rather than download weights.")
@terminated_like_ctrl_c()
def predict(
    *,
    file: Path,
    model: str,
    heads: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    device: str,
    dtype: Literal["float32", "float64"],
    offline: bool,
) -> None:
    """Predict properties of all structures in FILE, which any format of ASE may be.

    The table has one line per structure; units are in the names of its columns.
    Class heads give probabilities. Structures are checked before any is computed.

    Example: jmp-md predict crystals.extxyz --model gap.safetensors --out gaps.csv
    """
    if out is not None:
        _check_out(out, overwrite=overwrite)
    frames = read_frames(file)

    from jmp_calc.calculator import Predictor

    predictor = Predictor(
        model, heads=heads or None, device=device, dtype=dtype, offline=offline
    )
    for note in _notes(predictor, frames, file):
        print(f"{'note':12s}{note}", file=sys.stderr)
    rows = _rows(predictor, frames)
    if out is None:
        _write_table(sys.stdout, predictor.quantities, frames, rows)
        return
    with _new_text(out) as stream:
        if out.suffix == TABLE_SUFFIX:
            _write_table(stream, predictor.quantities, frames, rows)
        else:
            _write_structures(stream, predictor.quantities, frames, rows)
    print(f"{'structures':12s}{len(frames)} of {file}")
    for quantity in predictor.quantities:
        print(f"{'predicted':12s}{quantity.name} {quantity.unit}".rstrip())
    print(f"{'written':12s}{out}")


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.suffix not in (TABLE_SUFFIX, *STRUCTURE_SUFFIXES):
        raise ArgumentError(
            f"--out is {out}; give a name that ends in {TABLE_SUFFIX} (a table) or "
            f"{' or '.join(STRUCTURE_SUFFIXES)} (extended XYZ)"
        )
    if out.exists() and not overwrite:
        raise ArgumentError(
            f"{out} exists; give another --out, or --overwrite to replace it"
        )


def _notes(predictor: Predictor, frames: Sequence[Atoms], file: Path) -> Iterator[str]:
    """Check every structure; yield each note once, with the first it is about."""
    told: set[str] = set()
    for number, atoms in enumerate(frames):
        try:
            predictor.check(atoms)
            notes = predictor.notes(atoms)
        except UnsupportedSystemError as error:
            error.add_note(f"this is structure {number} of {file}")
            raise
        for note in notes:
            if note not in told:
                told.add(note)
                yield f"structure {number}: {note}" if number else note


def _rows(predictor: Predictor, frames: Sequence[Atoms]) -> Iterator[Row]:
    with tqdm(total=len(frames), unit="structure", disable=None, leave=False) as bar:
        for start in range(0, len(frames), _CHUNK):
            results = predictor.predict(frames[start : start + _CHUNK])
            yield from results
            bar.update(len(results))


def _write_table(
    stream: TextSink,
    quantities: Sequence[Quantity],
    frames: Sequence[Atoms],
    rows: Iterator[Row],
) -> None:
    shown = [quantity for quantity in quantities if not quantity.is_per_atom]
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["structure", "formula", *(q.column for q in shown)])
    for number, (atoms, row) in enumerate(zip(frames, rows, strict=True)):
        values = [row[quantity.name] for quantity in shown]
        table.writerow([number, atoms.get_chemical_formula(), *values])


def _write_structures(
    stream: IO[str],
    quantities: Sequence[Quantity],
    frames: Sequence[Atoms],
    rows: Iterator[Row],
) -> None:
    import ase.io

    units = ", ".join(f"jmp_{q.name}: {q.unit}" for q in quantities if q.unit)
    for atoms, row in zip(frames, rows, strict=True):
        for quantity in quantities:
            place = atoms.arrays if quantity.is_per_atom else atoms.info
            place[f"jmp_{quantity.name}"] = row[quantity.name]
        if units:
            atoms.info["jmp_units"] = units
        ase.io.write(stream, atoms, format="extxyz")


@contextmanager
def _new_text(path: Path) -> Iterator[IO[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        yield stream
