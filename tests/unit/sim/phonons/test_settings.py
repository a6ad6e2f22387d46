"""What can be asked for, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.phonons.analysis import temperature_grid
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", np.diag([2, 2, 2])),
        ("2 3 1", np.diag([2, 3, 1])),
        ("2x3x1", np.diag([2, 3, 1])),
        ("2,3,1", np.diag([2, 3, 1])),
        ("-1 1 1 1 -1 1 1 1 -1", [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]),
    ],
)
def test_a_supercell_is_one_three_or_nine_numbers(text, expected):
    np.testing.assert_array_equal(
        PhononSettings(supercell=text).supercell_matrix, expected
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"supercell": "two"}, "supercell is 'two'; give one or 3 or 9 whole numbers"),
        ({"supercell": "2 2"}, "one or 3 or 9 whole numbers, such as '2 2 2'"),
        ({"supercell": ""}, "whole numbers"),
        ({"supercell": "0 2 2"}, "repetitions must be 1 or more"),
        ({"supercell": "-2"}, "repetitions must be 1 or more"),
        ({"supercell": "1 0 0 1 0 0 0 0 1"}, "determinant is 0"),
        ({"supercell": "0 1 0 1 0 0 0 0 1"}, "determinant is -1"),
        ({"mesh": "1.5"}, "mesh is '1.5'; give one or 3 whole numbers"),
        ({"mesh": "0"}, "mesh is '0'; numbers must be 1 or more"),
        ({"displacement_A": 0.0}, r"displacement_A is 0\.0; it must be above 0"),
        ({"displacement_A": float("nan")}, "displacement_A is nan"),
        ({"symmetry_tolerance_A": -1.0}, "symmetry_tolerance_A is -1"),
        ({"band_points": 1}, "band_points is 1; it must be 2 or more"),
        ({"temperature_min_K": -5.0}, "temperature_min_K is -5"),
        ({"temperature_min_K": 2000.0}, "at least temperature_min_K, 2000"),
        ({"temperature_step_K": 1e-9}, "more than 100000 temperatures"),
        ({"imaginary_tolerance_THz": -0.1}, "imaginary_tolerance_THz is -0.1"),
    ],
)
def test_a_wrong_number_is_refused(given, text):
    with pytest.raises(ArgumentError, match=text):
        PhononSettings(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"frequency_tolerance_THz": 0.0}, "frequency_tolerance_THz is 0"),
        ({"free_energy_tolerance_meV": -1.0}, "free_energy_tolerance_meV is -1"),
        ({"max_supercell_atoms": 0}, "max_supercell_atoms is 0"),
        ({"converge_temperature_K": -1.0}, "converge_temperature_K is -1"),
    ],
)
def test_a_wrong_tolerance_is_refused(given, text):
    with pytest.raises(ArgumentError, match=text):
        ConvergenceSettings(**given)


def test_temperatures_include_both_ends():
    settings = PhononSettings(
        temperature_min_K=100.0, temperature_max_K=100.3, temperature_step_K=0.1
    )
    np.testing.assert_allclose(temperature_grid(settings), [100, 100.1, 100.2, 100.3])


def test_a_born_file_that_is_not_there_is_refused_before_work_starts() -> None:
    with pytest.raises(ArgumentError, match="born is nope, which is no file"):
        PhononSettings(born=Path("nope"))
