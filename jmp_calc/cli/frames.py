"""Structures of long files, one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from jmp_calc.cli.structures import COMMON_FORMATS, Source, require_ordered
from jmp_calc.errors import READ_ERRORS, ArgumentError, DataError

XYZ_ENDINGS = (".xyz", ".extxyz")
"""Endings of files whose structures can be counted without reading them."""

_SLICE = re.compile(r"(\d*):(\d*)(?::(\d*))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameChoice:
    """Which structures of a file are taken."""

    number: int | None
    """The only one; negative numbers count from the end."""
    start: int = 0
    """First of several."""
    stop: int | None = None
    """First that is not taken any more; None: to the end."""
    step: int = 1
    """Distance."""

    @classmethod
    def from_text(cls, text: str) -> FrameChoice:
        """Read ``--frame``: a number, or start:stop:step as in Python.

        Args:
            text: What was given.

        Raises:
            ArgumentError: If it is neither.
        """
        if re.fullmatch(r"-?\d+", text):
            return cls(number=int(text))
        found = _SLICE.fullmatch(text)
        if found is None or found[3] == "0":
            raise ArgumentError(
                f"--frame is {text!r}; give a number (0 first, -1 last), ':' for all, "
                "or start:stop:step such as 100:200 or ::10"
            )
        start, stop, step = (int(part) if part else None for part in found.groups())
        return cls(number=None, start=start or 0, stop=stop, step=step or 1)

    def first(self, path: Path) -> Atoms:
        """Return the first structure of a file that is taken.

        Args:
            path: Any file that ASE reads.

        Raises:
            DataError: If there is none.
        """
        number = self.start if self.number is None else self.number
        return Source(path=path, frame=number).load()

    def read(self, path: Path) -> Iterator[tuple[int, Atoms]]:
        """Yield the structures of a file that are taken, with their numbers.

        Args:
            path: Any file that ASE reads; extended XYZ and .traj are read one by one.

        Raises:
            DataError: If one cannot be read.
        """
        if self.number is not None:
            yield self.number, self.first(path)
            return
        import ase.io
        from ase.io.formats import UnknownFileTypeError

        number = self.start
        chosen = slice(self.start, self.stop, self.step)
        frames = ase.io.iread(path, index=chosen, do_not_split_by_at_sign=True)
        try:
            for atoms in frames:
                require_ordered(atoms, path)
                yield number, atoms
                number += self.step
        except (*READ_ERRORS, ase.io.ParseError, UnknownFileTypeError) as error:
            raise DataError(
                f"cannot read structure {number} of {path} "
                f"({type(error).__name__}: {error}); any format that ASE knows will "
                f"do, such as {COMMON_FORMATS}"
            ) from error

    def count(self, path: Path) -> int | None:
        """Return how many structures are taken, or None if only reading tells.

        Args:
            path: A file that can be read.
        """
        if self.number is not None:
            return 1
        total = _count_all(path)
        if total is None:
            return None
        return len(range(*slice(self.start, self.stop, self.step).indices(total)))


def _count_all(path: Path) -> int | None:
    if path.suffix == ".traj":
        from ase.io.trajectory import Trajectory

        with Trajectory(str(path)) as frames:
            return len(frames)
    if path.suffix not in XYZ_ENDINGS:
        return None
    total = 0
    with path.open("rb") as lines:
        for line in lines:
            if not line.strip().isdigit():
                return total or None
            for _ in range(int(line) + 1):
                next(lines, None)
            total += 1
    return total
