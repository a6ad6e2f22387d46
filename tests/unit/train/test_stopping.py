from __future__ import annotations

import json
import math

import pytest

from jmp_train.config import StoppingConfig
from jmp_train.stopping import EarlyStopping


def watched(errors, **settings) -> EarlyStopping:
    stopping = EarlyStopping(StoppingConfig(**settings))
    for error in errors:
        stopping.update(error, 1e-3)
    return stopping


def test_only_a_smaller_error_is_the_best() -> None:
    stopping = EarlyStopping(StoppingConfig())
    found = [stopping.update(error, 1.0) for error in (3.0, 2.0, 2.0, 2.5, 1.0)]
    assert found == [True, True, False, False, True]
    assert stopping.best == 1.0


def test_it_stops_after_so_many_validations_without_improvement() -> None:
    assert watched([1.0, 2.0, 1.5], patience=3).reason is None
    stopping = watched([1.0, 2.0, 1.5, 1.0], patience=3, monitor="energy")
    assert stopping.reason == "no better energy error in 3 validations"


def test_an_improvement_below_min_delta_is_the_best_but_costs_patience() -> None:
    stopping = EarlyStopping(StoppingConfig(patience=2, min_delta=0.1))
    stopping.update(1.0, 1.0)
    assert stopping.update(0.95, 1.0)
    assert stopping.update(0.92, 1.0)
    assert stopping.reason is not None


def test_small_improvements_count_when_they_add_up() -> None:
    errors = [1.0, 0.95, 0.89, 0.85, 0.78]
    assert watched(errors, patience=2, min_delta=0.1).reason is None


def test_without_patience_it_never_stops_waiting() -> None:
    assert watched([1.0] * 500, patience=None).reason is None


def test_it_stops_when_the_largest_rate_is_too_small() -> None:
    stopping = EarlyStopping(StoppingConfig(min_learning_rate=1e-8))
    stopping.update(1.0, 1e-8)
    assert stopping.reason is None
    stopping.update(0.5, 9e-9)
    assert stopping.reason == "the learning rate 9e-09 is below 1e-08"


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_it_stops_on_an_error_that_is_not_finite(error) -> None:
    stopping = watched([1.0], patience=9)
    assert not stopping.update(error, 1.0)
    assert stopping.reason == f"the forces error of the validation is {error}"
    assert stopping.best == 1.0


def test_a_state_restored_from_strict_json_goes_on_as_the_other_does() -> None:
    first = watched([1.0, 0.8, 0.9], patience=3)
    second = EarlyStopping(StoppingConfig(patience=3))
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    for error in (0.85, 0.9):
        assert first.update(error, 1.0) == second.update(error, 1.0)
    assert first.state() == second.state()
    assert second.reason == "no better forces error in 3 validations"


def test_a_fresh_state_is_strict_json() -> None:
    state = EarlyStopping(StoppingConfig()).state()
    fresh = EarlyStopping(StoppingConfig())
    fresh.restore(json.loads(json.dumps(state, allow_nan=False)))
    assert fresh.best is None
    assert fresh.update(5.0, 1.0)
