"""Elementary layers: scaled activation, dense, residual, scale factor, head MLP."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jmp_calc.models.activation import scaled_silu as scaled_silu
from jmp_calc.models.twice import dense, is_lean, residual

INV_SQRT_2 = 1 / math.sqrt(2)


def in_full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast, for what must not be rounded to 16 bits.

    Args:
        x: A tensor on the device of the work.
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def sum_by_target(
    x: Float[Tensor, "edges dim"], target: Int[Tensor, " edges"], n_atoms: int
) -> Float[Tensor, "atoms dim"]:
    """Return the sum over the edges that end at each atom, in float32 at least.

    In 16 bits every addition would round, and sums over many edges overflow float16.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.new_zeros((n_atoms, x.shape[1])).index_add(0, target, x)


class ScaledSiLU(torch.nn.Module):
    """:func:`scaled_silu` as a module, for head MLPs."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation."""
        return scaled_silu(x)


@torch.no_grad()
def he_orthogonal_(weight: Tensor) -> Tensor:
    """Fill a matrix or 3-index tensor with standardised orthogonal rows, in place.

    Source:
        GemNet-OC specification, section 9: orthogonal, standardised over the input
        axes, times sqrt(1 / fan_in).
    """
    if weight.is_meta:  # without numbers; they are put in place by a file
        return weight
    torch.nn.init.orthogonal_(weight)
    dims = [0, 1] if weight.ndim == 3 else [1]
    variance, mean = torch.var_mean(weight, dim=dims, keepdim=True, correction=1)
    fan_in = math.prod(weight.shape[d] for d in dims)
    if fan_in > 1:
        weight.sub_(mean).div_(torch.sqrt(variance + 1e-6))
    return weight.mul_(fan_in**-0.5)


class Dense(torch.nn.Linear):
    """Linear map without bias, followed by :func:`scaled_silu` if activated."""

    def __init__(self, n_in: int, n_out: int, *, activation: bool = True) -> None:
        self.is_activated = activation
        super().__init__(n_in, n_out, bias=False)

    def reset_parameters(self) -> None:
        """Draw new weights, He-orthogonal."""
        he_orthogonal_(self.weight)

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        """Apply the layer to the last axis."""
        if self.is_activated and x.ndim == 2 and is_lean(x, self.weight):
            return dense(x, self.weight)
        y: Tensor = torch.nn.functional.linear(x, self.weight)
        return scaled_silu(y) if self.is_activated else y


class Residual(torch.nn.ModuleList):
    """``(x + Dense(Dense(x))) / sqrt(2)`` with square layers."""

    def __init__(self, width: int) -> None:
        super().__init__([Dense(width, width), Dense(width, width)])

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        """Apply the layer to the last axis."""
        weights: list[Any] = [layer.weight for layer in self]
        if x.ndim == 2 and is_lean(x, *weights):
            return residual(x, *weights)
        y: Tensor = self[1](self[0](x))
        return (x + y) * INV_SQRT_2


def residual_stack(n_layers: int, width: int) -> torch.nn.Sequential:
    """Return ``n_layers`` residual layers in a row."""
    return torch.nn.Sequential(*(Residual(width) for _ in range(n_layers)))


class ScaleFactor(torch.nn.Module):
    """Multiply by one fitted number that keeps the variance of activations.

    The number 0 means "not fitted" and acts as 1 (gemnet_oc section 14). To fit, set
    ``observe`` to a function of (value before scaling, reference tensor or None).
    """

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(0.0))
        self.observe: Callable[[Tensor, Tensor | None], None] | None = None

    def forward(
        self,
        x: Tensor,
        reference: Callable[[], Tensor] | None = None,
        rows: Bool[Tensor, "..."] | None = None,
    ) -> Tensor:
        """Scale ``x``.

        Args:
            x: Any tensor; features on the last axis.
            reference: Makes the tensor whose variance is to be kept; called only
                while fitting.
            rows: Which leading entries of ``x`` are real, not padding (fitting only).
        """
        if self.observe is not None:
            self.observe(
                x if rows is None else x[rows],
                None if reference is None else reference(),
            )
        return x * torch.where(self.factor == 0, 1.0, self.factor)


class FinalLinear(torch.nn.Linear):
    """The last layer of a head, never in 16 bits.

    Under autocast its result would otherwise have two or three digits, too few for an
    energy; the layer is small.
    """

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        """Apply the layer to the last axis."""
        with in_full_precision(x):
            return super().forward(x.to(self.weight.dtype))


def head_mlp(
    width: int, n_out: int, *, n_layers: int, has_bias: bool
) -> torch.nn.Sequential:
    """Return the MLP of a head: hidden layers of equal width, then ``n_out`` numbers.

    Args:
        width: Size of the input and of every hidden layer.
        n_out: Size of the result; its layer has no bias if this is 1.
        n_layers: Number of linear layers, the last included.
        has_bias: Whether the hidden layers have biases.
    """
    layers: list[torch.nn.Module] = []
    for _ in range(n_layers - 1):
        layers += [torch.nn.Linear(width, width, bias=has_bias), ScaledSiLU()]
    layers.append(FinalLinear(width, n_out, bias=n_out > 1))
    return torch.nn.Sequential(*layers)
