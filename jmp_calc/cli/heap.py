"""Memory that is freed stays with the process, for the next step to use."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MOST = 2**31 - 1
_LARGEST = 2**25
"""Bytes of the largest arrays that are kept; glibc allows no more."""


def keep_freed_memory() -> None:
    """Let the C library keep memory that is freed, instead of giving it back.

    By default glibc gives large arrays back to the system and gets them again, zeroed
    page by page, in each step. Larger ones than 32 MB go back as always: kept in
    pieces, they would double the peak of large structures. A setting of the process, so
    for programs to make, never for the library; other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    libc.mallopt(_M_TRIM_THRESHOLD, _MOST)
