"""The zip file that ``torch.save`` writes: its pickle, and numbers mapped from disk."""

from __future__ import annotations

import mmap
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import torch
from torch import Tensor

from jmp_calc.errors import CheckpointError

MAX_PICKLE_BYTES = 32 * 2**20
"""Largest accepted size of the pickle itself, which has some 200 bytes per tensor; the
numbers are stored outside of it."""
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


class TorchArchive:
    """The zip file, its pickle and its memory-mapped storages."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._check_start(file.read(len(_LEGACY_MAGIC)))
            try:
                with zipfile.ZipFile(file) as archive:
                    self._members = {m.filename: m for m in archive.infolist()}
                    self._root = self._find_root()
                    self._check_byte_order(archive)
                    self.pickle = self._read_pickle(archive)
            except (OSError, zlib.error) as error:
                # what zipfile lets through of wrong offsets and damaged members
                raise CheckpointError(
                    f"the zip archive is damaged ({error}); if it was downloaded or "
                    "copied, do that again"
                ) from error
            # Private and writable: torch warns about memory it must not write to.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def numbers(self, key: str, dtype: torch.dtype, n: int) -> Tensor:
        """Return stored numbers as a flat tensor that views the file.

        Args:
            key: Name of the storage in the file.
            dtype: Its precision.
            n: How many numbers it holds.

        Raises:
            CheckpointError: If the file holds something else under that name.
        """
        member = self._members.get(f"{self._root}data/{key}")
        n_bytes = n * dtype.itemsize
        if member is None or member.file_size != n_bytes:
            found = "absent" if member is None else f"{member.file_size} bytes long"
            raise CheckpointError(
                f"the numbers {key!r} are {found}, should be "
                f"{n_bytes} bytes; the file is damaged"
            )
        if n_bytes == 0:
            return torch.empty(0, dtype=dtype)
        start = self._data_offset(member)
        flat = torch.frombuffer(
            self._map, dtype=torch.uint8, count=n_bytes, offset=start
        )
        if start % dtype.itemsize:
            flat = flat.clone()
        return flat.view(dtype)

    def _check_start(self, start: bytes) -> None:
        if start.startswith(b"PK\x03\x04"):
            return
        if start.startswith(_LEGACY_MAGIC):
            raise CheckpointError(
                "this is in the format that torch wrote before version 1.6, "
                "which cannot be read without running code from it; ask its maker for "
                "a file saved by a newer torch"
            )
        raise CheckpointError(
            "this is not a file of torch.save (no zip archive); if it was "
            "downloaded, it may be incomplete: delete it and download it again"
        )

    def _find_root(self) -> str:
        found = [name for name in self._members if name.endswith("/data.pkl")]
        if len(found) != 1 or any("/code/" in name for name in self._members):
            raise CheckpointError(
                "this is a zip archive but not a checkpoint of torch.save"
            )
        return found[0].removesuffix("data.pkl")

    def _check_byte_order(self, archive: zipfile.ZipFile) -> None:
        member = self._members.get(f"{self._root}byteorder")
        if member is None:
            return
        with archive.open(member) as file:
            is_ours = file.read(16) == sys.byteorder.encode()
        if not is_ours:
            raise CheckpointError(
                "this was written on a machine of the other byte order"
            )

    def _read_pickle(self, archive: zipfile.ZipFile) -> bytes:
        member = self._members[f"{self._root}data.pkl"]
        if (
            member.file_size > MAX_PICKLE_BYTES
            or member.compress_type != zipfile.ZIP_STORED
        ):
            raise CheckpointError(
                f"the description of the tensors is "
                f"{member.file_size} bytes, or compressed; torch.save writes no such "
                "file"
            )
        return archive.read(member)

    def _data_offset(self, member: zipfile.ZipInfo) -> int:
        """Return where the bytes of an uncompressed member start."""
        start = member.header_offset
        end = start + _LOCAL_HEADER.size
        if not 0 <= start < end <= len(self._map):
            raise CheckpointError(f"{member.filename} lies outside of the file")
        header = _LOCAL_HEADER.unpack(self._map[start:end])
        name_length, extra_length = int(header[-2]), int(header[-1])
        begin = end + name_length + extra_length
        if (
            header[0] != b"PK\x03\x04"
            or member.compress_type != zipfile.ZIP_STORED
            or begin + member.file_size > len(self._map)
        ):
            raise CheckpointError(f"{member.filename} is damaged or compressed")
        return begin
