"""What the families of molecules share: files found, frames turned into records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.data.layouts.frames import Frames
from jmp_train.data.source import Record, Skipped
from jmp_train.data.splits import Split

NOT_COMPUTED = "energy or forces not computed (NaN)"
"""Why a frame without finite labels is skipped."""

NO_PART = "in no part of the chosen split"
"""Why a frame that the chosen split leaves out is skipped."""


def frame_records(
    frames: Frames,
    *,
    source: str,
    group: str,
    split_of: Callable[[int], Split | None],
    name_of: Callable[[int], str],
    max_force: float | None = None,
) -> Iterator[Record | Skipped]:
    """Yield one record per frame, or why there is none.

    Args:
        frames: Consecutive frames of one molecule.
        source: Name of the set.
        group: What must not be split.
        split_of: Part of a frame, by its number within the molecule.
        name_of: Name of a frame, likewise.
        max_force: Largest force on an atom that is kept, eV/Å; None: any.
    """
    is_labelled = frames.is_labelled
    for row in range(len(frames)):
        number = frames.first + row
        name = name_of(number)
        reason = "" if is_labelled[row] else NOT_COMPUTED
        reason = reason or _force_reason(frames, row, max_force)
        if reason:
            yield Skipped(where=name, reason=reason)
            continue
        yield Record(
            sample=frames.sample(row, source=source, group=group, name=name),
            split=split_of(number),
        )


def _force_reason(frames: Frames, row: int, max_force: float | None) -> str:
    if frames.forces is None or max_force is None:
        return ""
    largest = float(np.linalg.norm(frames.forces[row], axis=1).max(initial=0.0))
    return f"force above {max_force:g} eV/Å" if largest > max_force else ""


def find_one(source: Path, patterns: Sequence[str], what: str) -> Path:
    """Return the file to read, given the file itself or a folder that holds it.

    Args:
        source: File or folder.
        patterns: Names to look for in a folder and below, the best first.
        what: What the file is, for the error.

    Raises:
        DataError: If there is none, or more than one of the same pattern.
    """
    if source.is_file():
        return source
    if not source.is_dir():
        raise DataError(f"there is no {source}; give {what}")
    for pattern in patterns:
        found = sorted(source.rglob(pattern))
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(source)) for path in found[:5])
            raise DataError(f"{source} holds {names}; give one of the files itself")
        if found:
            return found[0]
    raise DataError(f"{source} holds no file like {' or '.join(patterns)}; give {what}")


def choose_variants(
    given: str | None, found: Mapping[str, object], *, what: str, source: Path
) -> list[str]:
    """Return the variants to read: the given one, or all that were found.

    Args:
        given: What the user asked for; None: all.
        found: Those that the source holds.
        what: What a variant is, for errors.
        source: File or folder, for errors.

    Raises:
        DataError: If the source holds none at all.
        ArgumentError: If it does not hold the given one.
    """
    if not found:
        raise DataError(f"{source} holds no {what}; give the published file or folder")
    if given is None:
        return list(found)
    if given not in found:
        raise ArgumentError(
            f"there is no {what} {given!r} in {source}; it holds {', '.join(found)}"
            + did_you_mean(given, found)
        )
    return [given]
