"""The activation: its values, two derivatives, and what they keep in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jmp_calc.models.activation import scaled_silu


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def plain(x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x) / 0.6


def test_it_is_silu_over_0_6_with_and_without_derivatives() -> None:
    x = inputs()
    torch.testing.assert_close(scaled_silu(x), plain(x))
    torch.testing.assert_close(scaled_silu(x.detach()), plain(x.detach()))
    assert not scaled_silu(x.detach()).requires_grad


def test_both_derivatives_are_those_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(scaled_silu, inputs())
    assert torch.autograd.gradgradcheck(scaled_silu, inputs())


def kept(function: Any) -> int:
    """How many arrays of the size of the input two derivatives keep, beside it."""
    x, found = inputs(), set()

    def pack(value: Tensor) -> Tensor:
        found.add(value.data_ptr())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        y = function(x)
        grad = torch.ones_like(y).requires_grad_()
        torch.autograd.grad(y, x, grad, create_graph=True)
    return len(found - {x.data_ptr()})


def test_a_derivative_that_is_differentiated_again_keeps_one_array() -> None:
    assert kept(plain) > 3
    assert kept(scaled_silu) == 1
