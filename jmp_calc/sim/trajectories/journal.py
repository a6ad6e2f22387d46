"""A binary file that changes in whole commits only, whenever the process is killed."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from jmp_calc.errors import DataError
from jmp_calc.files import replacing

PAGE = 4096
"""Bytes of what is written as a unit."""
_HEAD = struct.Struct("<8sQQI")
_NUMBER = struct.Struct("<Q")
_MAGIC = b"JMPJRNL1"


def journal_of(path: Path) -> Path:
    """Return where the commit under way is kept.

    Args:
        path: The file.
    """
    return path.with_name(f".{path.name}.journal")


class JournaledFile(io.RawIOBase):
    """A file for HDF5's file object driver whose writes appear together.

    Writes stay in memory until :meth:`commit`, which first saves them beside the file
    (in one step: by renaming) and then applies them. If the process is killed meanwhile
    the saved commit is applied by the next one that writes, and seen by all that read.

    Args:
        path: The file.
        mode: ``w`` a new one, ``r+`` go on with one, ``r`` only read: nothing on disk
            is changed.

    Raises:
        DataError: If a saved commit is damaged.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__()
        self._path = path
        self._place = 0
        self._pages: dict[int, bytearray] = {}
        if mode == "w":
            journal_of(path).unlink(missing_ok=True)
        self._file = path.open({"w": "w+b", "r+": "r+b", "r": "rb"}[mode], buffering=0)
        self._size = self._file.seek(0, os.SEEK_END)
        self._restore()
        if mode == "r+":
            self._apply()

    def readable(self) -> bool:
        """Return whether it can be read: yes."""
        return True

    def seekable(self) -> bool:
        """Return whether it has places: yes."""
        return True

    def writable(self) -> bool:
        """Return whether it can be written: to memory always."""
        return True

    def flush(self) -> None:
        """Do nothing: only a commit reaches the disk."""

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}
        self._place = start[whence] + offset
        return self._place

    def truncate(self, size: int | None = None) -> int:
        """Set the size and return it."""
        self._size = self._place if size is None else size
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the current place; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._place))
        done = 0
        while done < wanted:
            number, start = divmod(self._place, PAGE)
            part = min(PAGE - start, wanted - done)
            view[done : done + part] = self._page(number)[start : start + part]
            done += part
            self._place += part
        return done

    def write(self, data: Any) -> int:
        """Write to memory at the current place; return the number of bytes."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            number, start = divmod(self._place, PAGE)
            part = min(PAGE - start, len(view) - done)
            if number not in self._pages:
                self._pages[number] = bytearray(self._page(number))
            self._pages[number][start : start + part] = view[done : done + part]
            done += part
            self._place += part
        self._size = max(self._size, self._place)
        return done

    def commit(self) -> None:
        """Let the file change by all that was written since the last commit."""
        journal = journal_of(self._path)
        body = b"".join(
            _NUMBER.pack(number) + page for number, page in sorted(self._pages.items())
        )
        head = _HEAD.pack(_MAGIC, self._size, len(self._pages), zlib.crc32(body))
        with replacing(journal) as new:
            new.write_bytes(head + body)
        self._apply()

    def close(self) -> None:
        """Close; what was not committed is forgotten."""
        if not self.closed:
            self._file.close()
        super().close()

    def _page(self, number: int) -> bytes | bytearray:
        if number in self._pages:
            return self._pages[number]
        self._file.seek(number * PAGE)
        page: bytes = self._file.read(PAGE)
        return page.ljust(PAGE, b"\0")

    def _apply(self) -> None:
        for number, page in self._pages.items():
            self._file.seek(number * PAGE)
            # the last page ends with the file
            data = memoryview(page)[: max(0, self._size - number * PAGE)]
            while data:
                data = data[self._file.write(data) :]
        self._file.truncate(self._size)
        self._pages.clear()
        journal_of(self._path).unlink(missing_ok=True)

    def _restore(self) -> None:
        """Take in a commit that was saved but perhaps not applied in full."""
        text = b""
        with contextlib.suppress(FileNotFoundError):
            text = journal_of(self._path).read_bytes()
        if not text:
            return
        magic, size, n_pages, checksum = _HEAD.unpack_from(text.ljust(_HEAD.size))
        body = text[_HEAD.size :]
        width = _NUMBER.size + PAGE
        if (
            magic != _MAGIC
            or len(body) != n_pages * width
            or zlib.crc32(body) != checksum
        ):
            raise DataError(
                f"{journal_of(self._path)} is damaged, so {self._path} may be cut off; "
                "remove the former to read what there is"
            )
        for start in range(0, len(body), width):
            (number,) = _NUMBER.unpack_from(body, start)
            page = body[start + _NUMBER.size : start + width]
            self._pages[number] = bytearray(page)
        self._size = size
