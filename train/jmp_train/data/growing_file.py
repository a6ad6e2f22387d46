"""A file of geometries that grows by one starting structure after the other.

Until it is finished it lies beside its place: ``NAME.part`` holds the geometries, and
``NAME.part.jsonl`` has a line for each starting structure: the bytes that end with its
geometries, how many geometries there are, and why it gave too few, if so. What a killed
process left goes on behind the last whole line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType

from ase import Atoms

from jmp_calc.errors import DataError
from jmp_calc.files import replace_text
from jmp_calc.sim.output import LineFile, extxyz_text, writing


class GrowingFile:
    """Geometries as they come."""

    n_starts: int
    """Starting structures whose geometries are there."""
    n_geometries: int
    """Geometries."""
    failed: list[tuple[int, str]]
    """Number and reason of each starting structure that gave too few."""

    def __init__(self, path: Path) -> None:
        """Begin, or go on.

        Args:
            path: Extended XYZ file; its folder is made.

        Raises:
            DataError: If a file cannot be read or written, or is damaged.
        """
        self.path = path
        self.n_starts, self.n_geometries, self.failed = 0, 0, []
        part = path.with_name(path.name + ".part")
        lines = path.with_name(part.name + ".jsonl")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        n_bytes, n_bytes_lines = self._known(lines)
        # both or none: without lines the geometries are of no known structure
        self._geometries = LineFile(part, overwrite=True, keep_bytes=n_bytes or None)
        self._lines = LineFile(lines, overwrite=True, keep_bytes=n_bytes_lines or None)

    def __enter__(self) -> GrowingFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with closing(self._geometries), closing(self._lines):
            pass

    def add(self, geometries: Sequence[Atoms], reason: str) -> None:
        """Add what came of the next starting structure.

        Args:
            geometries: Its geometries.
            reason: Why they are too few; empty: they are not.

        Raises:
            DataError: If nothing can be written.
        """
        self._geometries.append("".join(map(extxyz_text, geometries)))
        record = [self._geometries.n_bytes, len(geometries), reason]
        self._lines.append(json.dumps(record) + "\n")
        self._count(len(geometries), reason)

    def finish(self) -> None:
        """Give the file its name; ``NAME.failed.tsv`` lists what gave too few.

        Raises:
            DataError: If there are no geometries.
        """
        if not self.n_geometries:
            why = self.failed[0][1] if self.failed else "nothing to start from"
            raise DataError(f"no geometries were made for {self.path}: {why}")
        failed = "".join(f"{number}\t{why}\n" for number, why in self.failed)
        with writing(self.path):
            replace_text(self.path.with_suffix(".failed.tsv"), failed)
            self._geometries.path.replace(self.path)
            self._lines.path.unlink()

    def _count(self, n_geometries: int, reason: str) -> None:
        if reason:
            self.failed.append((self.n_starts, reason))
        self.n_starts += 1
        self.n_geometries += n_geometries

    def _known(self, path: Path) -> tuple[int, int]:
        """Count what is there; return the bytes of the geometries and of the lines."""
        if not path.is_file():
            return 0, 0
        n_bytes = n_bytes_lines = 0
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break
            try:
                n_bytes, n_geometries, reason = json.loads(line)
            except (ValueError, TypeError) as error:
                raise DataError(
                    f"line {number + 1} of {path} is damaged; delete the file, and "
                    "what it describes is made again"
                ) from error
            n_bytes_lines += len(line)
            self._count(n_geometries, reason)
        return n_bytes, n_bytes_lines
