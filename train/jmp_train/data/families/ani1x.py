"""ANI-1x: small organic molecules out of equilibrium, one HDF5 file.

The published split shuffled formulas without a seed and cannot be drawn again; the same
rule with a seed is used here, so errors are comparable, not equal. The reader takes the
conformations of a level of theory that have labels, and drops formulas with fewer than
four atoms, as the published preparation did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.data.families.molecules import find_one, frame_records
from jmp_train.data.layouts.ani1x import LEVELS, read_level
from jmp_train.data.layouts.hdf5 import n_rows, open_hdf5, subgroups
from jmp_train.data.layouts.parts import group_parts, part_range
from jmp_train.data.published_splits import PUBLISHED_SEED, shuffled
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.splits import Split

MIN_ATOMS = 4
"""Formulas with fewer atoms are dropped."""

HELD_OUT = 0.1
"""Fraction of all frames after which a held-out part is full (495 600 of the whole
set, as published)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Formula:
    """One group of the file."""

    name: str
    """Its name."""
    n_atoms: int
    """Atoms."""
    n_frames: int
    """Conformations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ani1xSource:
    """One level of theory of ANI-1x."""

    facts: SetFacts
    """What the set is."""
    path: Path
    """The HDF5 file."""
    level: str
    """Key of ``LEVELS``."""
    formulas: tuple[Formula, ...]
    """Groups in the order of the file."""
    parts_of: Mapping[str, Split]
    """Part of each formula that has enough atoms; empty: decided by hash."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return ranges of formulas with about as many conformations each."""
        return group_parts([formula.n_frames for formula in self.formulas])

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the one file of all parts."""
        del part
        return (self.path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the conformations of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is damaged.
        """
        with open_hdf5(self.path) as file:
            for index in part_range(part):
                formula = self.formulas[index]
                if formula.n_atoms < MIN_ATOMS:
                    for frame in range(formula.n_frames):
                        yield Skipped(
                            where=f"{formula.name}/{frame}",
                            reason=f"fewer than {MIN_ATOMS} atoms",
                        )
                    continue
                yield from self._read_formula(file, formula.name)

    def _read_formula(self, file: h5py.File, name: str) -> Iterator[Record | Skipped]:
        split = self.parts_of.get(name)
        for frames in read_level(file[name], self.level):
            yield from frame_records(
                frames,
                source=self.facts.name,
                group=name,
                split_of=lambda _: split,
                name_of=lambda frame: f"{name}/{frame}",
                max_force=self.max_force,
            )


def split_formulas(formulas: tuple[Formula, ...]) -> dict[str, Split]:
    """Return the part of each formula with enough atoms.

    Formulas are shuffled; the first ones are held out for validation until they have a
    tenth of all frames, the next ones likewise for testing, the rest trains. With fewer
    than three formulas nothing is decided.

    Args:
        formulas: All formulas of the file.
    """
    limit = max(1, int(HELD_OUT * sum(formula.n_frames for formula in formulas)))
    usable = [formula for formula in formulas if formula.n_atoms >= MIN_ATOMS]
    if len(usable) < 3:
        return {}
    parts: dict[str, Split] = {}
    counts: dict[Split, int] = {"val": 0, "test": 0}
    for index in shuffled(len(usable)).tolist():
        formula = usable[index]
        split: Split = "train"
        if counts["val"] < limit:
            split = "val"
        elif counts["test"] < limit:
            split = "test"
        parts[formula.name] = split
        if split != "train":
            counts[split] += formula.n_frames
    return parts


def open_ani1x(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the chosen level of theory of the file.

    Args:
        source: The HDF5 file, or a folder that holds it.
        options: ``variant`` is a key of ``LEVELS``; None: that of JMP.

    Raises:
        ArgumentError: If the level is unknown.
        DataError: If the file is absent or damaged.
    """
    level = options.variant or "wb97x_dz"
    if level not in LEVELS:
        raise ArgumentError(
            f"unknown level {level!r} of ANI-1x; choose from {', '.join(LEVELS)}"
            + did_you_mean(level, LEVELS)
        )
    path = find_one(source, ("ani1x*.h5", "ani1*.hdf5", "*.h5"), FAMILY.formats)
    with open_hdf5(path) as file:
        formulas = tuple(
            Formula(
                name=name,
                n_atoms=n_rows(file[name], "atomic_numbers"),
                n_frames=n_rows(file[name], "coordinates"),
            )
            for name in subgroups(file)
        )
    suffix = "" if level == "wb97x_dz" else f"-{level.translate(_PLAIN)}"
    return [
        Ani1xSource(
            facts=SetFacts(
                name=f"ani1x{suffix}",
                title="ANI-1x",
                domain="molecule",
                level_of_theory=LEVELS[level],
                licence="CC0 (as stated by the publication)",
                citation="Smith et al., Sci. Data 7, 134 (2020)",
                coverage=(
                    "small organic molecules of H, C, N, O in and out of equilibrium; "
                    f"parts are whole formulas, shuffled with seed {PUBLISHED_SEED}"
                ),
                is_default=False,
                target_units={},
            ),
            path=path,
            level=level,
            formulas=formulas,
            parts_of=split_formulas(formulas),
            max_force=options.max_force,
        )
    ]


_PLAIN = str.maketrans("", "", "()")

FAMILY = FamilyInfo(
    name="ani1x",
    title="ANI-1x",
    open=open_ani1x,
    downloads=(
        Download(
            url="https://springernature.figshare.com/ndownloader/files/18112775",
            file="ani1x-release.h5",
        ),
    ),
    licence="CC0 (as stated by the publication)",
    formats="the HDF5 file of the release (ani1x-release.h5), or its folder",
    variants=tuple(LEVELS),
    options=(
        "variant",
        "max_force",
    ),
)
"""ANI-1x."""
