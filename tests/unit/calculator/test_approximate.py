"""Arithmetic with fewer digits: what it changes, and what it leaves as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator.approximate import (
    APPROXIMATIONS,
    arithmetic,
    checked_approximation,
)
from jmp_calc.calculator.engine import Engine
from jmp_calc.errors import ArgumentError
from toys.models import smooth_model

BF16_FORCES = 0.03
"""Largest error of a force component of ethanol in bf16, eV/angstrom; 0.012 and 0.014
were measured, for two orders of summation."""


def state() -> tuple[object, ...]:
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # not to be read once the newer switch is used
        older = None
    return (
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        older,
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


@pytest.fixture(autouse=True)
def same_state_afterwards():
    before = state()
    yield
    assert state() == before


def calculator(name: str) -> JMPCalculator:
    """Return one that sets what it would set on CUDA, and computes on the CPU."""
    calc = JMPCalculator(smooth_model())
    calc.engine = Engine(smooth_model(), approximate=name)
    calc.model = calc.engine.model
    return calc


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(
        ArgumentError, match=r"'fp8'; choose from None .*'tf32', 'bf16'"
    ):
        JMPCalculator(smooth_model(), approximate="fp8")


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_float64_is_not_approximated(name) -> None:
    with pytest.raises(
        ArgumentError, match=r"dtype is 'float64'; leave one of them out"
    ):
        JMPCalculator(smooth_model(), dtype="float64", approximate=name)


def test_tf32_is_refused_where_it_would_change_nothing() -> None:
    expected = (
        r"approximate='tf32' is arithmetic of CUDA .* on device 'cpu', where there is "
        r"'bf16'; leave it out, or compute on device 'cuda'"
    )
    with pytest.raises(ArgumentError, match=expected):
        JMPCalculator(smooth_model(), approximate="tf32")
    for name in ("cuda", "cuda:1"):
        device = torch.device(name)
        assert checked_approximation("tf32", "float32", device) == "tf32"


def test_a_network_in_its_form_for_inference_is_refused_in_bf16() -> None:
    frozen = JMPCalculator(smooth_model()).model
    with pytest.raises(ArgumentError, match=r"give the model that the calculator was"):
        JMPCalculator(frozen, approximate="bf16")


def seen_inside(calc: JMPCalculator, monkeypatch, error: Exception | None = None):
    """Compute, and return the state that the network saw."""
    seen = []
    forward = calc.model.forward

    def watched(*args, **kwargs):
        seen.append(state())
        if error is not None:
            raise error
        return forward(*args, **kwargs)

    monkeypatch.setattr(calc.model, "forward", watched)
    calc.evaluate([molecule("H2O")])
    return seen[0]


def test_tf32_holds_inside_of_evaluations_only(monkeypatch) -> None:
    calc, before = calculator("tf32"), state()
    assert before[0] != "tf32"
    assert seen_inside(calc, monkeypatch)[0] == "tf32"
    assert state() == before


def test_bf16_holds_inside_of_evaluations_only(monkeypatch) -> None:
    calc = JMPCalculator(smooth_model(), approximate="bf16")
    before = state()
    assert seen_inside(calc, monkeypatch)[3:] == (True, torch.bfloat16)
    assert state() == before


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_the_state_is_as_before_after_an_error(name, monkeypatch) -> None:
    calc, before = calculator(name), state()
    with pytest.raises(KeyError, match="torn"):
        seen_inside(calc, monkeypatch, KeyError("torn"))
    assert state() == before


@pytest.mark.parametrize("given", ["highest", "high", "medium", "newer ieee", "newer"])
def test_tf32_leaves_what_the_caller_has_set(given) -> None:
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    try:
        if given.startswith("newer"):
            products.fp32_precision = "ieee" if given.endswith("ieee") else "tf32"
        else:
            torch.set_float32_matmul_precision(given)
        set_up = state()
        with arithmetic(torch.empty(0), "tf32"):
            assert products.fp32_precision == "tf32"
        assert state() == set_up
    finally:
        torch.set_float32_matmul_precision("highest")
        products.fp32_precision = before
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_tf32_ends_with_the_last_of_blocks_that_overlap() -> None:
    before, products = state(), torch.backends.cuda.matmul
    blocks = [arithmetic(torch.empty(0), "tf32") for _ in range(2)]
    for block in blocks:
        block.__enter__()
    blocks[0].__exit__(None, None, None)
    assert products.fp32_precision == "tf32"
    blocks[1].__exit__(None, None, None)
    assert state() == before


def test_bf16_changes_forces_by_less_than_is_stated(ethanol) -> None:
    wanted = JMPCalculator("jmp-nano", head="qm7x").evaluate([ethanol])[0]
    calc = JMPCalculator("jmp-nano", head="qm7x", approximate="bf16")
    found = calc.evaluate([ethanol])[0]
    error = np.abs(found["forces"] - wanted["forces"]).max()
    assert 1e-4 < error < BF16_FORCES
    assert abs(found["energy"] - wanted["energy"]) < 1e-3 * len(ethanol)


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_descriptions_tell_an_approximation(name, ethanol) -> None:
    notes = calculator(name).describe(ethanol)["notes"]
    (note,) = [note for note in notes if "approximate" in note]
    assert name in note
