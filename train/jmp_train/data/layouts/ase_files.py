"""Files of labelled structures that ASE reads: found, opened, their faults named."""

from __future__ import annotations

import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import InputError
from ase.io.formats import UnknownFileTypeError, filetype
from ase.io.ulm import InvalidULMFileError

from jmp_calc.errors import DataError

PATTERNS = (
    "*.extxyz",
    "*.xyz",
    "*.traj",
    "*.db",
    "*vasprun*.xml",
    "*OUTCAR*",
)
"""Files that are read in a folder, besides those with a ``.gz``, ``.bz2`` or ``.xz`` at
the end; other files must be given one by one."""

_COMPRESSIONS = ("", ".gz", ".bz2", ".xz")
_DATABASES = ("db", "json")
# These run or may run what is in the file, or reach out to a server.
_REFUSED = ("bundletrajectory", "py", "gpw", "postgresql", "mysql", "eon")
_OWN_ARRAYS = (
    "numbers",
    "positions",
    "tags",
    "momenta",
    "masses",
    "initial_magmoms",
    "initial_charges",
)
FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    InputError,
    InvalidULMFileError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    UnknownFileTypeError,
    ValueError,
    ase.io.ParseError,
    sqlite3.Error,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What readers, those of ASE above all, raise when a file is damaged; InputError and
ParseError are not related to each other."""


def find_files(sources: Sequence[Path]) -> list[Path]:
    """Return the files to read, in a fixed order.

    Args:
        sources: Files and folders; folders are searched with all folders below.

    Raises:
        DataError: If there is nothing to read, or a file is given twice.
    """
    files: list[Path] = []
    for source in sources:
        if source.is_file():
            files.append(source)
            continue
        if not source.is_dir():
            raise DataError(f"there is no file or folder {source}")
        found = {
            path
            for pattern in PATTERNS
            for ending in _COMPRESSIONS
            for path in source.rglob(pattern + ending)
            if path.is_file()
        }
        if not found:
            raise DataError(
                f"{source} holds no file like {', '.join(PATTERNS)}; give the files "
                "themselves if they are of another kind"
            )
        files += sorted(found)
    twice = [path for path, n in Counter(files).items() if n > 1]
    if twice:
        raise DataError(f"{twice[0]} is given twice; its frames would count twice")
    return files


def read_frames(path: Path, frames: slice = slice(None)) -> Iterator[Atoms]:
    """Yield the frames of a file.

    Values of an ASE database and of its rows are in ``info``.

    Args:
        path: A file of any format that ASE reads.
        frames: Which of them.

    Raises:
        DataError: If the format is not known, or the file is empty or damaged; file
            and frame are named.
    """
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    index = frames.start or 0
    try:
        for atoms in _frames(path, frames):
            yield atoms
            index += 1
    except FAULTS as error:
        raise DataError(
            f"frame {index} of {path} cannot be read "
            f"({type(error).__name__}: {error}); the file is cut off, damaged, or not "
            "of the format that its name says"
        ) from error


def _frames(path: Path, frames: slice) -> Iterator[Atoms]:
    kind = filetype(str(path))
    if kind in _REFUSED:
        raise DataError(
            f"{path} is of the format {kind!r}, which is not read because such a file "
            "may run code; convert it to extended XYZ or .traj"
        )
    if kind in _DATABASES:
        yield from _rows(path, frames)
        return
    yield from ase.io.iread(
        str(path), index=frames, format=kind, do_not_split_by_at_sign=True
    )


def _rows(path: Path, frames: slice) -> Iterator[Atoms]:
    with ase.db.connect(str(path), serial=True) as database:
        start, stop, _ = frames.indices(database.count())
        if start == stop:
            return
        for row in database.select(offset=start, limit=stop - start):
            atoms = row.toatoms(add_additional_information=True)
            for part in ("key_value_pairs", "data"):
                atoms.info.update(atoms.info.pop(part, {}))
            yield atoms


def named_values(atoms: Atoms) -> Mapping[str, Any]:
    """Return everything in a frame that may be a label, by name.

    Results of a calculator hide entries of ``info`` and ``arrays`` of the same name;
    results without a value are left out.

    Args:
        atoms: A frame.
    """
    values = {
        name: array for name, array in atoms.arrays.items() if name not in _OWN_ARRAYS
    }
    values.update((str(name), value) for name, value in atoms.info.items())
    # Only what is stored: asking the calculator could start a calculation.
    results = getattr(atoms.calc, "results", {})
    values.update((name, value) for name, value in results.items())
    return {name: value for name, value in values.items() if not _is_absent(value)}


def _is_absent(value: Any) -> bool:
    """Whether a value is None, or numbers of which none was computed."""
    if value is None:
        return True
    if isinstance(value, float | np.floating | np.ndarray):
        array = np.asarray(value)
        return (
            array.dtype.kind == "f" and array.size > 0 and bool(np.isnan(array).all())
        )
    return False
