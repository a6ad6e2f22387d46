"""The families of public sets that can be prepared; one file each."""

from __future__ import annotations

from jmp_train.data.families import (
    ani1x,
    foreign_lmdb,
    matbench,
    md22,
    nano,
    oc20,
    oc22,
    qm9,
    qmof,
    rmd17,
    spice,
    transition1x,
    user,
)
from jmp_train.data.source import FamilyInfo

FAMILIES: dict[str, FamilyInfo] = {
    "ani1x": ani1x.FAMILY,
    "transition1x": transition1x.FAMILY,
    "qm9": qm9.FAMILY,
    "rmd17": rmd17.FAMILY,
    "md22": md22.FAMILY,
    "sgdml": md22.SGDML_FAMILY,
    "spice": spice.FAMILY,
    "oc20": oc20.FAMILY,
    "oc22": oc22.FAMILY,
    "matbench": matbench.FAMILY,
    "qmof": qmof.FAMILY,
    "pyg-lmdb": foreign_lmdb.FAMILY,
    "user": user.FAMILY,
    "nano": nano.FAMILY,
}
"""Families by name."""
