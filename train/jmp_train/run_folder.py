"""The folder of a run: one process writes to it; failures to write are explained."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jmp_calc.errors import ArgumentError, StorageError
from jmp_train.checkpoint_folders import CHECKPOINTS, latest

LOCK = ".lock"
"""Name of the file that a running process holds."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of a run inside a ``with`` block; it is made if need be.

    Args:
        folder: Folder of the run.

    Raises:
        ArgumentError: If another process holds it, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise ArgumentError(
            f"another process is training in {folder}; wait until it is done, or "
            "choose another folder"
        ) from None
    except OSError as error:
        raise ArgumentError(
            f"cannot write to {folder} ({error.strerror}); choose another folder for "
            "the run, or change its permissions"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Say what is left of a run if its folder can no longer be written to.

    Args:
        folder: Folder of the run.

    Raises:
        StorageError: If a block that writes fails.
    """
    try:
        yield
    except OSError as error:
        problem = "the disk is full" if error.errno in _FULL else str(error.strerror)
        kept = latest(folder / CHECKPOINTS)
        advice = "no checkpoint is saved. Make room, and start the run again"
        if kept is not None:
            advice = (
                f"the run up to {kept} is saved. Make room, and go on with --resume"
            )
        raise StorageError(
            f"cannot write to {error.filename or folder}: {problem}; {advice}"
        ) from error
