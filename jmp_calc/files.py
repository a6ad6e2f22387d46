"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the name of the file at the end.

    A reader finds the old file or the new one. If the block fails, what it wrote is
    removed and the old file stays.

    Args:
        path: The file; its folder exists.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(path: Path) -> str:
    """Return the pattern of names of what :func:`replacing` leaves if it is killed.

    Args:
        path: The file.
    """
    return f".{glob.escape(path.name)}.*.tmp"


def replace_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; a reader finds the old file or the new one.

    Args:
        path: The file; its folder exists.
        text: Its content.
    """
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def copy_file(source: Path, target: Path) -> Path:
    """Copy a file; a reader finds the old target or the new one.

    Args:
        source: What to copy.
        target: Where to; its folder is made if missing.

    Returns:
        The target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as new:
        shutil.copyfile(source, new)
    return target


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Args:
        path: Any file.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
