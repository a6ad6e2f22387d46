"""The folder of results: the one that was asked for, or a new one."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from jmp_calc.sim.output import writing


@contextlib.contextmanager
def result_folder(out: Path | None, name: str) -> Iterator[Path]:
    """Give the folder of the results; without ``out`` make one that nobody else has.

    Args:
        out: Folder that the user chose, or None.
        name: What a new folder under ``runs`` is called; a number is added.
    """
    if out is not None:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    for number in itertools.count(1):
        folder = Path("runs") / f"{name}-{number}"
        with writing(folder), contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    finally:
        # work that never started leaves nothing, so that its number is free again
        with contextlib.suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
