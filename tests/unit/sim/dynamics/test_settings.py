from __future__ import annotations

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.dynamics.settings import MDSettings


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("timestep_fs", 0.0, "above 0"),
        ("timestep_fs", float("nan"), "above 0"),
        ("friction_per_fs", -0.1, "above 0"),
        ("temperature_K", -1.0, "0 or more"),
        ("temperature_K", float("inf"), "0 or more"),
        ("max_temperature_K", 0.0, "above 0"),
        ("max_energy_change_eV_per_atom", 0.0, "above 0"),
        ("steps", -1, "0 or more"),
        ("seed", -1, "0 or more"),
        ("trajectory_stride", 0, "1 or more"),
        ("log_stride", 0, "1 or more"),
    ],
)
def test_a_number_out_of_range_names_field_value_and_rule(field, value, rule):
    with pytest.raises(ArgumentError, match=rf"{field} is {value}; it must be {rule}"):
        MDSettings(**{field: value})


def test_an_unknown_trajectory_format_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="'xyzz'; choose one of traj, xyz; did you"):
        MDSettings(trajectory_format="xyzz")


def test_the_temperature_limit_follows_target_start_floor_and_user():
    assert MDSettings().temperature_limit(0.0, 24) == 3000.0
    assert MDSettings(temperature_K=500.0).temperature_limit(0.0, 24) == 5000.0
    assert MDSettings().temperature_limit(800.0, 24) == 8000.0
    assert MDSettings(max_temperature_K=400.0).temperature_limit(800.0, 24) == 400.0


def test_few_degrees_of_freedom_may_swing_further():
    limit_K = MDSettings(temperature_K=500.0).temperature_limit(0.0, 1)
    # one sample in a thousand is above ten times the mean there
    assert limit_K >= 50 * 500.0


def test_a_friction_too_strong_for_the_time_step_is_refused():
    with pytest.raises(ArgumentError, match=r"3 times timestep_fs 0.5 is above 1"):
        MDSettings(friction_per_fs=3.0)
    assert MDSettings(friction_per_fs=3.0, ensemble="nve").friction_per_fs == 3.0


def test_duration_is_steps_times_timestep():
    assert MDSettings(steps=3000, timestep_fs=0.5).duration_ps == 1.5
