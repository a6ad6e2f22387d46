"""Layers that are differentiated twice, as training on forces does, and keep little.

Autograd keeps what enters every operation, of the forward pass and, where its result is
to be differentiated again, of the backward pass as well. Most of that follows in no
time from the rest. Here

* dense and residual layers keep their input, what enters each activation, and what
  comes back to it: no product with a square weight is done twice;
* :func:`recomputed` keeps the inputs of any function alone. It is for what costs
  little beside those products: gates, projections from few channels, sums over angles.

Source:
    The chain rule; equal to plain autograd up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from jmp_calc.models.activation import (
    SILU_GAIN,
    scaled_silu,
    silu_derivative,
    silu_second,
)

_INV_SQRT_2 = 0.5**0.5


def is_lean(*tensors: Tensor) -> bool:
    """Return whether the functions of this module are of use and right.

    They are of no use where nothing is differentiated or weights are fixed, and not
    made for autocast, which rounds each operation in its own way, nor for
    torch.compile.

    Args:
        tensors: Have to take part in differentiation, all of them.
    """
    return (
        torch.is_grad_enabled()
        and all(x.requires_grad for x in tensors)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(tensors[0].device.type)
    )


def dense(
    x: Float[Tensor, "rows n_in"], weight: Float[Tensor, "n_out n_in"]
) -> Float[Tensor, "rows n_out"]:
    """Return the activated product with a weight.

    Args:
        x: Features.
        weight: As in ``torch.nn.Linear``.
    """
    y: Tensor = _Dense.apply(x, weight)[0]  # type: ignore[no-untyped-call]  # torch
    return y


def residual(
    x: Float[Tensor, "rows dim"],
    first: Float[Tensor, "dim dim"],
    second: Float[Tensor, "dim dim"],
) -> Float[Tensor, "rows dim"]:
    """Return ``(x + act(second act(first x))) / sqrt(2)``.

    Args:
        x: Features.
        first: Weight of the first layer.
        second: Weight of the second layer.
    """
    y: Tensor = _Residual.apply(x, first, second)[0]  # type: ignore[no-untyped-call]
    return y


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return ``function(*inputs)``; derivatives compute it again from its inputs.

    Args:
        function: Depends on nothing that is differentiated but its arguments, and not
            on chance.
        inputs: Its arguments.
    """
    y: Tensor = _Recomputed.apply(function, *inputs)  # type: ignore[no-untyped-call]
    return y


def _is_wanted(ctx: Any, k: int, n_others: int = 0) -> bool:
    """Whether this backward pass asks for the derivative by the k-th tensor.

    Forces ask for none by a weight, each of which would take a product.
    """
    if not ctx.needs_input_grad[k + n_others]:
        return False
    node = ctx.next_functions[k][0]
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except (AttributeError, RuntimeError):  # not there; a leaf that is asked for
        return True


def _only_twice(grad: Tensor | None, *by: Tensor | None) -> Tensor:
    """Refuse what only comes back to activations in a second derivative."""
    if grad is None or any(x is not None for x in by):
        raise RuntimeError(
            "this network differentiates twice only; a second derivative cannot be "
            "taken with create_graph=True"
        )
    return grad


class _Dense(torch.autograd.Function):
    """Returns what enters the activation as well, for derivatives to arrive at it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.nn.functional.linear(x, weight)
        ctx.save_for_backward(x, weight, hidden)
        ctx.set_materialize_grads(False)
        return scaled_silu(hidden), hidden

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, by_hidden: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        x, weight, hidden = ctx.saved_tensors
        is_wanted = _is_wanted(ctx, 1)
        if torch.is_grad_enabled():
            grad = _only_twice(grad, by_hidden)
            if is_wanted:  # derivatives by weights that are differentiated again
                y = scaled_silu(torch.nn.functional.linear(x, weight))
                by = torch.autograd.grad(y, (x, weight), grad, create_graph=True)
                return by[0], by[1]
            by_x: Tensor = _DenseDerivative.apply(grad, hidden, weight)  # type: ignore[no-untyped-call]
            return by_x, None
        inner = _plus(by_hidden, grad, hidden, SILU_GAIN)
        by_input = inner @ weight if ctx.needs_input_grad[0] else None
        return by_input, inner.T @ x if is_wanted else None


class _DenseDerivative(torch.autograd.Function):
    """What comes back from a dense layer."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(grad, hidden, weight)
        return _product(silu_derivative(grad, hidden), weight, SILU_GAIN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad, hidden, weight = ctx.saved_tensors
        by_weight = _product(silu_derivative(grad, hidden).T, by, SILU_GAIN)
        inner = _product(by, weight.T, SILU_GAIN)
        by_grad = silu_derivative(inner, hidden)
        return by_grad, silu_second(grad, inner, hidden), by_weight


class _Residual(torch.autograd.Function):
    """Returns what enters both activations as well."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        inner = torch.nn.functional.linear(x, first)
        outer = torch.nn.functional.linear(scaled_silu(inner), second)
        ctx.save_for_backward(x, first, second, inner, outer)
        ctx.set_materialize_grads(False)
        return scaled_silu(outer).add_(x).mul_(_INV_SQRT_2), inner, outer

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, by_inner: Tensor | None, by_outer: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, first, second, inner, outer = ctx.saved_tensors
        is_wanted = [_is_wanted(ctx, k) for k in (1, 2)]
        if torch.is_grad_enabled():
            grad = _only_twice(grad, by_inner, by_outer)
            if any(is_wanted):
                linear = torch.nn.functional.linear
                y = scaled_silu(linear(scaled_silu(linear(x, first)), second))
                y = (x + y) * _INV_SQRT_2
                return torch.autograd.grad(
                    y, (x, first, second), grad, create_graph=True
                )
            by_x: Tensor = _ResidualDerivative.apply(  # type: ignore[no-untyped-call]
                grad, inner, outer, first, second
            )
            return by_x, None, None
        behind = _plus(by_outer, grad, outer, SILU_GAIN * _INV_SQRT_2)
        by_second = behind.T @ scaled_silu(inner) if is_wanted[1] else None
        behind = _plus(by_inner, behind @ second, inner, SILU_GAIN)
        by_first = behind.T @ x if is_wanted[0] else None
        total = behind @ first
        if grad is not None:
            total.add_(grad, alpha=_INV_SQRT_2)
        return total, by_first, by_second


class _ResidualDerivative(torch.autograd.Function):
    """What comes back from a residual layer."""

    @staticmethod
    def forward(
        ctx: Any,
        grad: Tensor,
        inner: Tensor,
        outer: Tensor,
        first: Tensor,
        second: Tensor,
    ) -> Tensor:
        scale = SILU_GAIN * _INV_SQRT_2
        middle = _product(silu_derivative(grad, outer), second, scale)
        ctx.save_for_backward(grad, middle, inner, outer, first, second)
        by_x = _product(silu_derivative(middle, inner), first, SILU_GAIN)
        return by_x.add_(grad, alpha=_INV_SQRT_2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor, ...]:
        grad, middle, inner, outer, first, second = ctx.saved_tensors
        scale = SILU_GAIN * _INV_SQRT_2
        by_first = _product(silu_derivative(middle, inner).T, by, SILU_GAIN)
        back = _product(by, first.T, SILU_GAIN)
        by_middle = silu_derivative(back, inner)
        by_inner = silu_second(middle, back, inner)
        by_second = _product(silu_derivative(grad, outer).T, by_middle, scale)
        back = _product(by_middle, second.T, scale)
        by_grad = silu_derivative(back, outer).add_(by, alpha=_INV_SQRT_2)
        by_outer = silu_second(grad, back, outer)
        return by_grad, by_inner, by_outer, by_first, by_second


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return the product of two matrices and a number, without a pass for it."""
    return torch.addmm(a.new_empty(1), a, b, beta=0, alpha=scale)


def _plus(
    known: Tensor | None, grad: Tensor | None, hidden: Tensor, scale: float
) -> Tensor:
    """What comes back through an activation, and what has arrived behind it before."""
    if grad is None:
        return torch.zeros_like(hidden) if known is None else known
    through = silu_derivative(grad, hidden)
    if known is None:
        return through.mul_(scale)
    return torch.add(known, through, alpha=scale, out=through)


class _Recomputed(torch.autograd.Function):
    """A function that keeps its inputs."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wanted = [k for k in range(len(inputs)) if _is_wanted(ctx, k, 1)]
        if torch.is_grad_enabled():
            found = _RecomputedDerivative.apply(ctx.function, wanted, grad, *inputs)  # type: ignore[no-untyped-call]
        else:
            found = _derivatives(ctx.function, wanted, grad, inputs)
        by_input: list[Tensor | None] = [None] * len(inputs)
        for k, value in zip(wanted, found, strict=True):
            by_input[k] = value
        return None, *by_input


class _RecomputedDerivative(torch.autograd.Function):
    """The derivatives of such a function, which keep its inputs, too."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        wanted: list[int],
        grad: Tensor,
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.function, ctx.wanted = function, wanted
        ctx.save_for_backward(grad, *inputs)
        ctx.set_materialize_grads(False)
        return _derivatives(function, wanted, grad, inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *by: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        leaves = [
            x.detach().requires_grad_(is_needed)
            for x, is_needed in zip(ctx.saved_tensors, needed, strict=True)
        ]
        grad, *inputs = leaves
        with torch.enable_grad():
            y = ctx.function(*inputs)
            found = torch.autograd.grad(
                y, [inputs[k] for k in ctx.wanted], grad, create_graph=True
            )
            pairs = [
                (value, back)
                for value, back in zip(found, by, strict=True)
                if back is not None and value.requires_grad
            ]
        if not pairs:
            return (None,) * (2 + len(leaves))
        values, backs = zip(*pairs, strict=True)
        differentiated = [x for x in leaves if x.requires_grad]
        result = iter(
            torch.autograd.grad(values, differentiated, backs, allow_unused=True)
        )
        return None, None, *(next(result) if x.requires_grad else None for x in leaves)


def _derivatives(
    function: Callable[..., Tensor],
    wanted: Sequence[int],
    grad: Tensor,
    inputs: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Derivatives by some of the inputs of a function, which is computed again."""
    with torch.enable_grad():
        leaves = [x.detach() for x in inputs]
        chosen = [leaves[k].requires_grad_() for k in wanted]
        return torch.autograd.grad(
            function(*leaves), chosen, grad, materialize_grads=True
        )
