from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.data import store as store_module
from jmp_train.data.sample import Sample
from jmp_train.data.store import (
    Store,
    StoreWriter,
    count_pairs,
    decode_sample,
    encode_sample,
    open_stores,
)
from toys.training import toy_crystals, toy_molecules, write_store


@pytest.fixture
def samples() -> list[Sample]:
    """Molecules with and without forces, and a crystal."""
    molecules = toy_molecules(3)
    return [*molecules, replace(molecules[0], forces=None), *toy_crystals(1)]


@pytest.fixture
def path(samples, tmp_path) -> Path:
    return write_store(tmp_path / "toy-train.lmdb", samples)


def assert_same(one: Sample, other: Sample) -> None:
    for field in fields(Sample):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name, strict=True)


def test_samples_come_back_bit_for_bit_and_in_order(samples, path) -> None:
    store = Store(path)
    assert len(store) == len(list(store)) == 5
    for written, read in zip(samples, store, strict=True):
        assert_same(written, read)


def test_a_sample_without_a_task_can_be_stored(samples) -> None:
    sample = replace(samples[0], task="")
    assert_same(decode_sample(encode_sample(sample)), sample)


def test_sizes_are_known_without_reading_records(samples, path) -> None:
    store = Store(path)
    assert store.n_atoms.tolist() == [s.n_atoms for s in samples]
    assert store.n_pairs.tolist() == [count_pairs(s) for s in samples]
    assert count_pairs(samples[0]) == 3 * 2
    assert count_pairs(samples[-1]) > 50  # images count


def test_the_header_states_units_and_the_facts_given(path) -> None:
    header = Store(path).header
    assert header["units"]["forces"] == "eV/Å"
    assert header["n_systems"] == 5
    assert header["statistics"]["n_systems"] == 5


def test_the_fingerprint_follows_from_the_samples_alone(samples, tmp_path) -> None:
    def fingerprint(name: str, content: list[Sample]) -> str:
        return Store(write_store(tmp_path / name, content)).header["fingerprint"]

    one = fingerprint("a.lmdb", samples)
    assert one == fingerprint("b.lmdb", samples)
    assert one != fingerprint("c.lmdb", samples[1:])
    changed = [replace(samples[0], energy=samples[0].energy + 1e-9), *samples[1:]]
    assert one != fingerprint("d.lmdb", changed)


def test_a_store_grows_beyond_its_first_size(samples, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store_module, "_FIRST_MAP_SIZE", 1 << 15)
    monkeypatch.setattr(store_module, "_RECORDS_PER_COMMIT", 16)
    many = samples * 60
    store = Store(write_store(tmp_path / "big.lmdb", many))
    assert len(store) == 300
    assert_same(store[299], samples[-1])


def test_a_record_that_is_a_pickle_is_never_run(tmp_path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)

    block = pickle.dumps(Bomb())
    with pytest.raises(DataError, match="another layout"):
        decode_sample(struct.pack("<I", zlib.crc32(block)) + block)
    assert not (tmp_path / "exploded").exists()


def test_a_corrupt_record_is_named_and_the_others_can_be_read(samples, path) -> None:
    record = encode_sample(samples[2])
    content = path.read_bytes()
    start = content.index(record)
    broken = bytearray(content)
    broken[start + len(record) // 2] ^= 1
    path.write_bytes(broken)
    store = Store(path)
    with pytest.raises(DataError, match=rf"record 2 of {path} .*checksum.*prepare"):
        store[2]
    assert_same(store[0], samples[0])


def test_a_truncated_store_is_named_with_its_length(samples, tmp_path) -> None:
    path = write_store(tmp_path / "cut.lmdb", samples * 20)
    length = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(length // 2)
    with pytest.raises(
        DataError, match=rf"{path} is cut off: {length // 2} bytes inst"
    ):
        Store(path)


def test_a_file_that_is_no_store_is_named(tmp_path) -> None:
    path = tmp_path / "text.lmdb"
    path.write_text("not a store" * 1000)
    with pytest.raises(DataError, match=rf"header of {path} cannot be read.*prepare"):
        Store(path)


def test_a_missing_store_says_how_to_make_it(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no store .*jmp-train"):
        Store(tmp_path / "absent.lmdb")


def rewrite(path: Path, key: str, value: bytes | None) -> None:
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        if value is None:
            transaction.delete(key.encode())
        else:
            transaction.put(key.encode(), value)


def test_a_store_of_another_version_is_refused(path) -> None:
    header = Store(path).header | {"version": 99}
    rewrite(path, "header", json.dumps(header).encode())
    with pytest.raises(DataError, match=r"version 99; this version reads .* version 1"):
        Store(path)


def test_a_damaged_header_is_an_error(path) -> None:
    rewrite(path, "header", b"{")
    with pytest.raises(DataError, match=r"header of .* is damaged.*prepare it again"):
        Store(path)


def test_a_missing_entry_is_named(path) -> None:
    rewrite(path, "3", None)
    with pytest.raises(DataError, match="has no entry '3'; it is damaged"):
        Store(path)[3]


def test_sizes_must_fit_the_header(path) -> None:
    rewrite(path, "n_pairs", np.zeros(2, "<i8").tobytes())
    with pytest.raises(DataError, match="lists n_pairs of 2 systems and has 5"):
        Store(path)


def test_an_index_beyond_the_end_is_an_index_error(path) -> None:
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"sample {index} of 5"):
            Store(path)[index]


def test_two_readers_and_many_threads_read_one_file(samples, path) -> None:
    readers = [Store(path), pickle.loads(pickle.dumps(Store(path)))]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: readers[i % 2][i % 5], range(200)))
    for i, sample in enumerate(found):
        assert_same(sample, samples[i % 5])


def test_a_store_can_be_read_while_it_is_replaced(samples, path) -> None:
    old = Store(path)
    write_store(path, samples[:2])
    assert len(Store(path)) == 2
    assert len(old) == 5


def write_one_and_fail(path: Path, sample: Sample) -> None:
    with StoreWriter(path) as writer:
        writer.add(sample)
        raise KeyError


def test_an_error_while_writing_leaves_no_file(samples, tmp_path) -> None:
    with pytest.raises(KeyError):
        write_one_and_fail(tmp_path / "toy.lmdb", samples[0])
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_writer_keeps_the_old_store(samples, path) -> None:
    with StoreWriter(path) as writer:
        writer.add(samples[0])
        assert len(writer) == 1
    assert len(Store(path)) == 5
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_writer_leaves_no_store(samples, tmp_path) -> None:
    child = os.fork()
    if child == 0:
        writer = StoreWriter(tmp_path / "toy.lmdb")
        for sample in samples * 120:
            writer.add(sample)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "toy.lmdb").exists()
    store = Store(write_store(tmp_path / "toy.lmdb", samples))
    assert len(store) == 5


def test_stores_of_several_tasks_are_opened_in_the_order_given(toy_stores) -> None:
    assert list(open_stores(toy_stores, ["pbe", "qm7x"], "val")) == ["pbe", "qm7x"]
