from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.normalize import StatisticsAccumulator, TaskStatistics
from toys.training import REFERENCES, statistics_of, toy_molecules

WATER, METHANE, HYDROGEN = np.array([8, 1, 1]), np.array([6, 1, 1, 1, 1]), np.array([1])


def test_exactly_linear_energies_give_back_their_references() -> None:
    accumulator = StatisticsAccumulator()
    for numbers in (WATER, METHANE, HYDROGEN, WATER):
        energy = sum(REFERENCES[z] for z in numbers.tolist())
        accumulator.add(numbers, energy, None)
    found = accumulator.finish()
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
    accumulator = StatisticsAccumulator()
    noise = generator.normal(0, 1e-3, 3000)
    for i in range(3000):
        numbers = np.array([1] * (1 + i % 5) + [79] * (1 + i % 3))
        energy = -13.6 * (1 + i % 5) - 5e5 * (1 + i % 3) + noise[i]
        accumulator.add(numbers, energy, None)
    found = accumulator.finish()
    assert found.n_systems == 3000
    assert found.references[79] == pytest.approx(-5e5, abs=1e-3)
    assert found.energy_std == pytest.approx(noise.std(), rel=1e-2)


def test_references_that_the_data_do_not_determine_have_the_smallest_size() -> None:
    accumulator = StatisticsAccumulator()
    accumulator.add(np.array([11, 17]), -10.0, None)
    assert accumulator.finish().references == pytest.approx({11: -5.0, 17: -5.0})


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
    assert TaskStatistics.from_json(statistics().to_json()) == statistics()


def test_a_missing_field_is_an_error_that_names_it() -> None:
    data = statistics().to_json()
    del data["force_rms"]
    with pytest.raises(DataError, match="lack the field 'force_rms'; prepare"):
        TaskStatistics.from_json(data)


def test_statistics_of_nothing_are_an_error() -> None:
    with pytest.raises(DataError, match="no systems to take statistics of"):
        StatisticsAccumulator().finish()
