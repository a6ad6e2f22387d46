"""Layers that are differentiated twice: their derivatives, and what they keep."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jmp_calc.models import twice
from jmp_calc.models.activation import scaled_silu
from jmp_calc.models.layers import Dense, residual_stack

ROWS, WIDTH = 7, 5


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


def plain_dense(x: Tensor, weight: Tensor) -> Tensor:
    return scaled_silu(x @ weight.T)


def plain_residual(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (x + plain_dense(plain_dense(x, first), second)) / 2**0.5


def gated(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    return plain_dense(scaled_silu(x) * gate, weight)


def again(x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
    return twice.recomputed(gated, x, gate, weight)


SQUARE = (WIDTH, WIDTH)
ROW = (ROWS, WIDTH)
PAIRS: dict[str, Any] = {
    "dense": (twice.dense, plain_dense, (ROW, (3, WIDTH))),
    "residual": (twice.residual, plain_residual, (ROW, SQUARE, SQUARE)),
    "recomputed": (again, gated, (ROW, ROW, (3, WIDTH))),
}
both = pytest.mark.parametrize(("lean", "plain", "shapes"), PAIRS.values(), ids=PAIRS)


def step(function: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """As in training on forces: the derivative of a loss of a value and its gradient.

    Only the first input is moved by atoms, and all of them depend on weights.
    """
    moved, *weights = inputs
    position = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = function(torch.sin(position * moved), *weights)
    (force,) = torch.autograd.grad(value.square().sum(), position, create_graph=True)
    loss = value.sum() + force.square()
    return [value, force, *torch.autograd.grad(loss, inputs)]


@both
def test_a_step_on_forces_is_that_of_plain_layers(lean, plain, shapes) -> None:
    inputs = tensors(*shapes)
    torch.testing.assert_close(step(lean, inputs), step(plain, inputs))


@both
def test_both_derivatives_are_those_of_finite_differences(lean, plain, shapes) -> None:
    assert torch.autograd.gradcheck(lean, tensors(*shapes))
    assert torch.autograd.gradgradcheck(lean, tensors(*shapes))


@both
def test_derivatives_by_weights_can_be_differentiated(lean, plain, shapes) -> None:
    """As a penalty on the gradient of the weights would."""

    def penalty(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        inputs = tensors(*shapes)
        value = function(*inputs).square().sum()
        by = torch.autograd.grad(value, inputs[1:], create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in by), inputs)

    torch.testing.assert_close(penalty(lean), penalty(plain))


@both
def test_a_weight_that_is_fixed_gets_no_derivative(lean, plain, shapes) -> None:
    def by_input(function: Callable[..., Tensor]) -> list[Tensor]:
        moved, *weights = tensors(*shapes)
        for weight in weights:
            weight.requires_grad_(False)
        return step(lambda x: function(x, *weights), [moved])

    torch.testing.assert_close(by_input(lean), by_input(plain))


def kept(function: Callable[..., Tensor], inputs: list[Tensor]) -> int:
    """How many arrays two derivatives keep, beside the inputs."""
    found: list[weakref.ref[Tensor]] = []

    def pack(value: Tensor) -> Tensor:
        found.append(weakref.ref(value))
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        y = function(*inputs)
        grad = torch.ones_like(y).requires_grad_()
        first = torch.autograd.grad(y, inputs[0], grad, create_graph=True)
    alive = {x.data_ptr() for x in (ref() for ref in found) if x is not None}
    del first
    return len(alive - {x.data_ptr() for x in inputs})


@pytest.mark.parametrize(
    ("name", "expected"), [("dense", 2), ("residual", 4), ("recomputed", 1)]
)
def test_two_derivatives_keep_no_more_than_they_need(name: str, expected: int) -> None:
    """What enters activations, and what comes back to them."""
    lean, plain, shapes = PAIRS[name]
    assert kept(lean, tensors(*shapes)) == expected
    assert kept(plain, tensors(*shapes)) > expected


def products(function: Callable[[], Any]) -> int:
    """How many matrix products a piece of work makes."""
    with torch.profiler.profile() as seen:
        function()
    return sum(e.count for e in seen.key_averages() if e.key in ("aten::mm",))


@pytest.mark.parametrize("name", ["dense", "residual"])
def test_a_step_on_forces_takes_no_more_products_than_plain_layers(name: str) -> None:
    lean, plain, shapes = PAIRS[name]
    inputs = tensors(*shapes)
    n_lean = products(lambda: step(lean, inputs))
    assert 0 < n_lean <= products(lambda: step(plain, inputs))


def test_layers_of_a_network_in_training_are_lean_and_others_plain() -> None:
    layers = torch.nn.Sequential(Dense(WIDTH, WIDTH), residual_stack(1, WIDTH))
    (x,) = tensors(ROW)
    layers.double()
    names = {"_DenseBackward", "_ResidualBackward"}
    assert nodes(layers(x)) >= names
    assert not nodes(layers.requires_grad_(False)(x)) & names
    with torch.autocast("cpu"):
        assert not nodes(layers.requires_grad_(True)(x)) & names


def nodes(y: Tensor) -> set[str]:
    """Names of the functions that have made a tensor."""
    found: set[str] = set()
    todo = [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None:
            found.add(node.name())
            todo += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("name", ["dense", "residual"])
def test_a_second_derivative_that_is_differentiated_again_is_refused(name: str) -> None:
    lean, _, shapes = PAIRS[name]
    x, *weights = tensors(*shapes)
    value = lean(x, *weights).pow(3).sum()
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    with pytest.raises(RuntimeError, match="twice only"):
        torch.autograd.grad(first.square().sum(), x, create_graph=True)
