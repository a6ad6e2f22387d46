"""Parts of user data: as the user says, or exact fractions by hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import DataError
from jmp_train.data.published_splits import fraction_sizes
from jmp_train.data.source import FamilyOptions
from jmp_train.data.splits import SPLITS, Split

BLOCKS = 20
"""Blocks of consecutive frames that a file is cut into, if blocks are held out."""

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What a part may be called in ``info['split']`` and in names of files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileFrames:
    """What the frames of one file say about their parts."""

    path: Path
    """The file."""
    structures: tuple[str, ...]
    """Hash of each frame; empty: it is not a system to learn from."""
    named: tuple[str, ...]
    """``info['split']`` of each frame; empty: it has none."""
    groups: tuple[str, ...] = ()
    """``info['group']`` of each frame; empty: it has none."""

    def group(self, index: int, options: FamilyOptions) -> str:
        """Return the name of what is held out together with a frame.

        Args:
            index: Number of the frame.
            options: ``split_by``.

        Raises:
            DataError: If groups are asked for and the frame has none.
        """
        if options.split_by == "structure":
            return self.structures[index]
        if options.split_by == "group":
            if not self.groups[index]:
                raise DataError(
                    f"frame {index} of {self.path} has no group in its info; every "
                    "frame needs one to hold out groups, or split by structure"
                )
            return self.groups[index]
        # The name of the folder tells files such as OUTCAR apart.
        name = "/".join(self.path.parts[-2:])
        if options.split_by == "file":
            return name
        return f"{name}/{index * BLOCKS // len(self.structures)}"


def divide(
    files: Sequence[FileFrames], options: FamilyOptions
) -> tuple[tuple[Split, ...], ...]:
    """Return the part of each frame of each file.

    Args:
        files: What their frames say.
        options: ``split`` and ``split_by``.

    Raises:
        DataError: If only some frames name their part, or one has an unknown name.
    """
    if options.split is not None:
        return tuple((options.split,) * len(file.structures) for file in files)
    named = named_parts(files)
    return _by_hash(files, options) if named is None else named


def named_parts(files: Sequence[FileFrames]) -> tuple[tuple[Split, ...], ...] | None:
    """Return the part of each frame of each file; None: the data do not say.

    Args:
        files: What their frames say.

    Raises:
        DataError: If only some frames name their part, or one has an unknown name.
    """
    if any(name for file in files for name in file.named):
        return tuple(_named(file) for file in files)
    stems = [file.path.name.split(".")[0].lower() for file in files]
    if len(files) > 1 and all(stem in SPLIT_NAMES for stem in stems):
        return tuple(
            (SPLIT_NAMES[stem],) * len(file.structures)
            for stem, file in zip(stems, files, strict=True)
        )
    return None


def _named(file: FileFrames) -> tuple[Split, ...]:
    for index, (name, structure) in enumerate(
        zip(file.named, file.structures, strict=True)
    ):
        if structure and name.lower() not in SPLIT_NAMES:
            problem = f"has the split {name!r}" if name else "has no split in its info"
            raise DataError(
                f"frame {index} of {file.path} {problem}; as other frames have one, it "
                f"must be one of {', '.join(SPLIT_NAMES)}"
            )
    return tuple(SPLIT_NAMES.get(name.lower(), "train") for name in file.named)


def _by_hash(
    files: Sequence[FileFrames], options: FamilyOptions
) -> tuple[tuple[Split, ...], ...]:
    """Order the groups by hash and cut off the parts, which is exact also for few."""
    sizes = Counter(
        file.group(index, options)
        for file in files
        for index, structure in enumerate(file.structures)
        if structure
    )
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode()).digest())
    counts = fraction_sizes(len(order))
    if len(order) < len(SPLITS):
        counts = (min(len(order), 1), max(len(order) - 1, 0), 0)
    names = [
        split for split, count in zip(SPLITS, counts, strict=True) for _ in range(count)
    ]
    parts = dict(zip(order, names, strict=True))
    return tuple(
        tuple(
            parts[file.group(index, options)] if structure else "train"
            for index, structure in enumerate(file.structures)
        )
        for file in files
    )
