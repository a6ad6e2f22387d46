from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import lmdb
import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.data.records import encode_sample
from jmp_train.data.store import Store, StoreWriter
from jmp_train.prepare.verify import check_store, measure_store, statistics_text
from toys.training import statistics_of, toy_molecules, write_store

SHARD = "shard-00000.lmdb"


@pytest.fixture
def path(tmp_path) -> Path:
    return write_store(tmp_path / "toy-train", toy_molecules(8))


def put(path: Path, index: int, record: bytes) -> None:
    """Change a record behind the back of the store."""
    with (
        lmdb.open(str(path / SHARD), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(index.to_bytes(4, "big"), record)


def test_an_intact_store_has_no_faults(path) -> None:
    found = check_store(path)
    assert (found.n_systems, found.n_faults, found.faults) == (8, 0, ())


def test_several_shards_are_checked(tmp_path) -> None:
    samples = toy_molecules(5)
    with StoreWriter(tmp_path / "toy-val", per_shard=2) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish({"statistics": statistics_of(samples).to_json()})
    assert check_store(tmp_path / "toy-val").n_faults == 0


def test_a_changed_bit_is_found_and_the_rest_is_read(path) -> None:
    record = encode_sample(toy_molecules(8)[3])
    content = bytearray((path / SHARD).read_bytes())
    content[content.index(record) + 200] ^= 1
    (path / SHARD).write_bytes(content)
    found = check_store(path)
    assert found.faults[0] == "record 3: the checksum does not fit"
    assert found.faults[1].startswith(f"the fingerprint of {SHARD} is ")


def test_a_record_that_was_replaced_is_found_by_the_fingerprint(path) -> None:
    sample = toy_molecules(8)[2]
    put(path, 2, encode_sample(replace(sample, energy=sample.energy + 1.0)))
    assert [text.split(" is ")[0] for text in check_store(path).faults] == [
        f"the fingerprint of {SHARD}",
        "the fingerprint",
    ]


def test_a_record_of_another_size_is_found(path) -> None:
    put(path, 0, encode_sample(toy_molecules(8)[1]))
    assert "record 0 has 5 atoms, and n_atoms.npy says 3" in check_store(path).faults


def test_a_missing_record_is_found(path) -> None:
    with (
        lmdb.open(str(path / SHARD), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.delete((5).to_bytes(4, "big"))
    assert any("has no record 5" in text for text in check_store(path).faults)


def test_sizes_that_differ_from_the_shards_are_found(path) -> None:
    sizes = np.load(path / "n_pairs.npy")
    np.save(path / "n_pairs.npy", sizes + 1)
    assert check_store(path).faults == (f"n_pairs.npy differs from what {SHARD} lists",)


def change_header(path: Path, **changes: object) -> None:
    header = Store(path).header | changes
    (path / "header.json").write_text(json.dumps(header))


def test_counts_of_labels_that_are_wrong_are_found(path) -> None:
    change_header(path, labels={"energy": 8, "forces": 7, "stress": 0})
    (fault,) = check_store(path).faults
    assert fault.startswith("the count of labels is {'energy': 8, 'forces': 8")


def test_many_faults_are_counted_and_some_listed(path, monkeypatch) -> None:
    monkeypatch.setattr("jmp_train.prepare.verify.MOST_FAULTS", 3)
    for index in range(8):
        put(path, index, b"")
    found = check_store(path)
    assert len(found.faults) == 3
    assert found.n_faults > 8


def test_a_store_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match="there is no store"):
        check_store(tmp_path / "none")


def test_measured_statistics_are_those_of_the_header(path) -> None:
    found = measure_store(path)
    assert found.differences == ()
    assert found.statistics.n_systems == 8


def test_statistics_that_differ_are_named(path) -> None:
    statistics = Store(path).header["statistics"]
    change_header(path, statistics=statistics | {"force_rms": 2.0, "n_forces": 3})
    found = measure_store(path)
    assert [text.split(" is ")[0] for text in found.differences] == [
        "force_rms",
        "n_forces",
    ]
    assert found.differences[1] == "n_forces is 8, and the header says 3"


def test_progress_ends_at_the_number_of_systems(path) -> None:
    seen: list[int] = []
    check_store(path, progress=seen.append)
    measure_store(path, progress=seen.append)
    assert seen == [8, 8]


def test_the_text_has_references_and_targets(tmp_path) -> None:
    samples = [replace(s, targets={"gap": 1.5}) for s in toy_molecules(4)]
    path = write_store(tmp_path / "toy-train", samples)
    text = statistics_text(path, measure_store(path).statistics)
    assert "sigma_F" in text
    assert "element  reference eV  systems" in text
    assert "gap" in text.splitlines()[-1]
