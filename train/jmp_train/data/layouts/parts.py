"""Parts of a set for parallel work: ranges of frames, of groups or of files."""

from __future__ import annotations

from collections.abc import Sequence

PART_FRAMES = 10_000
"""Frames of a part; a part of the largest groups has more."""

SLICE_FRAMES = 2_000
"""Frames that are read at once."""


def frame_parts(n: int, size: int = PART_FRAMES) -> list[str]:
    """Return ranges of frames, such as ``0-10000``.

    Args:
        n: Number of frames.
        size: Frames of a part.
    """
    return [f"{start}-{min(start + size, n)}" for start in range(0, n, size)]


def group_parts(sizes: Sequence[int], size: int = PART_FRAMES) -> list[str]:
    """Return ranges of groups with about as many frames each.

    Args:
        sizes: Frames of each group.
        size: Frames after which a part ends.
    """
    parts, start, n_frames = [], 0, 0
    for index, n in enumerate(sizes):
        n_frames += n
        if n_frames >= size or index == len(sizes) - 1:
            parts.append(f"{start}-{index + 1}")
            start, n_frames = index + 1, 0
    return parts


def part_range(part: str) -> range:
    """Return the numbers of a part.

    Args:
        part: One of those of :func:`frame_parts` or :func:`group_parts`.
    """
    start, stop = part.split("-")
    return range(int(start), int(stop))


def slices(n: int, size: int = SLICE_FRAMES) -> list[tuple[int, int]]:
    """Return (start, stop) pairs that cover n frames.

    Args:
        n: Number of frames.
        size: Frames of a slice.
    """
    return [(start, min(start + size, n)) for start in range(0, n, size)]
