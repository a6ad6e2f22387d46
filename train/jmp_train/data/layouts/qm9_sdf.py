"""QM9 as ``gdb9.sdf`` with ``gdb9.sdf.csv``, read in blocks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from jmp_calc.errors import DataError
from jmp_calc.units import MolecularUnits
from jmp_train.data.layouts.qm9 import Qm9Molecule, convert_properties, parse_number

CSV_PROPERTIES = {
    "A": "A",
    "B": "B",
    "C": "C",
    "mu": "mu",
    "alpha": "alpha",
    "homo": "eps_HOMO",
    "lumo": "eps_LUMO",
    "gap": "delta_eps",
    "r2": "R_2_Abs",
    "zpve": "ZPVE",
    "u0": "U_0",
    "u298": "U",
    "h298": "H",
    "g298": "G",
    "cv": "c_v",
    "u0_atom": "U_0_ATOM",
    "u298_atom": "U_ATOM",
    "h298_atom": "H_ATOM",
    "g298_atom": "G_ATOM",
}
"""Target of each column of the CSV."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SdfIndex:
    """Where the records of ``gdb9.sdf`` and the rows of its CSV start."""

    indices: tuple[int, ...]
    """Number in the set of each row."""
    sdf_offsets: tuple[int, ...]
    """Byte at which every so many records start."""
    csv_offsets: tuple[int, ...]
    """Likewise, for rows."""
    columns: tuple[str, ...]
    """Header of the CSV."""
    every: int
    """Records between two noted starts."""


def index_sdf(sdf: Path, table: Path, every: int) -> SdfIndex:
    """Scan both files once.

    Args:
        sdf: ``gdb9.sdf``.
        table: ``gdb9.sdf.csv``.
        every: Records between two noted starts.

    Raises:
        DataError: If the files do not have the same number of molecules, or the CSV
            lacks a column.
    """
    indices, csv_offsets = [], []
    with table.open("rb") as file:
        columns = tuple(file.readline().decode().strip().split(","))
        missing = [name for name in ("mol_id", *CSV_PROPERTIES) if name not in columns]
        if missing:
            raise DataError(
                f"{table} has no column {missing[0]!r}; it has {', '.join(columns)}"
            )
        place = columns.index("mol_id")
        offset = file.tell()
        for row, line in enumerate(file):
            if row % every == 0:
                csv_offsets.append(offset)
            offset += len(line)
            indices.append(_gdb_index(line.decode(), place, f"{table}, row {row + 1}"))
    sdf_offsets, n_records = _sdf_offsets(sdf, every)
    if n_records != len(indices):
        raise DataError(
            f"{sdf} has {n_records} molecules and {table} has {len(indices)}; one of "
            "them is cut short, so download it again"
        )
    return SdfIndex(
        indices=tuple(indices),
        sdf_offsets=tuple(sdf_offsets),
        csv_offsets=tuple(csv_offsets),
        columns=columns,
        every=every,
    )


def _gdb_index(line: str, place: int, where: str) -> int:
    fields = line.strip().split(",")
    try:
        return int(fields[place].removeprefix("gdb_"))
    except (ValueError, IndexError):
        raise DataError(
            f"{where}: {line.strip()[:60]!r} does not begin with a mol_id such as gdb_1"
        ) from None


def _sdf_offsets(sdf: Path, every: int) -> tuple[list[int], int]:
    offsets, n_records, start, offset = [], 0, 0, 0
    with sdf.open("rb") as file:
        for line in file:
            offset += len(line)
            if line.startswith(b"$$$$"):
                if n_records % every == 0:
                    offsets.append(start)
                n_records, start = n_records + 1, offset
    return offsets, n_records


def read_sdf(
    sdf: Path,
    table: Path,
    index: SdfIndex,
    *,
    block: int,
    units: MolecularUnits,
) -> Iterator[Qm9Molecule]:
    """Yield the molecules of one block of records.

    Args:
        sdf: ``gdb9.sdf``.
        table: ``gdb9.sdf.csv``.
        index: What :func:`index_sdf` returned.
        block: Which of its noted starts.
        units: Factors of hartree and kcal/mol.

    Raises:
        DataError: If a record or row is damaged, or they are not of one molecule.
    """
    first = block * index.every
    n_rows = min(index.every, len(index.indices) - first)
    with sdf.open("rb") as molecules, table.open("rb") as rows:
        molecules.seek(index.sdf_offsets[block])
        rows.seek(index.csv_offsets[block])
        for row, line in enumerate(islice(rows, n_rows), start=first):
            fields = next(csv.reader(io.StringIO(line.decode())))
            where = f"record {row + 1} of {sdf}"
            title, numbers, positions = _read_mol(molecules, where)
            record = dict(zip(index.columns, fields, strict=False))
            if title and title != record["mol_id"]:
                raise DataError(
                    f"{where} is {title!r} and row {row + 1} of {table} is "
                    f"{record['mol_id']!r}; the files do not belong together"
                )
            yield Qm9Molecule(
                index=index.indices[row],
                numbers=numbers,
                positions=positions,
                targets=convert_properties(
                    _csv_properties(record, f"{table}, row {row + 1}"), units
                ),
            )


def _csv_properties(record: dict[str, str], where: str) -> dict[str, float]:
    values = {}
    for column, name in CSV_PROPERTIES.items():
        try:
            values[name] = parse_number(record[column])
        except (ValueError, KeyError):
            raise DataError(
                f"{where}: column {column!r} is {record.get(column)!r}; it must be a "
                "number"
            ) from None
    return values


def _read_mol(
    file: io.BufferedReader, where: str
) -> tuple[str, Int[np.ndarray, " atoms"], Float[np.ndarray, "atoms 3"]]:
    """Read one record up to ``$$$$``; only its atoms are used."""
    lines = []
    for raw in file:
        if raw.startswith(b"$$$$"):
            break
        lines.append(raw.decode("utf-8", "replace").rstrip("\r\n"))
    try:
        # Columns are fixed in this format; blanks between them are not.
        n_atoms = int(lines[3][:3])
        rows: Sequence[str] = lines[4 : 4 + n_atoms]
        numbers = np.array([atomic_numbers[row[31:34].strip()] for row in rows])
        positions = np.array(
            [[float(row[i : i + 10]) for i in (0, 10, 20)] for row in rows]
        )
        if len(rows) != n_atoms:
            raise ValueError(f"it ends after {len(rows)} of {n_atoms} atoms")
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{where}: not a molecule in the V2000 layout ({error}); download the file "
            "again"
        ) from None
    return lines[0].strip(), numbers.astype(np.int64), positions.reshape(-1, 3)
