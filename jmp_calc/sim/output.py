"""Files of a simulation: none replaced unasked, each whole or absent, all readable.

Every verb writes through these: structures as extended XYZ, tables that grow by whole
rows, and one YAML summary with inputs, settings, versions and results.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.calculator import all_properties

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.versions import installed_versions

PACKAGES = ("jmp-calc", "ase", "numpy", "scipy", "matscipy", "torch", "dftd3")
"""Packages whose versions a summary states if they are installed."""

RESULT_PREFIX = "jmp_"
"""What results are called in extended XYZ: jmp_energy, jmp_forces, jmp_stress, ..."""


def check_new(paths: Iterable[Path], *, overwrite: bool) -> None:
    """See to it that no existing file is replaced unasked.

    Args:
        paths: Files that are about to be made.
        overwrite: Whether existing files may be replaced.

    Raises:
        ArgumentError: If a file exists and may not be replaced.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise _exists(existing[0])


def _exists(path: Path) -> ArgumentError:
    return ArgumentError(
        f"{path} exists and would be replaced; choose another --out "
        "(out=) or allow it with --overwrite (overwrite=True)"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write into an error that names the file and what to do.

    Raises:
        ArgumentError: If a file exists that the block wanted to make.
        DataError: If the block raised another ``OSError``.
    """
    try:
        yield
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free space there or "
            "choose another --out"
        ) from error


def sync_file(path: Path) -> None:
    """Have a file on the disk, so that a power cut cannot shorten it.

    Args:
        path: The file.

    Raises:
        DataError: If that fails.
    """
    with writing(path):
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LineFile:
    """A text file that grows by whole records only."""

    def __init__(
        self, path: Path, *, overwrite: bool, keep_bytes: int | None = None
    ) -> None:
        """Make the file, or go on with one.

        Args:
            path: The file.
            overwrite: Whether an existing file may be replaced.
            keep_bytes: Go on with an existing file after its first bytes; what follows
                them is dropped. None: make a new file.

        Raises:
            ArgumentError: If the file exists and may not be replaced.
            DataError: If it cannot be written, or has fewer bytes.
        """
        self.path = path
        if keep_bytes is None:
            with writing(path):
                self._file = path.open("wb" if overwrite else "xb", buffering=0)
        else:
            with writing(path):
                self._file = path.open("r+b", buffering=0)
                size = self._file.seek(0, os.SEEK_END)
                if size < keep_bytes:
                    self._file.close()
                    raise DataError(
                        f"{path} has {size} bytes and should have {keep_bytes}; it was "
                        "changed since the run stopped: start a new run from the last "
                        "frame"
                    )
                self._file.truncate(keep_bytes)
                self._file.seek(keep_bytes)
        self._complete = keep_bytes or 0

    @property
    def n_bytes(self) -> int:
        """Size of the complete records."""
        return self._complete

    def append(self, text: str) -> None:
        """Write one record through to the file, in place of one that was cut off."""
        data = text.encode()
        with writing(self.path):
            self._file.seek(self._complete)
            while data:
                data = data[self._file.write(data) :]
            self._complete = self._file.tell()

    def close(self) -> None:
        """Drop a record that was cut off, and close."""
        with self._file:
            if self._file.tell() != self._complete:
                self._file.truncate(self._complete)


def extxyz_text(frame: Atoms) -> str:
    """Return a structure as extended XYZ."""
    # brings scipy along, which --help must not wait for
    from ase.io.extxyz import write_extxyz

    text = io.StringIO()
    write_extxyz(text, frame)
    return text.getvalue()


def without_results(atoms: Atoms) -> Atoms:
    """Return a copy without calculator that extended XYZ can hold.

    Entries that look like results (``energy``, ``REF_forces``, ``jmp_head``, ...)
    belong to another geometry and are left out; beside a calculator they would also
    make ASE's extended XYZ writer fail. So are ``info`` entries other than numbers,
    texts and vectors, and arrays with blank texts (PDB files have them), which would
    make extended XYZ unreadable; line breaks in texts become blanks.

    Args:
        atoms: Any structure; not changed.
    """
    frame: Atoms = atoms.copy()
    for store in (frame.info, frame.arrays):
        for name in [name for name in store if _is_result(name)]:
            del store[name]
    frame.info = {
        key: " ".join(value.splitlines()) if isinstance(value, str) else value
        for key, value in frame.info.items()
        if _is_plain(value)
    }
    for name in [name for name in frame.arrays if not _is_column(frame.arrays[name])]:
        del frame.arrays[name]
    return frame


def _is_result(name: str) -> bool:
    if name.startswith((RESULT_PREFIX, "initial_")):
        return name.startswith(RESULT_PREFIX)
    return name.endswith(tuple(all_properties))


def _is_plain(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "ifb"
    return isinstance(value, (bool, int, float, str, np.generic))


def _is_column(values: np.ndarray) -> bool:
    if values.dtype.kind == "U":
        return values.ndim == 1 and all(len(text.split()) == 1 for text in values)
    return values.ndim <= 2 and values.dtype.kind in "ifb"


def save_structure(frame: Atoms, path: Path) -> None:
    """Write one structure as extended XYZ, in one step.

    Args:
        frame: The structure, with its results if it has any.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    save_text(path, extxyz_text(frame))


def save_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Write a summary as YAML, in one step.

    Args:
        summary: Plain data; numpy scalars and paths are converted.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    text = yaml.safe_dump(
        _plain(summary),
        sort_keys=False,
        allow_unicode=True,
        # paths and the command stay on one line, to be copied and found
        width=math.inf,
    )
    save_text(path, text)


def save_text(path: Path, text: str) -> None:
    """Write a text file, in one step.

    Args:
        path: File to replace.
        text: Its content.

    Raises:
        DataError: If it cannot be written.
    """
    with writing(path), replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return nested data as what YAML can hold without tags."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of what a run depends on, importing nothing."""
    return dict(_read_versions())


@functools.cache
def _read_versions() -> dict[str, str]:
    # the metadata of a large package takes longer than a small structure
    return installed_versions(PACKAGES)
