"""Header: what a store says about itself, and how a finished store takes its place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.records import PAIR_CUTOFF
from jmp_train.data.shards import (
    OPEN_SHARDS,
    SIZES,
    ShardFacts,
    join_fingerprints,
    read_sizes,
)

FORMAT = "jmp-store"
"""First field of every header."""
VERSION = 2
"""Version of the layout; a reader accepts only its own."""
UNITS = {
    "energy": "eV",
    "forces": "eV/Å",
    "stress": "eV/Å³",
    "positions": "Å",
    "cell": "Å",
}
"""Units of every store; those of targets are its own."""
_OF_THE_STORE = ("format", "version", "n_systems", "fingerprint", "pair_cutoff")
HEADER = "header.json"
"""Name of the header in the folder."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of a store.

    Args:
        path: Its folder.

    Raises:
        DataError: If there is no store, its header is damaged, or it has another
            format or version.
    """
    file = path / HEADER
    if not file.is_file():
        raise DataError(
            f"there is no store {path}; make it with 'jmp-train data prepare'"
        )
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
        given = (header.get("format"), header.get("version"))
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"the header of {path} is damaged ({error}); prepare it again"
        ) from error
    if given != (FORMAT, VERSION):
        raise DataError(
            f"{path} has format {given[0]!r} version {given[1]!r}; this version reads "
            f"{FORMAT!r} version {VERSION}; prepare it again"
        )
    return dict(header)


def count_facts(
    labels: Mapping[str, int], elements: Mapping[int, int]
) -> dict[str, dict[str, int]]:
    """Return what a header says about the number of systems.

    Args:
        labels: Systems that have each label.
        elements: Systems that hold each element, by atomic number.
    """
    return {
        "labels": dict(labels),
        "element_systems": {str(z): n for z, n in sorted(elements.items())},
    }


def write_header(
    folder: Path,
    shards: Sequence[ShardFacts],
    facts: Mapping[str, Any],
    *,
    target_units: Mapping[str, str] | None,
) -> None:
    """Write sizes and header of the shards that lie in a folder.

    Args:
        folder: Where the shards are.
        shards: They, in order.
        facts: Plain data for the header.
        target_units: Units of the targets; None: none, or as in the facts.

    Raises:
        DataError: If there is no record at all, or a shard is damaged.
    """
    n_systems = sum(shard.n_systems for shard in shards)
    if n_systems == 0:
        raise DataError(
            f"{folder.name} would be a store without systems; check that the data set "
            "is present and that not all of it is excluded or held out"
        )
    for name in SIZES:
        _write_sizes(folder, shards, name, n_systems)
    OPEN_SHARDS.close_all()
    units = {**UNITS, "targets": {}, **facts.get("units", {})}
    if target_units is not None:
        units["targets"] = dict(target_units)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "n_systems": n_systems,
        "fingerprint": join_fingerprints([shard.fingerprint for shard in shards]),
        "pair_cutoff": PAIR_CUTOFF,
        **{key: value for key, value in facts.items() if key not in _OF_THE_STORE},
        "units": units,
        "shards": [shard.to_json() for shard in shards],
    }
    text = json.dumps(header, indent=1, ensure_ascii=False)
    (folder / HEADER).write_text(text + "\n", encoding="utf-8")


def _write_sizes(
    folder: Path, shards: Sequence[ShardFacts], name: str, n_systems: int
) -> None:
    """Write one size of all records, shard by shard."""
    # Not as a mapped file: a full disk would kill the process instead of raising.
    layout = {"descr": "<i4", "fortran_order": False, "shape": (n_systems,)}
    with (folder / f"{name}.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, layout)
        for shard in shards:
            sizes = read_sizes(folder / shard.file, shard)
            file.write(sizes[name].tobytes())


def check_replaceable(path: Path) -> None:
    """Check that a store may take this name.

    Args:
        path: Folder of the store.

    Raises:
        ArgumentError: If there is something else than a store.
    """
    if path.exists() and not (path / HEADER).is_file():
        raise ArgumentError(
            f"{path} exists and is not a store, so it is not replaced; move it away, "
            "or choose another folder"
        )


def publish(folder: Path, path: Path) -> None:
    """Give a finished store its name; an older store of that name is deleted.

    Args:
        folder: The finished store, beside its place.
        path: Its name.

    Raises:
        ArgumentError: If there is something else than a store.
    """
    check_replaceable(path)
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        path.rename(old)
    folder.rename(path)
    shutil.rmtree(old, ignore_errors=True)
