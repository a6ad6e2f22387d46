from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ase.build import molecule

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.datasets import DATASETS
from jmp_train.data.sample import Sample
from jmp_train.data.splits import SPLITS, split_of
from jmp_train.data.store import Store, store_path
from jmp_train.data.tasks import TASKS
from jmp_train.normalize import TaskStatistics
from jmp_train.prepare import label_table, prepare
from toys.training import labelled, toy_molecules


def toy_set() -> list[Sample]:
    """Eighty molecules and a benzene, which is kept out."""
    benzene = labelled(molecule("C6H6"))
    samples = [benzene, *toy_molecules(80, seed=4)]
    return [replace(s, source="threebpa", task="") for s in samples]


@pytest.fixture
def _toy_sets(monkeypatch) -> None:
    """Set "threebpa" is a toy set; the others of its task are empty."""

    def read(samples: list[Sample], root: Path) -> Iterator[Sample]:
        yield from samples

    for name in TASKS["wb97x"].datasets:
        content = toy_set() if name == "threebpa" else []
        info = replace(DATASETS[name], read=lambda root, c=content: read(c, root))
        monkeypatch.setitem(DATASETS, name, info)


@pytest.mark.usefixtures("_toy_sets")
def test_every_sample_is_in_the_store_of_its_part_or_excluded(tmp_path) -> None:
    prepared = prepare(tmp_path, tmp_path, tasks=["wb97x"])
    assert [p.split for p in prepared] == list(SPLITS)
    assert {p.n_excluded for p in prepared} == {1}
    expected = toy_set()[1:]
    for part in prepared:
        mine = [s for s in expected if split_of(s) == part.split]
        found = list(Store(part.path))
        assert [s.energy for s in found] == [s.energy for s in mine]
        assert {s.task for s in found} == {"wb97x"}


@pytest.mark.usefixtures("_toy_sets")
def test_each_store_states_its_own_statistics_and_origin(tmp_path) -> None:
    for part in prepare(tmp_path, tmp_path, tasks=["wb97x"]):
        header = Store(part.path).header
        assert TaskStatistics.from_json(header["statistics"]) == part.statistics
        assert header["n_systems"] == part.statistics.n_systems
        assert (header["task"], header["split"]) == ("wb97x", part.split)
        assert header["licence"] == TASKS["wb97x"].licence
        assert header["datasets"] == list(TASKS["wb97x"].datasets)


@pytest.mark.usefixtures("_toy_sets")
def test_preparing_twice_gives_the_same_stores(tmp_path) -> None:
    one = prepare(tmp_path, tmp_path / "a", tasks=["wb97x"])
    other = prepare(tmp_path, tmp_path / "b", tasks=["wb97x"])
    for a, b in zip(one, other, strict=True):
        assert Store(a.path).header == Store(b.path).header


@pytest.mark.usefixtures("_toy_sets")
def test_progress_tells_the_sizes_and_the_table_the_labels(tmp_path) -> None:
    lines: list[str] = []
    prepared = prepare(tmp_path, tmp_path, tasks=["wb97x"], progress=lines.append)
    (line,) = lines
    assert line.startswith("wb97x: ")
    assert line.endswith("1 excluded")
    rows = label_table(prepared).splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [["wb97x", s] for s in SPLITS]
    assert rows[1].endswith("H C N O")


@pytest.mark.usefixtures("_toy_sets")
def test_an_empty_part_leaves_no_store(tmp_path, monkeypatch) -> None:
    few = replace(DATASETS["threebpa"], read=lambda _root: iter(toy_set()[1:3]))
    monkeypatch.setitem(DATASETS, "threebpa", few)
    with pytest.raises(DataError, match="no systems to take statistics of"):
        prepare(tmp_path, tmp_path / "out", tasks=["wb97x"])
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_task_is_an_error_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown task 'wb97'.*mean 'wb97x'"):
        prepare(tmp_path, tmp_path / "out", tasks=["qm7x", "wb97"])
    assert not (tmp_path / "out").exists()


def test_a_missing_data_set_says_what_the_root_must_hold(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no .*qm7x.*one folder per data set"):
        prepare(tmp_path, tmp_path / "out", tasks=["qm7x"])
    assert not store_path(tmp_path / "out", "qm7x", "train").exists()
