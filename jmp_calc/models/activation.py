"""The activation of the network, lean where it is differentiated twice.

Training on forces differentiates every activation twice. PyTorch then takes the
derivative of SiLU apart into elementary operations and keeps what enters each of them,
six arrays per activation, which made up half the memory of a training step. Here it
keeps two: what entered the activation and the derivative that came back to it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

SILU_GAIN = 1 / 0.6
"""Keeps the variance of a standard normal."""


def scaled_silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return ``silu(x) / 0.6``, which keeps the variance of a standard normal."""
    if torch.compiler.is_compiling():  # which takes apart and fuses by itself
        return torch.nn.functional.silu(x) * SILU_GAIN
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _ScaledSiLU.apply(x)  # type: ignore[no-untyped-call]  # torch
        return y
    return torch.nn.functional.silu(x).mul_(SILU_GAIN)


def silu_derivative(
    grad: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return the derivative of silu (without 1 / 0.6) times what comes back to it.

    Args:
        grad: What comes back.
        x: What has entered the activation.
    """
    result: Tensor = torch.ops.aten.silu_backward(grad, x)
    return result


def silu_second(
    grad: Float[Tensor, "*shape"],
    by: Float[Tensor, "*shape"],
    x: Float[Tensor, "*shape"],
) -> Float[Tensor, "*shape"]:
    """Return the second derivative of silu (without 1 / 0.6) times two factors.

    With the logistic function s it is ``s (1 - s) (2 + x (1 - 2 s))``.

    Args:
        grad: One factor.
        by: The other; gets the result, because it is in the cache and new memory is
            not.
        x: What has entered the activation.
    """
    s = torch.sigmoid(x)
    by.mul_(torch.addcmul(x, x, s, value=-2).add_(2)).mul_(grad)
    torch.ops.aten.sigmoid_backward.grad_input(by, s, grad_input=by)
    return by


class _ScaledSiLU(torch.autograd.Function):
    """The activation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.silu(x).mul_(SILU_GAIN)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return silu_derivative(grad, x).mul_(SILU_GAIN)
        result: Tensor = _Derivative.apply(grad, x)  # type: ignore[no-untyped-call]
        return result


class _Derivative(torch.autograd.Function):
    """The first derivative times what comes back."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(grad, x)
        return silu_derivative(grad, x).mul_(SILU_GAIN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor, Tensor]:
        grad, x = ctx.saved_tensors
        by = by * SILU_GAIN
        return silu_derivative(by, x), silu_second(grad, by, x)
