from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import OptimConfig, PlateauConfig, TrainConfig
from jmp_train.schedules import (
    PlateauSchedule,
    build_schedule,
    final_fraction,
    warmup_cosine,
)
from toys.training import toy_config

LLRD = (0.30, 0.40, 0.55, 0.625, 1.0)
STEPS_PER_EPOCH = 10


def schedule(plateau: PlateauConfig, factors=(1.0,), peak=1e-3) -> PlateauSchedule:
    return PlateauSchedule(
        plateau, learning_rate=peak, steps_per_epoch=STEPS_PER_EPOCH, factors=factors
    )


def config_with(**changes: object) -> TrainConfig:
    return toy_config(Path("stores"), Path("out"), **changes)


@pytest.mark.parametrize(
    ("factor", "fraction"),
    [(0.30, 0.3333), (0.40, 0.25), (0.55, 0.1818), (0.625, 0.16), (1.0, 0.1)],
)
def test_the_cosine_of_each_group_ends_where_the_specification_says(
    factor, fraction
) -> None:
    """Training specification, 2.4; given there to four digits."""
    assert final_fraction(0.1, factor) == pytest.approx(fraction, abs=5e-5)


@pytest.mark.parametrize(("factor", "fraction"), [(0.05, 0.99), (100.0, 0.01)])
def test_the_end_of_the_cosine_is_clipped(factor, fraction) -> None:
    assert final_fraction(0.1, factor) == fraction


def test_each_group_warms_up_from_a_tenth_of_its_own_peak() -> None:
    rates = schedule(PlateauConfig(), LLRD)
    peaks = [factor * 1e-3 for factor in LLRD]
    assert rates.rates(0) == pytest.approx([0.1 * peak for peak in peaks])
    # 5 epochs of 10 steps: the peak is at step 49 and again at step 50
    assert rates.rates(49) == pytest.approx(peaks)
    assert rates.rates(50) == pytest.approx(peaks)
    assert rates.rates(7)[0] == pytest.approx(peaks[0] * (0.1 + 0.9 * 7 / 49))


def test_all_groups_end_the_cosine_at_the_same_rate() -> None:
    rates = schedule(PlateauConfig(), LLRD).rates(32 * STEPS_PER_EPOCH)
    assert rates == pytest.approx([1e-4] * len(LLRD))


def test_half_of_the_cosine_is_half_way_between_peak_and_end() -> None:
    plateau = PlateauConfig(warmup_epochs=2.0, cosine_epochs=10.0)
    (rate,) = schedule(plateau).rates(6 * STEPS_PER_EPOCH)
    assert rate == pytest.approx((1e-3 + 1e-4) / 2)


def test_validations_during_the_cosine_do_not_count() -> None:
    plateau = PlateauConfig(warmup_epochs=1.0, cosine_epochs=2.0, patience=0)
    rates = schedule(plateau)
    for step in (9, 18):
        rates.rates(step)
        rates.after_validation(1.0)
    assert rates.state()["best"] is None


def test_the_validation_at_the_end_of_the_cosine_is_the_first_to_count() -> None:
    rates = schedule(PlateauConfig(warmup_epochs=1.0, cosine_epochs=2.0, patience=0))
    rates.rates(19)
    rates.after_validation(1.0)
    assert rates.state()["best"] == 1.0


def test_plateau_reductions_are_those_of_torch() -> None:
    errors = [1.0, 0.9, 0.90001, 0.89995, 0.95, 0.9, 0.91, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7]
    plateau = PlateauConfig(
        warmup_epochs=0.0, cosine_epochs=0.0, factor=0.8, patience=3
    )
    ours = schedule(plateau, LLRD)
    optimizer = torch.optim.SGD(
        [{"params": [torch.zeros(1)], "lr": rate} for rate in ours.rates(0)]
    )
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.8, patience=3, threshold=1e-4, eps=1e-8
    )
    for step, error in enumerate(errors):
        ours.after_validation(error)
        theirs.step(error)
        assert ours.rates(step + 1) == [g["lr"] for g in optimizer.param_groups]
    assert ours.rates(len(errors))[0] == pytest.approx(1e-4 * 0.8**2)


def test_with_the_published_eps_the_rate_never_falls_below_4e_8() -> None:
    rates = schedule(PlateauConfig(warmup_epochs=0.0, cosine_epochs=0.0, patience=0))
    for _ in range(200):
        rates.after_validation(1.0)
    (rate,) = rates.rates(1)
    assert 4e-8 <= rate <= 5e-8


def test_without_eps_the_rate_falls_as_far_as_the_validations_go() -> None:
    plateau = PlateauConfig(warmup_epochs=0.0, cosine_epochs=0.0, patience=0, eps=0.0)
    rates = schedule(plateau)
    for _ in range(101):
        rates.after_validation(1.0)
    (rate,) = rates.rates(1)
    assert rate == pytest.approx(1e-4 * 0.8**100)


def test_a_schedule_restored_from_json_goes_on_as_the_other_does() -> None:
    plateau = PlateauConfig(warmup_epochs=0.0, cosine_epochs=1.0, patience=1)
    first, second = schedule(plateau, LLRD), schedule(plateau, LLRD)
    for step, error in enumerate((0.5, 0.6, 0.7, 0.4, 0.5), start=9):
        first.rates(step)
        first.after_validation(error)
    second.restore(json.loads(json.dumps(first.state())))
    for step, error in enumerate((0.6, 0.7, 0.8), start=14):
        assert first.rates(step) == second.rates(step)
        first.after_validation(error)
        second.after_validation(error)
    assert first.state() == second.state()


def test_the_state_before_any_validation_is_strict_json() -> None:
    text = json.dumps(schedule(PlateauConfig()).state(), allow_nan=False)
    assert json.loads(text)["best"] is None


def test_without_a_plateau_all_groups_follow_the_cosine_of_the_optimizer() -> None:
    optim = OptimConfig(
        learning_rate=1.0, warmup_steps=5, warmup_start=0.2, final=0.1, clip_norm=None
    )
    rates = build_schedule(
        config_with(optim=optim), steps_per_epoch=3, n_steps=25, factors=(0.5, 1.0)
    )
    found = [rates.rates(step)[1] for step in range(26)]
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert found[15] == pytest.approx(0.1 + 0.5 * 0.9)
    assert found[25] == pytest.approx(0.1)
    assert rates.rates(1000) == pytest.approx([0.05, 0.1])


def test_no_warm_up_and_an_end_at_the_peak_make_a_constant_rate() -> None:
    optim = OptimConfig(learning_rate=2e-3, warmup_steps=0, final=1.0)
    rates = build_schedule(
        config_with(optim=optim), steps_per_epoch=3, n_steps=9, factors=(1.0,)
    )
    assert [rates.rates(step) for step in range(12)] == [[2e-3]] * 12


def test_a_plateau_takes_the_place_of_the_cosine() -> None:
    config = config_with(plateau=PlateauConfig())
    rates = build_schedule(config, steps_per_epoch=4, n_steps=100, factors=(1.0,))
    assert isinstance(rates, PlateauSchedule)


def test_a_warm_up_of_one_step_starts_at_its_start() -> None:
    assert warmup_cosine(0, peak=1.0, start=0.1, end=0.0, warmup=1, total=9) == 0.1


def test_a_cosine_that_ends_before_the_warm_up_is_an_error() -> None:
    with pytest.raises(
        ArgumentError,
        match=r"ends at epoch 3 and the warm-up at 5; .* at least warmup_epochs",
    ):
        schedule(PlateauConfig(cosine_epochs=3.0))


def test_a_plateau_factor_that_does_not_reduce_is_an_error() -> None:
    with pytest.raises(ArgumentError, match=r"factor is 1\.5; it must be above 0"):
        schedule(PlateauConfig(factor=1.5))
