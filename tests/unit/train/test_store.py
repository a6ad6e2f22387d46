from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data import shards
from jmp_train.data.records import count_pairs, encode_sample
from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, StoreWriter, open_stores
from toys.training import toy_crystals, toy_molecules, write_store


@pytest.fixture
def samples() -> list[Sample]:
    """Molecules with and without forces, and a crystal."""
    molecules = toy_molecules(3)
    return [*molecules, replace(molecules[0], forces=None), *toy_crystals(1)]


@pytest.fixture
def path(samples, tmp_path) -> Path:
    return write_store(tmp_path / "toy-train", samples)


def assert_same(one: Sample, other: Sample) -> None:
    for field in fields(Sample):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name, strict=True)


def test_samples_come_back_bit_for_bit_and_in_order(samples, path) -> None:
    store = Store(path)
    assert len(store) == len(list(store)) == 5
    for written, read in zip(samples, store, strict=True):
        assert_same(written, read)


def test_sizes_are_known_without_reading_records(samples, path) -> None:
    store = Store(path)
    assert store.n_atoms.tolist() == [s.n_atoms for s in samples]
    assert store.n_pairs.tolist() == [count_pairs(s) for s in samples]
    assert not store.n_atoms.flags.owndata


def test_the_header_states_units_and_the_facts_given(path) -> None:
    header = Store(path).header
    assert header["units"] == {
        "energy": "eV",
        "forces": "eV/Å",
        "stress": "eV/Å³",
        "positions": "Å",
        "cell": "Å",
        "targets": {},
    }
    assert header["pair_cutoff"] == 5.0
    assert header["n_systems"] == 5
    assert header["statistics"]["n_systems"] == 5
    assert header["labels"] == {"energy": 5, "forces": 4, "stress": 0}
    assert header["element_systems"] == {"1": 4, "6": 1, "7": 1, "8": 2, "14": 1}


def test_the_fingerprint_follows_from_the_samples_alone(samples, tmp_path) -> None:
    def fingerprint(name: str, content: list[Sample]) -> str:
        return Store(write_store(tmp_path / name, content)).header["fingerprint"]

    one = fingerprint("a", samples)
    assert one == fingerprint("b", samples)
    assert one != fingerprint("c", samples[1:])
    changed = [replace(samples[0], energy=samples[0].energy + 1e-9), *samples[1:]]
    assert one != fingerprint("d", changed)


def test_a_store_grows_beyond_its_first_size(samples, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "_FIRST_MAP_SIZE", 1 << 15)
    monkeypatch.setattr(shards, "_RECORDS_PER_COMMIT", 16)
    many = samples * 60
    store = Store(write_store(tmp_path / "big", many))
    assert len(store) == 300
    assert_same(store[299], samples[-1])


SHARD = "shard-00000.lmdb"


def test_a_corrupt_record_is_named_and_the_others_can_be_read(samples, path) -> None:
    record = encode_sample(samples[2])
    content = (path / SHARD).read_bytes()
    start = content.index(record)
    broken = bytearray(content)
    broken[start + len(record) // 2] ^= 1
    (path / SHARD).write_bytes(broken)
    store = Store(path)
    with pytest.raises(DataError, match=rf"record 2 of {path} .*checksum.*prepare"):
        store[2]
    assert_same(store[0], samples[0])


def test_a_truncated_shard_is_named_with_its_length(samples, tmp_path) -> None:
    path = write_store(tmp_path / "cut", samples * 20)
    length = (path / SHARD).stat().st_size
    with (path / SHARD).open("r+b") as file:
        file.truncate(length // 2)
    with pytest.raises(
        DataError, match=rf"{path / SHARD} is cut off: {length // 2} bytes inst"
    ):
        Store(path)


def test_a_missing_shard_is_named(path) -> None:
    (path / SHARD).unlink()
    with pytest.raises(DataError, match=rf"there is no {path / SHARD}; prepare"):
        Store(path)


def test_a_file_that_is_no_shard_is_named(path) -> None:
    length = (path / SHARD).stat().st_size
    (path / SHARD).write_bytes(b"not a store" * length)
    with pytest.raises(DataError, match=rf"{path / SHARD} cannot be read.*prepare"):
        Store(path)[0]


def test_a_shard_of_another_store_is_refused(samples, path, tmp_path) -> None:
    other = write_store(tmp_path / "other", samples[1:] * 10)
    (other / SHARD).replace(path / SHARD)
    with pytest.raises(DataError, match="not the shard that its store describes"):
        Store(path)[0]


def test_a_missing_store_says_how_to_make_it(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no store .*jmp-train"):
        Store(tmp_path / "absent")


def change_header(path: Path, **changes: object) -> None:
    header = Store(path).header | changes
    (path / "header.json").write_text(json.dumps(header))


def test_a_store_of_another_version_is_refused(path) -> None:
    change_header(path, version=99)
    with pytest.raises(DataError, match=r"version 99; this version reads .* version 2"):
        Store(path)


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_header_is_an_error(path, text) -> None:
    (path / "header.json").write_text(text)
    with pytest.raises(DataError, match=r"header of .* is damaged.*prepare it again"):
        Store(path)


def test_shards_outside_of_the_folder_are_refused(path) -> None:
    shard = Store(path).header["shards"][0] | {"file": "../secret"}
    change_header(path, shards=[shard])
    with pytest.raises(DataError, match=r"no usable list of shards .*no file name"):
        Store(path)


def test_a_missing_record_is_named(path) -> None:
    with (
        lmdb.open(str(path / SHARD), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.delete((3).to_bytes(4, "big"))
    with pytest.raises(DataError, match=r"record 3 of .*has no record 3"):
        Store(path)[3]


def test_sizes_must_fit_the_header(path) -> None:
    np.save(path / "n_pairs.npy", np.zeros(2, "<i4"))
    with pytest.raises(DataError, match="lists n_pairs of 2 systems and has 5"):
        Store(path)


def test_damaged_sizes_are_named(path) -> None:
    (path / "n_atoms.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"n_atoms.npy is missing or damaged.*prepare"):
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


def test_a_pickled_store_is_small(path) -> None:
    assert len(pickle.dumps(Store(path))) < 1000


def energies(path: Path) -> list[float | None]:
    return [sample.energy for sample in Store(path)]


def read_in_child(store: Store, answer: multiprocessing.Queue) -> None:
    answer.put([sample.energy for sample in store])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_a_store_that_is_open_here(path, method) -> None:
    store = Store(path)
    here = [sample.energy for sample in store]
    context = multiprocessing.get_context(method)
    answers = [context.Queue(), context.Queue()]
    children = [
        context.Process(target=read_in_child, args=(store, answer))
        for answer in answers
    ]
    for child in children:
        child.start()
    assert [answer.get(timeout=60) for answer in answers] == [here, here]
    for child in children:
        child.join()
    assert store[0].energy == here[0]


def test_a_linked_store_is_read_beside_the_original(path, tmp_path) -> None:
    link = tmp_path / "linked-train"
    link.symlink_to(path, target_is_directory=True)
    one, other = Store(path), Store(link)
    assert [one[i].energy for i in range(5)] == [other[i].energy for i in range(5)]


def test_a_store_is_read_after_it_was_moved(path, tmp_path) -> None:
    before = energies(path)
    moved = path.rename(tmp_path / "moved-train")
    assert energies(moved) == before


def test_more_shards_than_may_be_open_are_read(samples, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "_MOST_OPEN", 2)
    with StoreWriter(tmp_path / "many", per_shard=1) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish({})
    store = Store(tmp_path / "many")
    assert len(store.shards) == 5
    for i in (0, 4, 1, 3, 2, 0):
        assert_same(store[i], samples[i])


def test_the_fingerprint_of_one_shard_is_that_of_its_records(samples, path) -> None:
    records = b"".join(encode_sample(sample) for sample in samples)
    fingerprint = Store(path).header["fingerprint"]
    assert fingerprint == hashlib.sha256(records).hexdigest()


def test_several_shards_have_a_fingerprint_of_their_fingerprints(
    samples, tmp_path
) -> None:
    with StoreWriter(tmp_path / "two", per_shard=3) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish({})
    header = Store(tmp_path / "two").header
    joined = "".join(shard["fingerprint"] for shard in header["shards"])
    assert header["fingerprint"] == hashlib.sha256(joined.encode()).hexdigest()
    assert [shard["n_systems"] for shard in header["shards"]] == [3, 2]


def test_a_folder_that_is_no_store_is_not_replaced(samples, tmp_path) -> None:
    precious = tmp_path / "thesis" / "chapter.tex"
    precious.parent.mkdir()
    precious.write_text("...")
    with pytest.raises(ArgumentError, match="exists and is not a store, so it is not"):
        StoreWriter(tmp_path / "thesis")
    assert precious.exists()


def test_an_empty_store_is_an_error(tmp_path) -> None:
    with (
        StoreWriter(tmp_path / "none") as writer,
        pytest.raises(DataError, match="would be a store without systems"),
    ):
        writer.finish({})


def test_units_of_targets_are_in_the_header(samples, tmp_path) -> None:
    sample = replace(samples[0], targets={"gap": 1.5})
    with StoreWriter(tmp_path / "gaps") as writer:
        writer.add(sample)
        writer.finish({}, target_units={"gap": "eV"})
    header = Store(tmp_path / "gaps").header
    assert header["units"]["targets"] == {"gap": "eV"}
    assert header["labels"]["gap"] == 1


WRITER = """
import resource, sys
from pathlib import Path
from jmp_calc.errors import DataError
from jmp_train.data.store import StoreWriter
from toys.training import toy_molecules

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
samples = toy_molecules(1)
try:
    with StoreWriter(Path(sys.argv[1])) as writer:
        for _ in range(2000):
            writer.add(samples[0])
        writer.finish({})
except DataError as error:
    print(error)
"""


def test_a_disk_without_space_is_an_error_and_leaves_nothing(tmp_path) -> None:
    """A limit on the size of files stands in for a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path / "full")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "cannot write" in done.stdout
    assert "check that there is space left" in done.stdout
    assert list(tmp_path.iterdir()) == []


def write_one_and_fail(path: Path, sample: Sample) -> None:
    with StoreWriter(path) as writer:
        writer.add(sample)
        raise KeyError


def test_an_error_while_writing_leaves_no_file(samples, tmp_path) -> None:
    with pytest.raises(KeyError):
        write_one_and_fail(tmp_path / "toy", samples[0])
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
        writer = StoreWriter(tmp_path / "toy")
        for sample in samples * 120:
            writer.add(sample)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "toy").exists()
    store = Store(write_store(tmp_path / "toy", samples))
    assert len(store) == 5


def test_stores_of_several_tasks_are_opened_in_the_order_given(toy_stores) -> None:
    assert list(open_stores(toy_stores, ["pbe", "qm7x"], "val")) == ["pbe", "qm7x"]
