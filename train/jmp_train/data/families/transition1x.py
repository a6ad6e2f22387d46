"""Transition-1x: geometries along reaction paths, one HDF5 file with its own split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from jmp_calc.errors import DataError
from jmp_train.data.families.molecules import find_one, frame_records
from jmp_train.data.layouts.frames import Frames, check_shapes
from jmp_train.data.layouts.hdf5 import n_rows, open_hdf5, read_rows, subgroups
from jmp_train.data.layouts.parts import group_parts, part_range, slices
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.splits import SPLITS, Split

_LEVEL = "wB97x_6-31G(d)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """One reaction of the file."""

    path: str
    """Group below one of the parts, such as ``train/C2H4O/rxn0001``."""
    split: Split | None
    """Published part; None: the file states none."""
    n_frames: int
    """Geometries of its path."""

    @property
    def name(self) -> str:
        """What the set calls it (the sid)."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition1xSource:
    """All geometries of all reaction paths; a record is ``rxn####/frame#``."""

    facts: SetFacts
    """What the set is."""
    path: Path
    """The HDF5 file."""
    reactions: tuple[Reaction, ...]
    """Reactions of all parts."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return ranges of reactions with about as many geometries each."""
        return group_parts([reaction.n_frames for reaction in self.reactions])

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the one file of all parts."""
        del part
        return (self.path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the geometries of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is damaged.
        """
        with open_hdf5(self.path) as file:
            for index in part_range(part):
                yield from self._read_reaction(file, self.reactions[index])

    def _read_reaction(
        self, file: h5py.File, reaction: Reaction
    ) -> Iterator[Record | Skipped]:
        for frames in read_path(file[reaction.path]):
            yield from frame_records(
                frames,
                source=self.facts.name,
                group=reaction.name,
                split_of=lambda _: reaction.split,
                name_of=lambda frame: f"{reaction.name}/frame{frame}",
                max_force=self.max_force,
            )


def read_path(group: h5py.Group) -> Iterator[Frames]:
    """Yield the geometries of a reaction in slices.

    Reactant, product and transition state, which have groups of their own, are not
    read; the published training did not use them either.

    Args:
        group: Group of the reaction.

    Raises:
        DataError: If a data set is absent or damaged, or does not fit the others.
    """
    numbers = read_rows(group, "atomic_numbers")
    for start, stop in slices(n_rows(group, "positions")):
        positions = read_rows(group, "positions", start, stop)
        energy = read_rows(group, f"{_LEVEL}.energy", start, stop)
        forces = read_rows(group, f"{_LEVEL}.forces", start, stop)
        check_shapes(
            f"{group.file.filename}, group {group.name!r}",
            len(numbers),
            positions=positions,
            energy=energy,
            forces=forces,
        )
        yield Frames(
            numbers=numbers,
            positions=positions,
            energy=energy.astype(np.float64),
            forces=forces.astype(np.float64),
            first=start,
        )


def find_reactions(file: h5py.File) -> tuple[Reaction, ...]:
    """Return the reactions of all parts of a file.

    Args:
        file: With the groups ``train``, ``val`` and ``test``; with ``data`` alone, no
            part is stated.

    Raises:
        DataError: If there is neither.
    """
    found = [split for split in SPLITS if split in file]
    if not found and "data" not in file:
        raise DataError(
            f"{file.filename} has the groups {', '.join(file) or '(none)'}; "
            "Transition-1x has data, train, val and test"
        )
    roots: dict[str, Split | None] = {split: split for split in found}
    return tuple(
        Reaction(
            path=f"{root}/{formula}/{name}",
            split=split,
            n_frames=n_rows(reaction, "positions"),
        )
        for root, split in (roots or {"data": None}).items()
        for formula in subgroups(file[root])
        for name in subgroups(file[root][formula])
        for reaction in (file[root][formula][name],)
    )


def open_transition1x(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the set.

    Args:
        source: The HDF5 file, or a folder that holds it.
        options: ``max_force`` only.

    Raises:
        DataError: If the file is absent or damaged.
    """
    path = find_one(source, ("[Tt]ransition1x*.h5", "*.h5"), FAMILY.formats)
    with open_hdf5(path) as file:
        reactions = find_reactions(file)
    facts = SetFacts(
        name="transition1x",
        title="Transition-1x",
        domain="molecule",
        level_of_theory="ωB97X/6-31G(d)",
        licence="CC-BY-4.0 (as stated by the publication)",
        citation="Schreiner et al., Sci. Data 9, 779 (2022)",
        coverage=(
            "paths of 10 073 reactions of small organic molecules of H, C, N, O; parts "
            "are whole reactions"
        ),
        is_default=False,
        target_units={},
    )
    return [
        Transition1xSource(
            facts=facts, path=path, reactions=reactions, max_force=options.max_force
        )
    ]


FAMILY = FamilyInfo(
    name="transition1x",
    title="Transition-1x",
    open=open_transition1x,
    downloads=(
        Download(
            url="https://figshare.com/ndownloader/files/36035789",
            file="Transition1x.h5",
        ),
    ),
    licence="CC-BY-4.0 (as stated by the publication)",
    formats="the HDF5 file of the release (Transition1x.h5), or its folder",
    variants=(),
    options=("max_force",),
)
"""Transition-1x."""
