"""HDF5 files of molecules: opened, sliced, and their faults named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from jmp_calc.errors import DataError


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file to read; a fault on the way names it.

    Args:
        path: An HDF5 file.

    Raises:
        DataError: If it does not exist, is not HDF5, or is cut short.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise _damaged(str(path), error) from None
    with file:
        yield file


def read_rows(
    group: h5py.Group, key: str, start: int = 0, stop: int | None = None
) -> np.ndarray:
    """Return rows of a data set of a group, without reading the others.

    Args:
        group: Group of one molecule.
        key: Name of the data set.
        start: First row.
        stop: First row that is not read; None: to the end.

    Raises:
        DataError: If the group lacks the data set, or it cannot be read.
    """
    where = f"{group.file.filename}, group {group.name!r}"
    try:
        return np.asarray(_dataset(group, key)[start:stop])
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(f"{where}, {key!r}", error) from None


def read_text(group: h5py.Group, key: str) -> str:
    """Return a data set that holds one text.

    Args:
        group: Group of one molecule.
        key: Name of the data set.

    Raises:
        DataError: If the group lacks it, or it holds no text.
    """
    value = read_rows_or_scalar(group, key)
    text = value.reshape(-1)[0] if value.size else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def read_rows_or_scalar(group: h5py.Group, key: str) -> np.ndarray:
    """Return a whole data set, which may be a single value.

    Args:
        group: Group of one molecule.
        key: Name of the data set.

    Raises:
        DataError: If the group lacks it, or it cannot be read.
    """
    where = f"{group.file.filename}, group {group.name!r}"
    try:
        return np.asarray(_dataset(group, key)[()])
    except (OSError, RuntimeError, ValueError) as error:
        raise _damaged(f"{where}, {key!r}", error) from None


def n_rows(group: h5py.Group, key: str) -> int:
    """Return the number of rows of a data set; nothing is read.

    Args:
        group: Group of one molecule.
        key: Name of the data set.

    Raises:
        DataError: If the group lacks it, or it has no rows.
    """
    shape = _dataset(group, key).shape
    if not shape:
        raise DataError(
            f"{group.file.filename}, group {group.name!r}: {key!r} is a single value; "
            "it must have one row for each frame"
        )
    return int(shape[0])


def check_units(group: h5py.Group, units: Mapping[str, str]) -> None:
    """Check the units of data sets that state theirs.

    Args:
        group: Group of one molecule.
        units: Unit that each data set must have.

    Raises:
        DataError: If one states another.
    """
    for key, wanted in units.items():
        found = group[key].attrs.get("units", wanted) if key in group else wanted
        found = found.decode() if isinstance(found, bytes) else str(found)
        if found.lower() != wanted:
            raise DataError(
                f"{group.file.filename}, group {group.name!r}: {key!r} is in "
                f"{found!r}; it must be in {wanted!r}"
            )


def subgroups(group: h5py.Group) -> list[str]:
    """Return the names of the groups in a group, in the order of the file.

    Args:
        group: Any group.

    Raises:
        DataError: If a link leads nowhere.
    """
    names = []
    for name in group:
        try:
            member = group[name]
        except (KeyError, OSError) as error:
            raise _damaged(
                f"{group.file.filename}, group {group.name!r}, {name!r}", error
            ) from None
        if isinstance(member, h5py.Group):
            names.append(name)
    return names


def _dataset(group: h5py.Group, key: str) -> h5py.Dataset:
    where = f"{group.file.filename}, group {group.name!r}"
    try:
        value = group.get(key)
    except (OSError, RuntimeError) as error:
        raise _damaged(f"{where}, {key!r}", error) from None
    if not isinstance(value, h5py.Dataset):
        found = ", ".join(sorted(group)) or "nothing"
        raise DataError(f"{where} has no data set {key!r}; it has {found}")
    return value


def _damaged(where: str, error: Exception) -> DataError:
    return DataError(
        f"{where}: cannot be read ({error}); the file is damaged or cut short, so "
        "download it again"
    )
