from __future__ import annotations

import hashlib
import pickle
import struct
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.data.records import (
    count_pairs,
    decode_sample,
    encode_sample,
    label_names,
)
from jmp_train.data.sample import Sample
from toys.training import toy_crystals, toy_molecules


@pytest.fixture
def sample() -> Sample:
    return toy_molecules(1)[0]


def assert_same(one: Sample, other: Sample) -> None:
    for field in fields(Sample):
        a, b = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(a, b, err_msg=field.name, strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"task": ""},
        {"forces": None},
        {"energy": None},
        {"stress": np.diag([1e-3, 2e-3, -3e-3])},
        {"targets": {"U_0": -1e4 + 1e-9, "is_metal": 1.0}},
        {"fixed": np.array([True, False, True])},
        {"name": "random1/frame 5, Å"},
    ],
    ids=str,
)
def test_whatever_a_sample_has_comes_back_bit_for_bit(sample, changes) -> None:
    sample = replace(sample, **changes)
    assert_same(decode_sample(encode_sample(sample)), sample)


def test_a_crystal_comes_back_bit_for_bit() -> None:
    (crystal,) = toy_crystals(1)
    assert_same(decode_sample(encode_sample(crystal)), crystal)


def test_the_bytes_of_a_record_never_change(sample) -> None:
    """The weights that are released name the fingerprints of their stores."""
    fixed = replace(
        sample,
        positions=np.arange(9.0).reshape(3, 3),
        energy=-2.5,
        forces=np.ones((3, 3)),
    )
    digest = hashlib.sha256(encode_sample(fixed)).hexdigest()
    assert digest == "6979aa71e566a7b753ee6da49299acf421bccc105cb215d17ea0cb1798e60fb9"


def test_a_record_of_another_layout_is_an_error(sample) -> None:
    block = encode_sample(sample)[4:].replace(b"numbers", b"Numbers")
    record = struct.pack("<I", zlib.crc32(block)) + block
    with pytest.raises(DataError, match=r"another layout .*numbers"):
        decode_sample(record)


def test_a_changed_bit_does_not_fit_the_checksum(sample) -> None:
    record = bytearray(encode_sample(sample))
    record[len(record) // 2] ^= 1
    with pytest.raises(DataError, match="the checksum does not fit"):
        decode_sample(bytes(record))


def test_a_record_that_is_a_pickle_is_never_run(tmp_path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)

    block = pickle.dumps(Bomb())
    with pytest.raises(DataError, match="another layout"):
        decode_sample(struct.pack("<I", zlib.crc32(block)) + block)
    assert not (tmp_path / "exploded").exists()


def test_a_line_break_in_the_name_of_a_target_is_an_error(sample) -> None:
    with pytest.raises(DataError, match="must not have a line break"):
        encode_sample(replace(sample, targets={"a\nb": 1.0}))


def test_labels_are_named_in_a_fixed_order(sample) -> None:
    assert label_names(sample) == ["energy", "forces"]
    labelled = replace(sample, energy=None, stress=np.eye(3), targets={"gap": 0.5})
    assert label_names(labelled) == ["forces", "stress", "gap"]


def test_pairs_are_counted_in_both_directions_and_across_the_cell(sample) -> None:
    assert count_pairs(sample) == 3 * 2
    assert count_pairs(toy_crystals(1)[0]) > 50  # images count
