"""Tensors of checkpoints on disk, written and read by torch.distributed.checkpoint.

Its ``.metadata`` file is a pickle. A pickle is a program; here it can only build inert
records of the few classes that tensors need, which are then checked field by field.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
)
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from jmp_calc.errors import CheckpointError
from jmp_calc.models.pickle_limits import check_instructions
from jmp_calc.models.restricted_pickle import Record

METADATA = ".metadata"
"""Name of the file that says which tensors are where."""

READ_ERRORS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged file may raise, whatever the library does with it."""

_DATA_FILE = re.compile(r"__\d{1,9}_\d{1,9}\.distcp")
_DCP = "torch.distributed.checkpoint"
_RECORDS = frozenset(
    [
        (f"{_DCP}.metadata", "ChunkStorageMetadata"),
        (f"{_DCP}.metadata", "Metadata"),
        (f"{_DCP}.metadata", "MetadataIndex"),
        (f"{_DCP}.metadata", "StorageMeta"),
        (f"{_DCP}.metadata", "TensorProperties"),
        (f"{_DCP}.metadata", "TensorStorageMetadata"),
        (f"{_DCP}.metadata", "_MEM_FORMAT_ENCODING"),
        (f"{_DCP}.filesystem", "_StorageInfo"),
        ("torch", "Size"),
        ("torch.serialization", "_get_layout"),
    ]
)
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Where a piece of a tensor is; read by torch under these names."""

    relative_path: str
    """Name of the file."""
    offset: int
    """First byte."""
    length: int
    """Number of bytes."""
    transform_descriptors: tuple[str, ...] = ()
    """Filters of the bytes; none are used."""


class Writer(FileSystemWriter):
    """Writes tensors, and calls back when all processes have written theirs."""

    def __init__(self, path: Path, commit: Callable[[dict[str, int]], None]) -> None:
        """Write nothing yet.

        Args:
            path: Folder; made if need be.
            commit: Called in the first process with the size of each file, in bytes,
                when all of them are on the disk.
        """
        super().__init__(path)
        self._commit = commit

    def storage_meta(self) -> StorageMeta:
        """Return nothing: neither paths nor times belong into the file."""
        return StorageMeta()

    def write_data(
        self, plan: SavePlan, planner: SavePlanner
    ) -> torch.futures.Future[list[WriteResult]]:
        """Write the part of this process; an error says what the system said.

        Only the error itself reaches the other processes, not what is behind it.
        """
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            behind: BaseException | None = error
            while behind is not None and not isinstance(behind, OSError):
                behind = behind.__cause__ or behind.__context__
            if behind is None:
                raise
            raise behind from None

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write which tensors are where, and call back."""
        super().finish(metadata, results)
        sizes: dict[str, int] = {}
        for piece in (result.storage_data for part in results for result in part):
            name, end = piece.relative_path, piece.offset + piece.length
            sizes[name] = max(sizes.get(name, 0), end)
        self._commit(sizes)


def own_share(
    tensors: Mapping[str, Tensor], group: dist.ProcessGroup | None
) -> dict[str, Tensor]:
    """Return the tensors that this process writes.

    Without it each process would copy all replicated tensors, of which the library
    then writes every one once: on a node of eight, eight copies of the whole state.

    Args:
        tensors: By name; all but DTensors are the same in all processes.
        group: The processes; None: this one is alone.
    """
    if group is None:
        return dict(tensors)
    own: dict[str, Tensor] = {
        name: tensor for name, tensor in tensors.items() if isinstance(tensor, DTensor)
    }
    loads = [0] * dist.get_world_size(group)
    shared = [name for name in tensors if name not in own]
    # by name where sizes are equal, so that all processes find the same
    for name in sorted(shared, key=lambda name: (-tensors[name].nbytes, name)):
        lightest = loads.index(min(loads))
        loads[lightest] += tensors[name].nbytes
        if lightest == dist.get_rank(group):
            own[name] = tensors[name]
    return own


def write_tensors(
    tensors: dict[str, Tensor], writer: Writer, group: dist.ProcessGroup | None
) -> None:
    """Write tensors from all processes.

    Args:
        tensors: What :func:`own_share` returned, on the CPU; of a DTensor, the shard of
            this process is written.
        writer: Where to.
        group: Processes that call this, with a CPU backend; None: this one is alone.
    """
    planner = DefaultSavePlanner(flatten_state_dict=False)
    if group is not None:
        save(tensors, storage_writer=writer, planner=planner, process_group=group)
        return
    planner.set_up_planner(tensors, writer.storage_meta(), is_coordinator=True)
    writer.set_up_storage_writer(True)
    plans, metadata = planner.create_global_plan(
        [writer.prepare_local_plan(planner.create_local_plan())]
    )
    plan = planner.finish_plan(writer.prepare_global_plan(plans)[0])
    written = writer.write_data(plan, planner)
    writer.finish(metadata, [written.wait()])


class Reader(FileSystemReader):
    """Reads tensors; nothing that the files name is imported or run."""

    def read_metadata(self, *_args: Any, **_kwargs: Any) -> Metadata:
        """Return which tensors are where."""
        return read_metadata(Path(self.path))


def read_metadata(path: Path) -> Metadata:
    """Return which tensors a folder holds and where, strictly checked.

    Args:
        path: Folder that :func:`write_tensors` wrote.

    Raises:
        CheckpointError: If the file names anything but tensors, or is damaged.
    """
    file = path / METADATA
    try:
        return _parsed(file.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    except READ_ERRORS as error:
        raise CheckpointError(
            f"{file} is damaged or was not written by jmp-train "
            f"({type(error).__name__}: {error}); nothing in it was run"
        ) from error


@lru_cache(maxsize=2)
def _parsed(data: bytes) -> Metadata:
    # one reading of a checkpoint asks several times, and the checks take their time
    check_instructions(data)
    return _metadata(_Unpickler(data).load())


def fill_tensors(path: Path, into: Mapping[str, Tensor]) -> None:
    """Read tensors into those given, each process what it holds of them.

    No process waits for another.

    Args:
        path: Folder that :func:`write_tensors` wrote.
        into: By name, with the shape and precision that they have in the folder.
    """
    reader = Reader(path)
    planner = DefaultLoadPlanner(flatten_state_dict=False)
    metadata = reader.read_metadata()
    planner.set_up_planner(dict(into), metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    plans = reader.prepare_global_plan(planner.create_global_plan([plan]))
    plan = planner.finish_plan(plans[0])
    for index in {item.storage_index for item in plan.items}:
        _check_sum(path, metadata.storage_data[index])
    reader.read_data(plan, planner).wait()


def _check_sum(path: Path, piece: Piece) -> None:
    """Refuse a piece with a changed byte; torch does not look at the checksums."""
    with (path / piece.relative_path).open("rb") as file:
        file.seek(piece.offset)
        data = file.read(piece.length)
    try:
        bad = zipfile.ZipFile(io.BytesIO(data)).testzip()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{piece.relative_path}: {error}") from error
    if bad is not None:
        raise ValueError(f"{piece.relative_path}: the checksum of {bad} is wrong")


class _Unpickler(pickle.Unpickler):
    """Resolves names to inert records and to precisions."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._kinds: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a name; nothing is imported or looked up."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in _RECORDS:
            raise CheckpointError(
                f"it names {module}.{name}, which no checkpoint of jmp-train needs; "
                "nothing was run, but do not trust this folder"
            )
        if name not in self._kinds:
            self._kinds[name] = type("Record", (Record,), {"origin": name})
        return self._kinds[name]


def _metadata(root: Any) -> Metadata:
    fields = _fields(root, "Metadata")
    tensors = {
        _checked(name, str): _tensor(entry)
        for name, entry in _checked(fields["state_dict_metadata"], dict).items()
    }
    pieces: dict[MetadataIndex, Piece] = {}
    for key, value in _checked(fields["storage_data"], dict).items():
        index = _fields(key, "MetadataIndex")
        name, offset = _checked(index["fqn"], str), _shape(index["offset"])
        pieces[MetadataIndex(name, offset)] = _piece(value)
    for name, tensor in tensors.items():
        _check_whole(name, tensor, pieces)
    return Metadata(
        state_dict_metadata=cast(dict[str, Any], tensors),
        storage_data=pieces,
        storage_meta=StorageMeta(),
    )


def _tensor(entry: Any) -> TensorStorageMetadata:
    fields = _fields(entry, "TensorStorageMetadata")
    properties = fields["properties"]
    if not isinstance(properties, Record) or properties.origin != "TensorProperties":
        raise ValueError("a tensor has no properties")
    return TensorStorageMetadata(
        properties=TensorProperties(dtype=_checked(properties.state[0], torch.dtype)),
        size=_shape(fields["size"]),
        chunks=[_chunk(chunk) for chunk in _checked(fields["chunks"], list)],
    )


def _chunk(entry: Any) -> ChunkStorageMetadata:
    fields = _fields(entry, "ChunkStorageMetadata")
    return ChunkStorageMetadata(
        offsets=_shape(fields["offsets"]), sizes=_shape(fields["sizes"])
    )


def _piece(entry: Any) -> Piece:
    fields = _fields(entry, "_StorageInfo")
    name = _checked(fields["relative_path"], str)
    if not _DATA_FILE.fullmatch(name):
        raise CheckpointError(
            f"it refers to the file {name!r}, which is not one of a checkpoint"
        )
    return Piece(
        relative_path=name,
        offset=_size(fields["offset"]),
        length=_size(fields["length"]),
    )


def _check_whole(
    name: str, tensor: TensorStorageMetadata, pieces: Mapping[MetadataIndex, Piece]
) -> None:
    """Refuse a tensor whose pieces are missing, too short or outside of it."""
    found = 0
    for chunk in tensor.chunks:
        n = math.prod(chunk.sizes)
        found += n
        piece = pieces[MetadataIndex(name, chunk.offsets)]
        ends = [o + s for o, s in zip(chunk.offsets, chunk.sizes, strict=True)]
        is_inside = all(e <= s for e, s in zip(ends, tensor.size, strict=True))
        if not is_inside or piece.length < n * tensor.properties.dtype.itemsize:
            raise ValueError(f"a piece of {name} does not fit")
    if found != math.prod(tensor.size):
        raise ValueError(f"{name} is not there as a whole")


def _fields(value: Any, kind: str) -> dict[str, Any]:
    if not isinstance(value, Record) or value.origin != kind:
        raise ValueError(f"a {kind} is {value!r}")
    return cast(dict[str, Any], _checked(value.state, dict))


def _shape(value: Any) -> torch.Size:
    if not isinstance(value, Record) or value.origin != "Size" or len(value.args) != 1:
        raise ValueError(f"a shape is {value!r}")
    return torch.Size([_size(n) for n in _checked(value.args[0], tuple)])


def _size(value: Any) -> int:
    # bool is an int to Python, but not to torch
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"a size is {value!r}")
    return value


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {kind.__name__}")
    return value
