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
    """Let this process keep memory that is freed, instead of giving it back.

    By default the C library gives large arrays back to the system and gets them again,
    zeroed page by page, in each step; with small networks on large cells that is a
    tenth of the time. Larger arrays than 32 MB go back as always: kept in pieces, they
    would double the peak of large structures. This is a setting of the whole process
    that cannot be taken back, so a program makes it once, before its first calculation,
    and the library never does; ``jmp-md`` makes it. It is one of glibc: elsewhere
    nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    libc.mallopt(_M_TRIM_THRESHOLD, _MOST)
