"""Large JSON files, row by row: a file of gigabytes is never in memory as a whole."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from jmp_calc.errors import DataError

_CHUNK = 1 << 20
_LONGEST_TOKEN = 16
_SPACE = " \t\r\n"


class JsonStream:
    """Text of a JSON file with a place in it that moves forward."""

    def __init__(self, file: BufferedIOBase, path: Path) -> None:
        self._file, self.path = file, path
        self._text, self._place = "", 0
        self._is_finished, self._fault = False, ""
        self._characters = codecs.getincrementaldecoder("utf-8")()
        self._decoder = json.JSONDecoder()

    def peek(self, where: str) -> str:
        """Return the next character that is not white space, without passing it.

        Args:
            where: What is read, for errors.
        """
        while True:
            while self._place < len(self._text):
                if self._text[self._place] not in _SPACE:
                    return self._text[self._place]
                self._place += 1
            if not self._more(where, _CHUNK):
                raise DataError(f"{where} of {self.path}: the file ends before it")

    def skip(self, wanted: str, where: str) -> None:
        """Pass one of the wanted characters.

        Args:
            wanted: Those that are allowed here.
            where: What is read, for errors.
        """
        found = self.peek(where)
        if found not in wanted:
            allowed = " or ".join(repr(character) for character in wanted)
            raise DataError(
                f"{where} of {self.path}: found {found!r} instead of {allowed}; the "
                "file is damaged or not of this layout"
            )
        self._place += 1

    def value(self, where: str) -> Any:
        """Return the next value.

        Args:
            where: What is read, for errors.
        """
        self.peek(where)
        # A value that was cut off is decoded anew after each chunk, so chunks grow.
        size = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if not _may_be_cut(error, len(self._text)) or not self._more(
                    where, size
                ):
                    raise DataError(
                        f"{where} of {self.path} is damaged: {error.msg} "
                        f"{error.pos - self._place} characters into it"
                    ) from None
            else:
                # A number at the very end may go on in the next chunk.
                if end < len(self._text) or not self._more(where, size):
                    self._place = end
                    return value
            size *= 2

    def items(self, what: str) -> Iterator[tuple[str, Any]]:
        """Yield place and value of the items of the list that comes next.

        Args:
            what: What an item is called in errors.
        """
        self.skip("[", f"the list of {what}s")
        if self.peek(f"{what} 1") == "]":
            self.skip("]", "the list")
            return
        number = 1
        while True:
            where = f"{what} {number}"
            yield where, self.value(where)
            self.skip(",]", f"the end of {where}")
            if self._text[self._place - 1] == "]":
                return
            number += 1

    def keys(self, what: str) -> Iterator[str]:
        """Yield the keys of the object that comes next; read each value in between.

        Args:
            what: What the object is called in errors.
        """
        self.skip("{", what)
        if self.peek(what) == "}":
            self.skip("}", what)
            return
        while True:
            key = self.value(f"a key of {what}")
            self.skip(":", f"key {key!r}")
            yield str(key)
            self.skip(",}", f"the end of {key!r}")
            if self._text[self._place - 1] == "}":
                return

    def _more(self, where: str, size: int) -> bool:
        """Append about this many bytes of text; whether there were any."""
        if self._fault:
            raise DataError(
                f"{where} of {self.path} cannot be read ({self._fault}); the file is "
                "cut off or damaged, so fetch it again"
            )
        pieces, n_bytes = [], 0
        while n_bytes < size and not self._is_finished:
            try:
                data = self._file.read1(size - n_bytes)
                pieces.append(self._characters.decode(data, final=not data))
            except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
                # What comes before the damage is used first.
                self._fault = str(error)
                break
            n_bytes += len(data)
            self._is_finished = not data
        self._text = self._text[self._place :] + "".join(pieces)
        self._place = 0
        if n_bytes == 0 and self._fault:
            return self._more(where, size)
        return n_bytes > 0


def _may_be_cut(error: json.JSONDecodeError, length: int) -> bool:
    is_text = error.msg.startswith("Unterminated string")
    return is_text or error.pos >= length - _LONGEST_TOKEN


@contextmanager
def open_json(path: Path) -> Iterator[JsonStream]:
    """Open a JSON file, gzipped or not.

    Args:
        path: The file.

    Raises:
        DataError: If it does not exist.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    with path.open("rb") as raw:
        is_zipped = raw.read(2) == b"\x1f\x8b"
    opener = gzip.GzipFile if is_zipped else Path.open
    with opener(path, "rb") as file:
        yield JsonStream(file, path)


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, gzipped or not, at once.

    Args:
        path: The file.

    Raises:
        DataError: If it does not exist or is damaged.
    """
    with open_json(path) as stream:
        return stream.value("the content")
