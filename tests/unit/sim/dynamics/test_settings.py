from __future__ import annotations

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings, WatchSettings


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("timestep_fs", 0.0, "above 0"),
        ("timestep_fs", float("nan"), "above 0"),
        ("friction_per_fs", -0.1, "above 0"),
        ("temperature_K", -1.0, "0 or more"),
        ("temperature_K", float("inf"), "0 or more"),
        ("steps", 0, "1 or more"),
        ("steps", -1, "1 or more"),
        ("seed", -1, "0 or more"),
        ("temperature_end_K", -1.0, "0 or more"),
        ("pressure_GPa", float("inf"), "a number"),
        ("thermostat_time_fs", 0.0, "above 0"),
        ("barostat_time_fs", -1.0, "above 0"),
        ("time_ps", 0.0, "above 0"),
        ("hydrogen_mass_amu", 0.0, "above 0"),
    ],
)
def test_a_number_out_of_range_names_field_value_and_rule(field, value, rule):
    with pytest.raises(ArgumentError, match=rf"{field} is {value}; it must be {rule}"):
        MDSettings(**{field: value})


@pytest.mark.parametrize(
    ("kind", "field", "value", "rule"),
    [
        (WatchSettings, "max_temperature_K", 0.0, "above 0"),
        (WatchSettings, "max_energy_change_eV_per_atom", 0.0, "above 0"),
        (WatchSettings, "max_bond_stretch", 1.0, "above 1"),
        (WatchSettings, "max_minutes", 0.0, "above 0"),
        (RecordSettings, "trajectory_stride", 0, "1 or more"),
        (RecordSettings, "log_stride", 0, "1 or more"),
        (RecordSettings, "checkpoint_stride", 0, "1 or more"),
    ],
)
def test_limits_and_strides_have_rules_as_well(kind, field, value, rule):
    with pytest.raises(ArgumentError, match=rf"{field} is {value}; it must be {rule}"):
        kind(**{field: value})


def test_an_unknown_trajectory_format_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="'xyzz'; choose one of traj, xyz, h5md;"):
        RecordSettings(trajectory_format="xyzz")


def test_the_temperature_limit_follows_expectation_floor_and_user():
    assert WatchSettings().temperature_limit(0.0, 24) == 3000.0
    assert WatchSettings().temperature_limit(800.0, 24) == 8000.0
    assert WatchSettings(max_temperature_K=400.0).temperature_limit(800.0, 24) == 400.0


def test_few_degrees_of_freedom_may_swing_further():
    limit_K = WatchSettings().temperature_limit(500.0, 1)
    # one sample in a thousand is above ten times the mean there
    assert limit_K >= 50 * 500.0


def test_a_friction_too_strong_for_the_time_step_is_refused():
    with pytest.raises(ArgumentError, match=r"3 times timestep_fs 0.5 is above 1"):
        MDSettings(friction_per_fs=3.0)
    assert MDSettings(friction_per_fs=3.0, ensemble="nve").friction_per_fs == 3.0


def test_duration_is_steps_times_timestep():
    assert MDSettings(steps=3000, timestep_fs=0.5).duration_ps == 1.5


def test_the_length_is_given_in_steps_or_in_time():
    assert MDSettings().n_steps == 4000
    assert MDSettings(time_ps=1.0, timestep_fs=0.5).n_steps == 2000
    with pytest.raises(ArgumentError, match=r"both steps \(5\) and time_ps \(1\) are"):
        MDSettings(steps=5, time_ps=1.0)


def test_a_ramp_is_linear_and_ends_at_its_end():
    ramp = MDSettings(steps=10, temperature_K=100.0, temperature_end_K=200.0)
    assert [ramp.temperature_at(step) for step in (0, 5, 10, 11)] == [
        100.0,
        150.0,
        200.0,
        200.0,
    ]
    assert not MDSettings().is_ramp
