"""What the options of a model make of it."""

from __future__ import annotations

import pytest

from jmp_calc.cli.job import build_calculator
from jmp_calc.cli.options import ModelOptions
from jmp_calc.cli.resume import computes_of, identity_of
from jmp_calc.errors import ArgumentError

ABOUT = {"weights_sha256": "ab"}


@pytest.mark.parametrize("chosen", [{}, {"compile": True}, {"approximate": "bf16"}])
def test_fast_paths_are_those_that_are_asked_for(chosen) -> None:
    expected = {"compile": False, "approximate": None, **chosen}
    found = build_calculator(ModelOptions(offline=True, **chosen)).parameters
    assert {name: found[name] for name in expected} == expected


def test_arithmetic_of_gpus_is_refused_elsewhere() -> None:
    with pytest.raises(ArgumentError, match=r"'tf32' is arithmetic of CUDA .* 'cpu'"):
        build_calculator(ModelOptions(approximate="tf32", offline=True))


@pytest.mark.parametrize("chosen", [{"compile": True}, {"approximate": "tf32"}])
def test_fast_paths_of_models_are_refused_for_other_calculators(chosen) -> None:
    (name,) = chosen
    expected = rf"--{name} is for models, and --calculator emt .*leave one out"
    with pytest.raises(ArgumentError, match=expected):
        ModelOptions(calculator="emt", **chosen)


@pytest.mark.parametrize("chosen", [{"compile": True}, {"approximate": "tf32"}])
def test_what_was_computed_otherwise_is_not_gone_on_with(chosen) -> None:
    plain = identity_of(ModelOptions(), ABOUT)
    assert identity_of(ModelOptions(**chosen), ABOUT) != plain


@pytest.mark.parametrize(
    "chosen",
    [
        {"approximate": "bf16"},
        {"dtype": "float64"},
        {"forces": "direct"},
        {"head": "qm7x"},
        {"tags": "atoms"},
        {"d3": "pbe"},
    ],
)
def test_what_changes_numbers_of_a_trajectory_is_compared(chosen) -> None:
    assert computes_of(ModelOptions(**chosen), {}) != computes_of(ModelOptions(), {})


def test_what_a_model_chose_by_default_may_be_written_out() -> None:
    about = {"head": "qm7x", "forces": "gradient"}
    written = ModelOptions(head="qm7x", forces="gradient")
    assert computes_of(written, about) == computes_of(ModelOptions(), about)
    assert computes_of(ModelOptions(compile=True), {}) == computes_of(
        ModelOptions(), {}
    )
