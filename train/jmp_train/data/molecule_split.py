"""Which part the molecules of made data belong to: by a hash of their connectivity."""

from __future__ import annotations

import re

from jmp_train.data.hashed_split import HELD_OUT_GROUPS, part_of
from jmp_train.data.splits import Split

ALWAYS_TRAIN = 2
"""Molecules of up to this many atoms other than hydrogen are always trained on: others
cannot be learned without water, methane and the like, and all complexes hold them."""

_ATOM = re.compile(r"\[[^]]*]|Cl|[A-Za-z]")


def n_heavy(smiles: str) -> int:
    """Return the number of atoms of a SMILES that are not hydrogen.

    Args:
        smiles: Hydrogens are implicit, or in brackets of their own.
    """
    atoms: list[str] = _ATOM.findall(smiles)
    return sum(atom not in ("[H]", "H") for atom in atoms)


def split_of_molecules(group: str) -> Split:
    """Return the part of a molecule or complex.

    A complex is held out if one of its molecules is, for test rather than for val.

    Args:
        group: Canonical SMILES; molecules of a complex are between dots.
    """
    parts = {
        part_of(f"molecule/{each}", HELD_OUT_GROUPS)
        for each in group.split(".")
        if n_heavy(each) > ALWAYS_TRAIN
    }
    if "test" in parts:
        return "test"
    return "val" if "val" in parts else "train"
