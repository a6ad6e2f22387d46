"""A source of one molecule's trajectory in an NPZ archive: rMD17, MD22 and the like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.units import CODATA, MolecularUnits
from jmp_train.data.families.molecules import NO_PART, frame_records
from jmp_train.data.layouts.parts import frame_parts, part_range
from jmp_train.data.layouts.sgdml import NpzKeys, read_frames
from jmp_train.data.source import Record, SetFacts, Skipped
from jmp_train.data.splits import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class TrajectoryFile:
    """One archive and the part of each of its frames."""

    path: Path
    """The archive."""
    splits: tuple[Split | None, ...]
    """Part of each frame; None: it is in no part of the chosen split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrajectorySource:
    """Frames of one molecule."""

    facts: SetFacts
    """What the set is."""
    keys: NpzKeys
    """Layout of the archives."""
    files: tuple[TrajectoryFile, ...]
    """The archives; most sets have one."""
    units: MolecularUnits = CODATA
    """Factor of kcal/mol."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return ranges of frames, such as ``0:0-10000`` of the first file."""
        return [
            f"{place}:{part}"
            for place, file in enumerate(self.files)
            for part in frame_parts(len(file.splits))
        ]

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the archive of a part."""
        return (self.files[int(part.split(":")[0])].path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the frames of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If an archive is damaged.
        """
        place, numbers = part.split(":")
        file = self.files[int(place)]
        frames = read_frames(
            file.path, self.keys, part_range(numbers), units=self.units
        )
        for entry in frame_records(
            frames,
            source=self.facts.name,
            group=self.facts.name,
            split_of=file.splits.__getitem__,
            name_of=lambda frame: f"{file.path.stem}/{frame}",
            max_force=self.max_force,
        ):
            if isinstance(entry, Record) and entry.split is None:
                yield Skipped(where=entry.sample.name, reason=NO_PART)
            else:
                yield entry
