"""QMOF in small files of the published layout (the real ones are not at hand)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jmp_calc.errors import DataError
from toys.published_materials import crystals, write_qmof
from toys.sources import open_family, records, skipped


def test_a_framework_becomes_a_sample_with_gap_and_energy(tmp_path) -> None:
    write_qmof(tmp_path, [0.5 * index for index in range(10)])
    (source,) = open_family("qmof", tmp_path)
    sample = records(source)[3].sample
    atoms = crystals(4)[3]
    assert sample.targets == {"bandgap": 1.5}
    assert (sample.energy, sample.forces) == (-13.0, None)
    assert sample.name == "qmof-0000003"
    np.testing.assert_allclose(sample.positions, atoms.positions, atol=1e-12)
    np.testing.assert_allclose(sample.cell, atoms.cell.array, atol=1e-12)
    assert source.facts.target_units == {"bandgap": "eV"}


def test_structures_are_matched_by_id_and_not_by_order(tmp_path) -> None:
    order = [3, 0, 2, 1]
    write_qmof(tmp_path, [0.0, 1.0, 2.0, 3.0], order=order)
    (source,) = open_family("qmof", tmp_path)
    assert [r.sample.targets["bandgap"] for r in records(source)] == order


def test_parts_are_those_of_the_published_order(tmp_path) -> None:
    """The order is that of numpy's generator with seed 42, written out here."""
    write_qmof(tmp_path, [1.0] * 10, order=range(9, -1, -1))
    (source,) = open_family("qmof", tmp_path)
    order = np.arange(10)
    np.random.RandomState(42).shuffle(order)
    assert order.tolist() == [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]
    split = {int(r.sample.name[-7:], 16): r.split for r in records(source)}
    assert {row: part for row, part in split.items() if part != "train"} == {
        3: "val",
        6: "test",
    }


def test_ranges_of_structures_together_are_the_whole(tmp_path) -> None:
    write_qmof(tmp_path, [1.0] * 10)
    (source,) = open_family("qmof", tmp_path)
    whole = [record.sample.name for record in records(source)]
    read = [r.sample.name for part in ("0-4", "4-10") for r in source.read(part)]
    assert read == whole


def test_a_framework_without_gap_keeps_its_energy(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, None, 2.0])
    (source,) = open_family("qmof", tmp_path)
    sample = records(source)[1].sample
    assert (sample.targets, sample.energy) == ({}, -11.0)


def test_an_infinite_gap_is_skipped(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, float("inf"), 2.0])
    (source,) = open_family("qmof", tmp_path)
    assert [entry.reason for entry in skipped(source)] == ["a label that is not finite"]


def test_a_level_that_no_entry_has_is_an_error(tmp_path) -> None:
    write_qmof(tmp_path, [1.0])
    with pytest.raises(DataError, match=r"has a bandgap or energy in outputs\.hse06"):
        open_family("qmof", tmp_path, variant="hse06")


def test_a_structure_without_properties_is_named(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, 2.0, 3.0])
    path = tmp_path / "qmof.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:2]))
    (source,) = open_family("qmof", tmp_path)
    with pytest.raises(DataError, match=r"structure 3 of .*: qmof-0000002 has no prop"):
        records(source)


def test_properties_without_a_structure_are_named(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, 2.0, 3.0], order=[0, 2])
    (source,) = open_family("qmof", tmp_path)
    with pytest.raises(DataError, match="has no structure of qmof-0000001, which has"):
        records(source)


def test_a_structure_that_occurs_twice_is_named(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, 2.0, 3.0], order=[0, 0, 2])
    (source,) = open_family("qmof", tmp_path)
    with pytest.raises(DataError, match=r"structure 2 of .*: qmof-0000000 occurs twi"):
        records(source)


def test_a_truncated_file_of_structures_names_the_last(tmp_path) -> None:
    write_qmof(tmp_path, [1.0, 2.0, 3.0])
    path = tmp_path / "qmof_structure_data.json"
    path.write_bytes(path.read_bytes()[:-200])
    (source,) = open_family("qmof", tmp_path)
    with pytest.raises(DataError, match=r"structure 3 of .*data\.json is damaged"):
        records(source)


def test_a_strange_entry_is_named(tmp_path) -> None:
    write_qmof(tmp_path, [1.0])
    (tmp_path / "qmof.json").write_text(json.dumps([{"qmof_id": "a", "outputs": 3}]))
    with pytest.raises(DataError, match=r"entry 1 of .*: outputs\.pbe must hold the n"):
        open_family("qmof", tmp_path)


def test_a_missing_file_is_an_error(tmp_path) -> None:
    write_qmof(tmp_path, [1.0])
    (tmp_path / "qmof_structure_data.json").unlink()
    with pytest.raises(DataError, match=r"holds no file like qmof_structure_data"):
        open_family("qmof", tmp_path)
