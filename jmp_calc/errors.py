"""The errors that jmp-calc raises on purpose."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class JMPError(Exception):
    """Base class; the command line prints its text as one line and exits with 2."""


class ArgumentError(JMPError, ValueError):
    """An argument, setting or name is not one of those allowed."""


class CheckpointError(JMPError):
    """A weights file is damaged, foreign, or does not fit the model."""


class DownloadError(JMPError):
    """Weights or data could not be fetched or did not pass verification."""


class UnsupportedSystemError(JMPError, ValueError):
    """A structure that the model cannot or must not be used for."""


class StorageError(JMPError):
    """A file could not be written: the disk is full, or its folder is read only."""


class DataError(JMPError):
    """A data file, label or store is missing, damaged or inconsistent."""


READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What ASE's readers are known to raise on a file that is not what they expect."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest allowed name, or ``""``.

    Args:
        given: The name that was not recognised.
        allowed: The names that would have been.
    """
    close = difflib.get_close_matches(given, list(allowed), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
