"""The families of public sets that can be prepared; one file each."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from jmp_calc.errors import ArgumentError, DataError
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
    xtb,
)
from jmp_train.data.source import FamilyInfo, FamilyOptions, Source

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
    "xtb": xtb.FAMILY,
}
"""Families by name."""

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def open_sources(
    family: FamilyInfo, source: Path, options: FamilyOptions
) -> list[Source]:
    """Return the sets of a file or folder, as the user wants them.

    Args:
        family: What kind of files they are.
        source: File or folder.
        options: Choices of the user.

    Raises:
        ArgumentError: If a choice is not one of this family.
        DataError: If the files are not those of the family, or damaged.
    """
    plain = FamilyOptions()
    for field in fields(options):
        is_given = getattr(options, field.name) != getattr(plain, field.name)
        if is_given and field.name not in family.options:
            names = ", ".join(name.replace("_", "-") for name in family.options)
            raise ArgumentError(
                f"{field.name.replace('_', '-')} has no effect on set {family.name!r}, "
                f"which has the options {names}; leave it out"
            )
    try:
        return family.open(source, options)
    except DataError as error:
        folder = [source] if source.is_file() else sorted(source.glob("*"))
        archives = [path for path in folder if path.name.lower().endswith(_ARCHIVES)]
        if archives:
            error.add_note(
                f"{archives[0]} is an archive; unpack it and give the folder of its "
                "files"
            )
        raise
