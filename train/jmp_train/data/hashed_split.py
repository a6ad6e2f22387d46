"""Which part a sample belongs to; decided by a hash, so never by order or chance."""

from __future__ import annotations

import hashlib

from jmp_train.data.datasets import DATASETS
from jmp_train.data.sample import Sample, structure_hash
from jmp_train.data.splits import Split

_SALT = "7"
"""The first number for which every set of several groups has some in each part."""

HELD_OUT = 0.1
"""Fraction of each of val and test."""

HELD_OUT_GROUPS = 0.05
"""Fraction of each taken as whole groups where a set holds out both kinds."""


def split_of(sample: Sample) -> Split:
    """Return the part of a sample by the rule of its data set.

    Args:
        sample: Any sample; a source that is not in ``DATASETS`` holds out whole groups.
    """
    known = DATASETS.get(sample.source)
    rule = "group" if known is None else known.split
    group = f"{sample.source}/{sample.group}"
    structure = structure_hash(sample)
    if rule == "group":
        return part_of(group, HELD_OUT)
    if rule == "structure":
        return part_of(structure, HELD_OUT)
    part = part_of(group, HELD_OUT_GROUPS)
    return part if part != "train" else part_of(structure, HELD_OUT_GROUPS)


def part_of(key: str, fraction: float) -> Split:
    """Return the part that the hash of a name says.

    Args:
        key: Any name.
        fraction: Of each of val and test.
    """
    digest = hashlib.sha256(f"{_SALT}/{key}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < fraction:
        return "test"
    return "val" if place < 2 * fraction else "train"
