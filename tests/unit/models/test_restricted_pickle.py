"""Files of torch.save are read as data; nothing that they name is run."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from jmp_calc.errors import CheckpointError
from jmp_calc.models import torch_archive
from jmp_calc.models.restricted_pickle import (
    Record,
    StoredTensor,
    fields_of,
    items_of,
    read_torch_file,
)


def write_zip(path: Path, data: bytes, **members: bytes) -> Path:
    """A file like those of torch.save around a given pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in {"byteorder": b"little", **members}.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", content)
    return path


def read_pickle(tmp_path: Path, data: bytes, **members: bytes) -> Any:
    return read_torch_file(write_zip(tmp_path / "file.pt", data, **members))


def short_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


STORAGE = (
    b"(" + short_text("storage") + name_of("torch", "FloatStorage") + short_text("0")
)


def tensor(shape: bytes, stride: bytes, *, n: int = 4, offset: int = 0) -> bytes:
    """A pickle of one tensor; shape and stride are pickled tuples."""
    return (
        b"\x80\x02"
        + name_of("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + STORAGE
        + short_text("cpu")
        + b"K"
        + bytes([n])
        + b"tQK"
        + bytes([offset])
        + shape
        + stride
        + b"\x89)tR."
    )


# --- what honest files hold


def test_tensors_and_containers_come_back(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    content = {
        "view": whole[1:, ::2].t(),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, 2.5, "text", None, True, (1, 2), {3, 4}],
    }
    torch.save(content, tmp_path / "f.pt")
    found = read_torch_file(tmp_path / "f.pt")
    assert found["plain"] == content["plain"]
    for name in ("view", "scalar", "empty", "half", "parameter"):
        assert found[name].dtype == content[name].dtype
        assert found[name].shape == tuple(content[name].shape)
        assert torch.equal(found[name].load(), content[name].detach())


def test_tensors_are_memory_mapped_and_shared(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    torch.save({"whole": whole, "part": whole[2:4]}, tmp_path / "f.pt")
    found = read_torch_file(tmp_path / "f.pt")
    part, again = found["part"].load(), found["whole"].load()
    assert part.data_ptr() == again.data_ptr() + 2 * 4
    before = (tmp_path / "f.pt").read_bytes()
    part.zero_()  # a private copy of the page, never the file
    assert (tmp_path / "f.pt").read_bytes() == before


def test_a_state_dict_with_metadata_is_a_plain_dict(tmp_path: Path) -> None:
    state = OrderedDict(torch.nn.Linear(2, 1).state_dict())
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "f.pt")
    found = read_torch_file(tmp_path / "f.pt")
    assert list(found) == ["weight", "bias"]
    assert not hasattr(found, "_metadata")


def test_an_unknown_class_is_recorded_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_of_the_file.py"
    package.write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    data = name_of("package_of_the_file", "Config") + b")\x81}" + short_text("a")
    found = read_pickle(tmp_path, b"\x80\x02" + data + b"K\x01sb.")
    assert isinstance(found, Record)
    assert found.origin == "package_of_the_file.Config"
    assert repr(found) == "<inert package_of_the_file.Config>"
    assert fields_of(found) == {"a": 1}
    assert not (tmp_path / "canary").exists()
    assert "package_of_the_file" not in sys.modules


def test_a_path_is_a_record_of_its_parts(tmp_path: Path) -> None:
    torch.save({"p": PurePosixPath("data/oc20")}, tmp_path / "f.pt")
    found = read_torch_file(tmp_path / "f.pt")["p"]
    # Python 3.13 writes another module and the path in one piece
    assert found.origin.startswith("pathlib.")
    assert found.origin.endswith(".PurePosixPath")
    assert "/".join(found.args) == "data/oc20"


class Box(dict[str, int]):
    """A dict with attributes, as configuration classes are."""


class Row(list[int]):
    pass


class Bag(set[int]):
    pass


def test_containers_of_unknown_classes_keep_their_items(tmp_path: Path) -> None:
    box = Box(a=1)
    box.note = 2  # type: ignore[attr-defined]
    data = pickle.dumps({"box": box, "row": Row([3, 4]), "bag": Bag([5])}, protocol=2)
    found = read_pickle(tmp_path, data)
    assert fields_of(found["box"]) == {"a": 1, "note": 2}
    assert items_of(found["row"]) == [3, 4]
    assert found["bag"].args == ([5],)


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ({"__dict__": {"a": 1}, "__pydantic_private__": None}, {"a": 1}),
        (({"a": 1}, {"slot": 2}), {"a": 1}),
        ({"__dict__": 3}, {}),
        ("text", {}),
        (None, {}),
    ],
)
def test_fields_of_a_record_are_found_in_its_state(
    state: Any, fields: dict[str, int]
) -> None:
    record = Record()
    record.__setstate__(state)
    assert fields_of(record) == fields


def test_items_that_cannot_be_fields_are_left_out(tmp_path: Path) -> None:
    filled = name_of("far.away", "Config") + b")R(]K\x01\x86" + short_text("a")
    found = read_pickle(tmp_path, b"\x80\x02" + filled + b"K\x02\x86e.")
    assert len(items_of(found)) == 2
    assert fields_of(found) == {"a": 2}


def test_fields_and_items_of_anything_else_are_empty() -> None:
    assert fields_of({"a": 1}) == {"a": 1}
    assert fields_of([1]) == {}
    assert items_of((1, 2)) == [1, 2]
    assert items_of("text") == []


# --- pickle bombs


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


class BuildCall(Call):
    """Pickles as a plain object whose state is a call."""

    def __reduce__(self) -> Any:
        return (OrderedDict, (), {"_metadata": Call(*self.call[:1], *self.call[1])})


def bombs(canary: Path) -> dict[str, Any]:
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    return {
        "system": Call(os.system, command),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "import": Call(__import__, "this"),
        "getattr": Call(getattr, 1, "real"),
        "path": Call(open, str(canary), "w"),
        "nested": {"a": [("b", {"c": Call(os.system, command)})]},
        "in the state": BuildCall(os.system, command),
        "as an argument": Call(OrderedDict, [("k", Call(eval, code))]),
        "copyreg": Call(copyreg.add_extension, "os", Call(os.system, command), 241),
        "sys.modules": Call(sys.setrecursionlimit, 10),
    }


@pytest.mark.parametrize("name", bombs(Path()))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_bomb_gives_an_error_and_nothing_else(
    tmp_path: Path, name: str, protocol: int
) -> None:
    canary = tmp_path / "canary"
    data = pickle.dumps({"state_dict": bombs(canary)[name]}, protocol=protocol)
    with pytest.raises(CheckpointError, match=r"which is code and not data; nothing w"):
        read_pickle(tmp_path, data)
    assert not canary.exists()


@pytest.mark.parametrize("module", ["os", "posix", "nt", "subprocess", "commands"])
def test_names_of_code_are_refused_by_module(tmp_path: Path, module: str) -> None:
    data = name_of(module, "system") + b"."
    with pytest.raises(CheckpointError, match=f"names {module}.system, which is code"):
        read_pickle(tmp_path, data)


def test_a_dotted_name_is_not_followed(tmp_path: Path) -> None:
    data = b"\x80\x04" + short_text("collections") + short_text("abc.sys.modules")
    found = read_pickle(tmp_path, data + b"\x93.")
    assert found.origin == "collections.abc.sys.modules"
    assert issubclass(found, Record)


def test_calling_an_unknown_name_runs_nothing(tmp_path: Path) -> None:
    data = name_of("torch.hub", "load") + b"(" + short_text("evil/repo") + b"tR."
    found = read_pickle(tmp_path, b"\x80\x02" + data)
    assert (found.origin, found.args) == ("torch.hub.load", ("evil/repo",))


@pytest.mark.parametrize("opcode", [b"\x82\xf1", b"\x83\xf1\0", b"\x84\xf1\0\0\0"])
def test_extension_codes_are_refused(tmp_path: Path, opcode: bytes) -> None:
    copyreg.add_extension("os", "system", 241)
    try:
        with pytest.raises(CheckpointError, match="the pickle instruction EXT"):
            read_pickle(tmp_path, b"\x80\x02" + opcode + b".")
    finally:
        copyreg.remove_extension("os", "system", 241)


@pytest.mark.parametrize(
    "data", [b"(S'ls'\nios\nsystem\n.", b"(cos\nsystem\nS'ls'\no."]
)
def test_old_ways_to_make_an_instance_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"pickle instruction (INST|OBJ)"):
        read_pickle(tmp_path, data)


@pytest.mark.parametrize(
    "pid",
    [
        name_of("os", "getcwd") + b")R",
        short_text("storage"),
        b"(" + short_text("module") + b"K\x01K\x02K\x03K\x04t",
        b"(" + short_text("storage") + short_text("f") + b"NNK\x01t",
    ],
)
def test_a_reference_to_anything_but_a_storage_is_refused(
    tmp_path: Path, pid: bytes
) -> None:
    with pytest.raises(CheckpointError, match=r"code and not data|not a tensor"):
        read_pickle(tmp_path, b"\x80\x02" + pid + b"Q.")


@pytest.mark.parametrize(
    "target",
    [
        name_of("torch", "FloatStorage"),
        name_of("torch._utils", "_rebuild_tensor_v2"),
        STORAGE + short_text("cpu") + b"K\x04tQ",
    ],
)
def test_the_stand_ins_cannot_be_altered(tmp_path: Path, target: bytes) -> None:
    data = b"\x80\x02" + target + b"}" + short_text("dtype") + b"K\x01sb."
    with pytest.raises(CheckpointError, match="tries to alter a _"):
        read_pickle(tmp_path, data)


@pytest.mark.parametrize(
    "target", [name_of("collections", "OrderedDict"), name_of("some.package", "C")]
)
def test_classes_cannot_be_altered(tmp_path: Path, target: bytes) -> None:
    data = b"\x80\x02" + target + b"}" + short_text("origin") + b"K\x01sb."
    with pytest.raises(CheckpointError, match=r"damaged or not a checkpoint"):
        read_pickle(tmp_path, data)
    torch.save(OrderedDict(a=1), tmp_path / "good.pt")
    assert read_torch_file(tmp_path / "good.pt") == {"a": 1}


def test_a_memo_of_a_billion_slots_is_refused(tmp_path: Path) -> None:
    data = b"\x80\x02N" + b"r" + struct.pack("<I", 2**31) + b"."
    with pytest.raises(CheckpointError, match="asks for 2147483648 memory slots"):
        read_pickle(tmp_path, data)


FILLERS = {
    "nothing": b"",
    "empty items": b"(e",
    "empty pairs": b"(u",
    "no state": b"Nb",
    "memo": b"q\x01h\x01",
    "many": b"222\x87",
}


@pytest.mark.parametrize("filler", FILLERS)
def test_a_key_that_takes_forever_to_hash_is_refused(
    tmp_path: Path, filler: str
) -> None:
    key = b")" + (b"2\x86" + FILLERS[filler]) * 60  # tuple of twice the tuple of ...
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="would take forever to compare"):
        read_pickle(tmp_path, b"\x80\x02}" + key + b"Ns.")
    assert time.monotonic() - start < 5


def test_keys_of_one_hash_by_the_million_are_refused(tmp_path: Path) -> None:
    collisions = {(2**61 - 1) * i: None for i in range(1, 1002)}
    assert set(map(hash, collisions)) == {0}
    with pytest.raises(CheckpointError, match=r"more than 1000 whole numbers of more"):
        read_pickle(tmp_path, pickle.dumps(collisions, protocol=2))
    few = dict(list(collisions.items())[:100])
    assert read_pickle(tmp_path, pickle.dumps(few, protocol=2)) == few


def test_a_long_flat_tuple_is_accepted(tmp_path: Path) -> None:
    data = pickle.dumps([tuple(range(1000)), ((1, 2), 3)], protocol=2)
    assert read_pickle(tmp_path, data) == [tuple(range(1000)), ((1, 2), 3)]


def test_deep_nesting_is_harmless(tmp_path: Path) -> None:
    found = read_pickle(tmp_path, b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".")
    assert len(found) == 1


# --- damage


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02}",
        b"\x80\x02(.",
        b"\x80\x63N.",
        b"\x80\x02h\x07.",
        b"\x80\x02\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"I1x\n.",
        b"L" + b"9" * 10_000 + b"\n.",
        b"\x80\x02}]Ns.",
        b"\x80\x02K\x01)R.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
    ],
)
def test_a_damaged_pickle_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"file\.pt is damaged or not a checkp"):
        read_pickle(tmp_path, data)


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "f.pt")
    whole = (tmp_path / "f.pt").read_bytes()
    for n_left in (100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "f.pt").write_bytes(whole[:n_left])
        with pytest.raises(CheckpointError, match=r"f\.pt is damaged or not a check"):
            read_torch_file(tmp_path / "f.pt")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"\x1f\x8b\x08"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a file of torch\.save"):
        read_torch_file(tmp_path / "f.pt")


def test_the_old_format_says_why_it_is_not_read(tmp_path: Path) -> None:
    torch.save(
        {"a": torch.zeros(1)}, tmp_path / "f.pt", _use_new_zipfile_serialization=False
    )
    with pytest.raises(CheckpointError, match=r"before version 1\.6.*newer torch"):
        read_torch_file(tmp_path / "f.pt")


def test_a_zip_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"zip archive but not a checkpoint"):
        read_torch_file(tmp_path / "f.pt")


def test_a_script_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"zip archive but not a checkpoint"):
        read_pickle(tmp_path, pickle.dumps(1), code__x=b"")


@pytest.mark.parametrize("order", [b"big", b"", b"\xff" * 100])
def test_the_other_byte_order_is_refused(tmp_path: Path, order: bytes) -> None:
    with pytest.raises(CheckpointError, match="machine of the other byte order"):
        read_pickle(tmp_path, pickle.dumps(1), byteorder=order)


def test_a_compressed_or_huge_pickle_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "f.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)
    with pytest.raises(CheckpointError, match="1000000 bytes, or compressed"):
        read_torch_file(tmp_path / "f.pt")
    monkeypatch.setattr(torch_archive, "MAX_PICKLE_BYTES", 3)
    with pytest.raises(CheckpointError, match=r"or compressed; torch\.save writes no"):
        read_pickle(tmp_path, pickle.dumps(1, protocol=2))


@pytest.mark.parametrize("stored", [None, b"\0" * 12, b"\0" * 20])
def test_numbers_of_the_wrong_length_are_damage(
    tmp_path: Path, stored: bytes | None
) -> None:
    members = {} if stored is None else {"data__0": stored}
    found = read_pickle(tmp_path, tensor(b"K\x04\x85", b"K\x01\x85"), **members)
    assert isinstance(found, StoredTensor)
    with pytest.raises(CheckpointError, match=r"'0' are .*, should be 16 bytes"):
        found.load()


def test_numbers_must_not_be_compressed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        data = tensor(b"K\x04\x85", b"K\x01\x85")
        archive.writestr("archive/data.pkl", data, zipfile.ZIP_STORED)
        archive.writestr("archive/data/0", b"\0" * 16)
    with pytest.raises(CheckpointError, match="archive/data/0 is damaged or compress"):
        read_torch_file(tmp_path / "f.pt").load()


def test_damage_of_the_archive_itself_is_an_error(tmp_path: Path) -> None:
    data = tensor(b"K\x04\x85", b"K\x01\x85")
    path = write_zip(tmp_path / "f.pt", data, data__0=b"\0" * 16)
    whole = path.read_bytes()
    entries = [i for i in range(len(whole)) if whole.startswith(b"PK\x01\x02", i)]
    for entry in entries:
        for offset in (-1, 2**31 - 1):
            broken = bytearray(whole)
            struct.pack_into("<i", broken, entry + 42, offset)
            path.write_bytes(broken)
            with pytest.raises(CheckpointError, match=r"damaged|outside of the file"):
                read_torch_file(path).load()


def test_a_damaged_compressed_member_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "f.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(1))
        archive.writestr("archive/byteorder", b"little" * 9, zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    start = whole.index(b"archive/byteorder") + len(b"archive/byteorder")
    path.write_bytes(whole[:start] + b"\xff\xff" + whole[start + 2 :])
    with pytest.raises(CheckpointError, match=r"zip archive is damaged .*invalid b"):
        read_torch_file(path)


def test_numbers_at_an_odd_place_are_copied(tmp_path: Path) -> None:
    numbers = struct.pack("<4f", 1, 2, 3, 4)
    for pad in (b"", b".", b"..", b"..."):
        found = read_pickle(
            tmp_path, tensor(b"K\x04\x85", b"K\x01\x85"), pad=pad, data__0=numbers
        )
        assert found.load().tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "message"),
    [
        (b"K\x05\x85", b"K\x01\x85", 0, "repeats the 4 numbers"),
        (b"K\x64\x85", b"K\x00\x85", 0, "repeats the 4 numbers"),
        (b"K\x02\x85", b"K\x04\x85", 0, "reaches beyond the 4 numbers"),
        (b"K\x04\x85", b"K\x01\x85", 1, "reaches beyond the 4 numbers"),
        (b"K\x04\x85", b"K\x01K\x01\x86", 0, "is described wrongly"),
        (b"K\x04\x85", b"J\xff\xff\xff\xff\x85", 0, "is described wrongly"),
        (b"N", b"K\x01\x85", 0, "is described wrongly"),
        (b"K\x01\x85", b"\x88\x85", 0, "is described wrongly"),
    ],
)
def test_a_tensor_outside_of_its_numbers_is_refused(
    tmp_path: Path, shape: bytes, stride: bytes, offset: int, message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"file\.pt: a tensor.*{message}"):
        read_pickle(tmp_path, tensor(shape, stride, offset=offset), data__0=b"\0" * 16)


def test_a_parameter_without_a_tensor_is_refused(tmp_path: Path) -> None:
    data = name_of("torch._utils", "_rebuild_parameter") + b"(K\x01\x89)tR."
    with pytest.raises(CheckpointError, match="a parameter in the file holds no tens"):
        read_pickle(tmp_path, b"\x80\x02" + data)
