"""The user's files as one set with a training, a validation and perhaps a test part."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from jmp_calc.errors import DataError
from jmp_train.data.families.user import UserSource, open_user_files
from jmp_train.data.families.user_labels import NONE
from jmp_train.data.families.user_splits import SPLIT_NAMES
from jmp_train.data.source import FamilyOptions
from jmp_train.data.splits import Split
from jmp_train.finetune.defaults import validating
from jmp_train.finetune.settings import FinetuneSettings


def open_data(settings: FinetuneSettings) -> UserSource:
    """Return the data of a run as one set, divided into parts.

    A file that validates or tests is that part as a whole. The data are divided as they
    say themselves; if they do not, a part validates that depends on their number
    (none if there is a file for it), chosen by the hash of the structures. Copies of
    one structure stay together.

    Args:
        settings: Files, names of labels, and what validates.

    Raises:
        DataError: If there are no frames, a label is missing or called otherwise in
            some file, or there is too little to divide.
    """
    options = FamilyOptions(
        variant=task_name(settings),
        energy_key=settings.energy_key,
        forces_key=settings.forces_key,
        stress_key=settings.stress_key,
        targets=() if settings.target is None else (settings.target,),
        split_by=settings.split_by,
        level_of_theory=settings.level_of_theory,
    )
    others: dict[Split, Path | None] = {"val": settings.val, "test": settings.test}
    given = {part: path for part, path in others.items() if path is not None}
    source = open_user_files(settings.data, options)
    if not source.is_divided:
        n_val = 0 if "val" in given else _n_val(source, settings.val_fraction)
        source = divided(source, n_val)
    for part, path in given.items():
        found = open_user_files([path], _options_of_other(options, source, part))
        source = joined(source, found, path)
    sizes = part_sizes(source.splits)
    if not (sizes["train"] and sizes["val"]):
        lacking = "trains" if sizes["val"] else "validates"
        raise DataError(
            f"the data name their parts (train {sizes['train']}, val {sizes['val']}, "
            f"test {sizes['test']} frames), but none {lacking}; name such frames, or "
            "give a file that validates"
        )
    if settings.split_by != "structure":
        return source
    return replace(source, notes=(*source.notes, *shared_notes(source)))


def _options_of_other(
    options: FamilyOptions, source: UserSource, part: Split
) -> FamilyOptions:
    """Return the options of a file that is one part as a whole.

    Labels that the training data do not have are not looked at, so that a file with
    energies and forces can test a run on energies alone.
    """
    keys = source.keys
    return replace(
        options,
        split=part,
        energy_key=options.energy_key if keys.energy else NONE,
        forces_key=options.forces_key if keys.forces else NONE,
        stress_key=options.stress_key if keys.stress else NONE,
    )


def shared_notes(source: UserSource) -> list[str]:
    """Return which structures validate or test although they are trained on, as text.

    Args:
        source: The set, whose groups are hashes of the structures.
    """
    hashes: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    for splits, names in zip(source.splits, source.groups, strict=True):
        for split, name in zip(splits, names, strict=True):
            if name:
                hashes[split].append(name)
    trained, notes = set(hashes["train"]), []
    for split in ("val", "test"):
        count = sum(name in trained for name in hashes[split])
        if count:
            notes.append(
                f"{count} of the {len(hashes[split])} structures of the {split} part "
                "are in the training part, too: errors of that part are too small"
            )
    return notes


def task_name(settings: FinetuneSettings) -> str:
    """Return the name of the task: as given, or after the first file.

    Args:
        settings: Of the run.
    """
    name = settings.name or settings.data[0].name.split(".")[0]
    name = re.sub(r"[^\w-]+", "-", name).strip("-") or "user"
    # Such a name says nothing, or cannot name a part of a network.
    if name.lower() in SPLIT_NAMES or hasattr(torch.nn.ModuleDict(), name):
        return f"{name}-data"
    return name


def _n_val(source: UserSource, fraction: float | None) -> int:
    return validating(len(_all_groups(source)), fraction)


def _all_groups(source: UserSource) -> list[str]:
    """Return the names of what is held out together, in an order that chance made."""
    names = {name for names in source.groups for name in names if name}
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def divided(source: UserSource, n_val: int) -> UserSource:
    """Return a set of which so many groups of copies validate, and the rest trains.

    Args:
        source: The set, in whatever parts.
        n_val: Number of groups.

    Raises:
        DataError: If nothing would be left to train on.
    """
    order = _all_groups(source)
    if len(order) <= n_val:
        raise DataError(
            f"there are {len(order)} different structures, which is too few to train "
            "on some and validate on others; give at least two"
        )
    validates = set(order[len(order) - n_val :])
    parts: list[tuple[Split, ...]] = [
        tuple("val" if name in validates else "train" for name in names)
        for names in source.groups
    ]
    return replace(source, splits=tuple(parts), is_divided=True)


def joined(source: UserSource, more: UserSource, path: Path) -> UserSource:
    """Return one set of two whose labels have the same names.

    Args:
        source: The first.
        more: The second.
        path: Where the second comes from, for the error.

    Raises:
        DataError: If a label of the first has another name or is missing in the second.
    """
    for kind in ("energy", "forces"):
        here, there = getattr(source.keys, kind), getattr(more.keys, kind)
        if here != there:
            raise DataError(
                f"the {kind} in {path} is {_named(there)}, and in the training data "
                f"{_named(here)}; name the key that holds it in both"
            )
    notes = dict.fromkeys((*source.notes, *more.notes))
    return replace(
        source,
        files=(*source.files, *more.files),
        splits=(*source.splits, *more.splits),
        groups=(*source.groups, *more.groups),
        notes=tuple(notes),
    )


def _named(key: str | None) -> str:
    return "absent" if key is None else f"called {key!r}"


def part_sizes(splits: Sequence[Sequence[Split]]) -> dict[Split, int]:
    """Return the number of frames of each part.

    Args:
        splits: Part of each frame of each file.
    """
    flat = [split for file in splits for split in file]
    return {part: flat.count(part) for part in ("train", "val", "test")}
