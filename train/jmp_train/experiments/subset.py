"""Parts of a store as stores of their own: fewer systems, or some left out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jmp_train.data.header import read_header
from jmp_train.data.store import Store, StoreWriter, store_path
from jmp_train.normalize import StatisticsAccumulator

COPIED = "copied"
"""Key in the header of a copy: what was copied."""


def copy_systems(store: Store, systems: Sequence[int], path: Path) -> Path:
    """Write some systems of a store, with statistics of their own, unless it is done.

    Args:
        store: Where they are.
        systems: Their numbers, in the order wanted.
        path: The new store; another one of that name is replaced.
    """
    numbers = np.asarray(systems, dtype="<i8")
    copied = {
        "from": store.header["fingerprint"],
        "systems": hashlib.sha256(numbers.tobytes()).hexdigest(),
    }
    if path.exists() and read_header(path).get(COPIED) == copied:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics = StatisticsAccumulator()
    with StoreWriter(path) as writer:
        for system in numbers.tolist():
            sample = store[system]
            writer.add(sample)
            statistics.add(sample)
        measured = statistics.finish().to_json()
        writer.finish({**store.header, "statistics": measured, COPIED: copied})
    return path


def smaller_stores(
    stores: Path, name: str, out: Path, *, n_train: int, seed: int
) -> Path:
    """Return a folder in which the training part of a set has so many systems.

    Validation shrinks with it (to a tenth, at least 4), so that a low-data arm is one
    also in what it may look at; the test part is whole.

    Args:
        stores: Folder of the whole set.
        name: Name of the set.
        out: Folder for such folders.
        n_train: Training systems; 0, or more than there are: all.
        seed: Seed of the choice; the same for all arms that are compared.
    """
    train = Store(store_path(stores, name, "train"))
    if not n_train or n_train >= len(train):
        return stores
    folder = out / f"{name}-{n_train}-seed{seed}"
    limits = {"train": n_train, "val": max(n_train // 10, 4)}
    for split in ("train", "val", "test"):
        place = store_path(stores, name, split)
        if split != "train" and not place.is_dir():
            continue
        store = Store(place)
        n = min(limits.get(split, len(store)), len(store))
        chosen = np.random.default_rng(seed).permutation(len(store))[:n]
        copy_systems(store, np.sort(chosen).tolist(), store_path(folder, name, split))
    return folder
