from __future__ import annotations

import pytest
import torch

from jmp_train.parallel import Group
from jmp_train.precision import AdaptiveScale, autocast


def test_a_scale_is_halved_by_overflow_and_doubled_after_enough_finite_results() -> (
    None
):
    scale = AdaptiveScale(2.0**8, patience=3)
    values = []
    for is_finite in (True, True, False, True, True, True, True):
        scale.update(is_finite=is_finite)
        values.append(scale.value)
    assert values == [256, 256, 128, 128, 128, 256, 256]


def test_a_restored_scale_goes_on_as_if_nothing_had_happened() -> None:
    scale, other = AdaptiveScale(4.0, patience=3), AdaptiveScale(4.0, patience=3)
    scale.update(is_finite=False)
    scale.update(is_finite=True)
    other.restore(scale.state())
    for _ in range(2):
        other.update(is_finite=True)
    assert other.value == 4.0


def test_alone_a_process_agrees_with_itself() -> None:
    scale = AdaptiveScale(4.0)
    scale.update(is_finite=True)
    state = scale.state()
    scale.agree(Group.single())
    assert scale.state() == state


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("float32", torch.float32),
        ("float64", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_only_sixteen_bits_need_autocast(precision, dtype) -> None:
    x = torch.eye(2)
    with autocast(precision, torch.device("cpu")):
        assert (x @ x).dtype == dtype
