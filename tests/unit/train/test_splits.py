from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from jmp_train.data.datasets import DATASETS
from jmp_train.data.hashed_split import split_of
from jmp_train.data.sample import Sample
from jmp_train.data.splits import SPLITS
from toys.training import labelled, toy_molecules


@pytest.fixture
def sample() -> Sample:
    return labelled(molecule("H2O"))


GROUPS = {11: "val", 14: "val", 23: "test", 24: "test", 26: "val", 33: "val"}
STRUCTURES = {9: "test", 12: "val", 13: "val", 20: "val", 23: "val", 31: "test"}


def held_out(parts: list[str]) -> dict[int, str]:
    return {i: part for i, part in enumerate(parts) if part != "train"}


def placed(sample: Sample, source: str, n: int, *, is_moved: bool) -> list[str]:
    """Parts of samples of distinct groups, or of distinct structures."""
    parts = []
    for i in range(n):
        positions = sample.positions.copy()
        positions[1, 0] += 0.001 * i if is_moved else 0.0
        group = "g" if is_moved else f"g{i}"
        changed = replace(sample, source=source, group=group, positions=positions)
        parts.append(split_of(changed))
    return parts


def test_parts_are_the_same_on_every_machine_and_day(sample) -> None:
    """Recorded once; a change would put test structures into training."""
    by_group = placed(sample, "s66x8", 40, is_moved=False)
    by_structure = placed(sample, "threebpa", 40, is_moved=True)
    assert held_out(by_group) == GROUPS
    assert held_out(by_structure) == STRUCTURES


def test_a_tenth_of_the_groups_is_in_each_held_out_part(sample) -> None:
    count = Counter(placed(sample, "s66x8", 4000, is_moved=False))
    assert count["val"] == pytest.approx(400, abs=80)
    assert count["test"] == pytest.approx(400, abs=80)


def test_a_group_is_never_split_where_groups_are_held_out(sample) -> None:
    assert len(set(placed(sample, "s66x8", 100, is_moved=True))) == 1


def test_structures_of_one_molecule_are_split_where_structures_are(sample) -> None:
    parts = placed(sample, "threebpa", 200, is_moved=True)
    assert set(parts) == set(SPLITS)
    assert len(set(placed(sample, "threebpa", 100, is_moved=False))) == 1


def test_a_set_can_hold_out_both_groups_and_structures(sample) -> None:
    samples = toy_molecules(100, seed=5)

    def parts(group: str) -> Counter[str]:
        moved = [replace(s, source="qm7x", group=group) for s in samples]
        return Counter(split_of(s) for s in moved)

    by_group = [parts(f"g{i}") for i in range(20)]
    whole = [count for count in by_group if count["train"] == 0]
    mixed = [count for count in by_group if count["train"] > 0]
    assert all(len(count) == 1 for count in whole)
    assert 1 <= len(whole) <= 6
    assert all(count["train"] > 80 for count in mixed)
    assert all(set(count) == set(SPLITS) for count in mixed)


def test_labels_do_not_decide_the_part(sample) -> None:
    for name in DATASETS:
        here = replace(sample, source=name)
        relabelled = replace(here, energy=1.0, forces=np.zeros((3, 3)))
        assert split_of(here) == split_of(relabelled)
