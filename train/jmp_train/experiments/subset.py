"""Parts of a store as stores of their own: fewer systems, or some left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jmp_train.data.store import Store, StoreWriter, store_path
from jmp_train.normalize import StatisticsAccumulator

_COUNTED = ("format", "version", "n_systems", "fingerprint", "pair_cutoff", "shards")


def copy_systems(store: Store, systems: Sequence[int], path: Path) -> Path:
    """Write some systems of a store, with statistics of their own, unless it is done.

    Args:
        store: Where they are.
        systems: Their numbers, in the order wanted.
        path: The new store.
    """
    if path.exists():
        return path
    statistics = StatisticsAccumulator()
    with StoreWriter(path) as writer:
        for system in systems:
            sample = store[int(system)]
            writer.add(sample)
            statistics.add(sample)
        facts = {k: v for k, v in store.header.items() if k not in _COUNTED}
        writer.finish(facts | {"statistics": statistics.finish().to_json()})
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
    for split in ("train", "val", "test"):
        store = Store(store_path(stores, name, split))
        limit = {"train": n_train, "val": max(n_train // 10, 4)}.get(split, len(store))
        order = np.random.default_rng(seed).permutation(len(store))
        chosen = np.sort(order[: min(limit, len(store))])
        copy_systems(store, chosen.tolist(), store_path(folder, name, split))
    return folder
