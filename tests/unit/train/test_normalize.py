from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample, molecule_sample
from jmp_train.normalize import (
    StatisticsAccumulator,
    TargetStatistics,
    TaskStatistics,
)
from toys.training import REFERENCES, statistics_of, toy_crystals, toy_molecules

WATER, METHANE, HYDROGEN = [8, 1, 1], [6, 1, 1, 1, 1], [1]


def unlabelled(numbers: list[int], **labels: object) -> Sample:
    """Atoms on a line, with the labels given."""
    positions = np.arange(3.0 * len(numbers)).reshape(-1, 3)
    return molecule_sample(
        np.array(numbers),
        positions,
        source="toy",
        group="",
        **{"energy": None, "forces": None, **labels},
    )


def counted(samples: list[Sample]) -> StatisticsAccumulator:
    accumulator = StatisticsAccumulator()
    for sample in samples:
        accumulator.add(sample)
    return accumulator


def test_exactly_linear_energies_give_back_their_references() -> None:
    found = counted(
        [
            unlabelled(numbers, energy=sum(REFERENCES[z] for z in numbers))
            for numbers in (WATER, METHANE, HYDROGEN, WATER)
        ]
    ).finish()
    assert found.references == pytest.approx({z: REFERENCES[z] for z in (1, 6, 8)})
    assert found.energy_std == pytest.approx(0, abs=1e-9)
    assert found.elements == (1, 6, 8)
    assert (found.n_systems, found.n_atoms, found.mean_atoms) == (4, 12, 3.0)


def test_one_pass_statistics_equal_those_of_the_whole_table() -> None:
    samples = toy_molecules(40)
    found = statistics_of(samples)
    counts = np.array([np.bincount(s.numbers, minlength=119) for s in samples])
    energy = np.array([s.energy for s in samples])
    coefficient = np.linalg.lstsq(counts.astype(float), energy)[0]
    assert list(found.references.values()) == pytest.approx(
        coefficient[list(found.references)], rel=1e-9
    )
    assert found.energy_std == pytest.approx((energy - counts @ coefficient).std())
    forces = np.concatenate([s.forces.ravel() for s in samples])
    assert found.force_rms == pytest.approx(np.sqrt((forces**2).mean()))


def test_many_rows_are_condensed_without_losing_digits() -> None:
    """Energies 1e5 times their spread, and more rows than are kept at once."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1e-3, 3000)
    samples = [
        unlabelled(
            [1] * (1 + i % 5) + [79] * (1 + i % 3),
            energy=-13.6 * (1 + i % 5) - 5e5 * (1 + i % 3) + noise[i],
        )
        for i in range(3000)
    ]
    found = counted(samples).finish()
    assert found.n_systems == 3000
    assert found.references[79] == pytest.approx(-5e5, abs=1e-3)
    assert found.energy_std == pytest.approx(noise.std(), rel=1e-2)


def test_references_that_the_data_do_not_determine_have_the_smallest_size() -> None:
    found = counted([unlabelled([11, 17], energy=-10.0)]).finish()
    assert found.references == pytest.approx({11: -5.0, 17: -5.0})


def test_the_mean_and_spread_of_a_target_are_those_of_numpy() -> None:
    """Values whose square sum would lose all digits of the spread."""
    values = 1e9 + np.random.default_rng(2).normal(0, 1e-3, 2500)
    samples = [unlabelled(HYDROGEN, targets={"gap": float(v)}) for v in values]
    found = counted(samples).finish().targets["gap"]
    assert found.n == 2500
    assert found.mean == pytest.approx(values.mean(), abs=1e-5)
    # the values themselves are rounded to 1e-7
    assert found.std == pytest.approx(values.std(), rel=1e-3)


def test_a_target_is_referenced_like_an_energy() -> None:
    spread = (0.3, -0.3, 0.1, -0.1)
    kinds = (WATER, WATER, METHANE, METHANE)
    samples = [
        unlabelled(numbers, targets={"U": sum(REFERENCES[z] for z in numbers) + more})
        for numbers, more in zip(kinds, spread, strict=True)
    ]
    found = counted(samples).finish().targets["U"]
    assert found.referenced_mean == pytest.approx(0, abs=1e-9)
    assert found.referenced_std == pytest.approx(np.std(spread))
    assert found.std > 100


def test_labels_that_only_some_systems_have_are_counted_where_they_are() -> None:
    samples = [
        unlabelled(WATER, energy=1.0),
        unlabelled(WATER, energy=3.0, targets={"gap": 5.0}),
        unlabelled(METHANE, targets={"gap": 7.0}),
        unlabelled(METHANE, forces=np.ones((5, 3))),
    ]
    accumulator = counted(samples)
    found = accumulator.finish()
    assert (found.n_systems, found.n_energies, found.n_forces) == (4, 2, 1)
    assert found.energy_std == pytest.approx(1.0)
    assert set(found.references) == {1, 8}
    assert found.targets["gap"].n == 2
    assert found.targets["gap"].mean == pytest.approx(6.0)
    assert accumulator.labels == {"energy": 2, "forces": 1, "stress": 0, "gap": 2}
    assert accumulator.element_systems == {1: 4, 6: 2, 8: 2}


def test_the_stress_scale_is_the_root_mean_square_of_nine_components() -> None:
    (crystal,) = toy_crystals(1)
    sample = replace(crystal, stress=np.diag([0.3, 0.0, 0.0]))
    assert counted([sample]).finish().stress_rms == pytest.approx(0.1)


def test_a_set_without_energies_has_no_references() -> None:
    found = counted([unlabelled(WATER, forces=np.ones((3, 3)))]).finish()
    assert (found.references, found.energy_std, found.n_energies) == ({}, 0.0, 0)
    assert found.elements == (1, 8)


def rich_samples() -> list[Sample]:
    """Samples with several patterns of labels."""
    return [
        replace(
            sample,
            energy=None if i % 5 == 0 else sample.energy,
            targets={"a": float(i)} if i % 3 else {"a": 2.0 * i, "b": 1e6 + i},
        )
        for i, sample in enumerate(toy_molecules(60))
    ]


def test_parts_that_are_merged_have_the_statistics_of_the_whole() -> None:
    samples = rich_samples()
    whole, merged = counted(samples), StatisticsAccumulator()
    for start in range(0, 60, 20):
        merged.merge(counted(samples[start : start + 20]))
    expected, found = whole.finish(), merged.finish()
    assert merged.labels == whole.labels
    assert found.references == pytest.approx(expected.references, rel=1e-10)
    assert found.energy_std == pytest.approx(expected.energy_std, rel=1e-8)
    assert found.force_rms == pytest.approx(expected.force_rms, rel=1e-12)
    for name, target in expected.targets.items():
        # the largest value over the spread is 1e5
        assert found.targets[name].std == pytest.approx(target.std, rel=1e-8)
        assert found.targets[name].mean == pytest.approx(target.mean, rel=1e-12)


def test_the_state_of_an_accumulator_survives_json() -> None:
    before = counted(rich_samples())
    state = json.loads(json.dumps(before.to_json()))
    after = StatisticsAccumulator.from_json(state)
    assert after.labels == before.labels
    assert after.element_systems == before.element_systems
    expected, found = before.finish(), after.finish()
    assert found.references == pytest.approx(expected.references, rel=1e-10)
    assert found.targets["b"].std == pytest.approx(expected.targets["b"].std, rel=1e-8)


def test_the_state_is_small_if_elements_are_few() -> None:
    assert len(json.dumps(counted(toy_molecules(50)).to_json())) < 2000


def test_a_state_without_a_field_is_an_error() -> None:
    state = counted(toy_molecules(2)).to_json()
    del state["atoms"]
    with pytest.raises(DataError, match="lack the field 'atoms'"):
        StatisticsAccumulator.from_json(state)


def test_a_target_called_energy_is_an_error() -> None:
    with pytest.raises(DataError, match="a target called 'energy'; give it as the"):
        counted([unlabelled(WATER, targets={"energy": 1.0})])


def statistics(**changes: object) -> TaskStatistics:
    fields = {
        "references": {1: -13.0, 8: -2040.0},
        "energy_std": 3.0,
        "force_rms": 1.5,
        "mean_atoms": 3.0,
        "n_systems": 2,
        "n_atoms": 6,
        "elements": (1, 8),
    }
    return TaskStatistics(**(fields | changes))


def test_a_task_without_forces_is_scaled_by_its_energies() -> None:
    assert statistics(force_rms=0.0).energy_scale == 3.0
    assert statistics(force_rms=0.0, energy_std=0.0).energy_scale == 1.0


def test_statistics_survive_json() -> None:
    gap = TargetStatistics(
        n=2,
        mean=1.0,
        std=0.5,
        references={1: 0.1},
        referenced_mean=0.0,
        referenced_std=0.4,
    )
    before = statistics(targets={"gap": gap}, stress_rms=0.1, n_energies=2)
    text = json.dumps(before.to_json())
    assert TaskStatistics.from_json(json.loads(text)) == before


def test_a_missing_field_is_an_error_that_names_it() -> None:
    data = statistics().to_json()
    del data["force_rms"]
    with pytest.raises(DataError, match="lack the field 'force_rms'; prepare"):
        TaskStatistics.from_json(data)


def test_statistics_of_nothing_are_an_error() -> None:
    with pytest.raises(DataError, match="no systems to take statistics of"):
        StatisticsAccumulator().finish()
