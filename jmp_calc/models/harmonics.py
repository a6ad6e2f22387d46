"""Tables of harmonics with their derivatives written out.

Autograd would keep and walk back through every step of a recursion; the derivatives of
these polynomials are polynomials again, and quickly made. All of them can be
differentiated twice.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MOST_AT_ONCE = 2**19
"""Elements of an intermediate table; a larger one is made in parts that fit a cache."""

_FEW = 2**16
"""Elements up to which few operations are faster than fast ones."""


def legendre(
    cosine: Float[Tensor, "*shape"],
    n: int,
    *,
    dim: int = -1,
    mask: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "..."]:
    """Return ``sqrt((2l+1)/4pi) P_l(cosine)`` for l = 0 .. n-1 on a new axis.

    Args:
        cosine: Of angles.
        n: Number of functions.
        dim: Where the new axis is.
        mask: What all functions are multiplied with; None: 1.
    """
    value: Tensor = _Legendre.apply(cosine, n, dim % (cosine.ndim + 1), mask)  # type: ignore[no-untyped-call]  # torch
    return value


class _Legendre(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cosine: Tensor, n: int, dim: int, mask: Tensor | None
    ) -> Tensor:
        shape = (*cosine.shape[:dim], n, *cosine.shape[dim:])
        table = cosine.new_empty(shape)
        y = table.unbind(dim)
        norm = [math.sqrt((2 * m + 1) / (4 * math.pi)) for m in range(n)]
        if mask is None:
            y[0].fill_(norm[0])
        else:
            torch.mul(mask, norm[0], out=y[0])
        for m in range(1, n):
            # m P_m = (2m-1) x P_(m-1) - (m-1) P_(m-2)
            torch.mul(cosine, y[m - 1], out=y[m])
            y[m].mul_((2 * m - 1) / m * norm[m] / norm[m - 1])
            if m > 1:
                y[m].sub_(y[m - 2], alpha=(m - 1) / m * norm[m] / norm[m - 2])
        ctx.save_for_backward(table)
        ctx.dim = dim
        return table

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (table,) = ctx.saved_tensors
        matrix = _slopes(table.shape[ctx.dim], table.dtype, table.device)
        # the slope of y_l is a sum of y_k with k < l
        if ctx.dim == table.ndim - 1:
            inner = grad @ matrix
        else:
            inner = torch.einsum("lk,...lb->...kb", matrix, grad)
        return (inner * table).sum(ctx.dim), None, None, None


@functools.cache
@torch.inference_mode(False)
def _slopes(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return m[l, k] with ``y_l' = sum_k m[l, k] y_k``, a few dozen numbers.

    It is made once, whoever asks first: one made in inference mode could not be used
    where derivatives are differentiated again.

    Source:
        P_l' = (2l-1) P_(l-1) + (2l-5) P_(l-3) + ...
    """
    matrix = np.zeros((n, n))
    for row in range(n):
        for k in range(row - 1, -1, -2):
            matrix[row, k] = math.sqrt((2 * row + 1) * (2 * k + 1))
    return torch.from_numpy(matrix).to(dtype).to(device)


def legendre_to_cosines(n: int) -> Float[np.ndarray, "n n"]:
    """Return a[m, j] with ``sqrt((2m+1)/4pi) P_m(cos t) = sum_j a[m, j] cos(j t)``."""
    a = np.zeros((n, n))
    for m in range(n):
        series = np.polynomial.chebyshev.poly2cheb(
            np.polynomial.legendre.leg2poly(np.eye(n)[m])
        )
        a[m, : len(series)] = math.sqrt((2 * m + 1) / (4 * math.pi)) * series
    return a


def powers(
    z: tuple[Float[Tensor, "first *rest"], Float[Tensor, "first *rest"]],
    n: int,
    *,
    mask: Float[Tensor, "first *rest"] | None = None,
) -> Float[Tensor, "..."]:
    """Return z^j, j = 0 .. n-1: shape (first, n, ..., 2, last).

    Args:
        z: Real and imaginary part.
        n: Number of powers.
        mask: What all powers are multiplied with; None: 1.
    """
    value: Tensor = _Powers.apply(*z, n, mask)  # type: ignore[no-untyped-call]  # torch
    return value


class _Powers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, n: int, mask: Tensor | None) -> Tensor:
        table = x.new_empty((x.shape[0], n, *x.shape[1:-1], 2, x.shape[-1]))
        re, im = (part.unbind(1) for part in table.unbind(-2))
        re[0].fill_(1) if mask is None else re[0].copy_(mask)
        im[0].zero_()
        for j in range(1, n):
            torch.mul(re[j - 1], x, out=re[j])
            torch.mul(re[j - 1], y, out=im[j])
            if j > 1:
                re[j].addcmul_(im[j - 1], y, value=-1)
                im[j].addcmul_(im[j - 1], x)
        ctx.save_for_backward(table)
        return table

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        # the slope of z^j is j z^(j-1), whatever it is multiplied with
        (table,) = ctx.saved_tensors
        n = table.shape[1]
        factor = torch.arange(1, n, dtype=grad.dtype, device=grad.device)
        grad = grad[:, 1:] * factor.view(-1, *[1] * (grad.ndim - 2))
        table = table[:, :-1]
        by_x = (grad * table).sum(dim=(1, -2))
        turned = grad.flip(-2) * table  # im' re, re' im
        by_y = (turned[..., 0, :] - turned[..., 1, :]).sum(dim=1)
        return by_x, by_y, None, None


def outer_table(
    y: Float[Tensor, "atoms width angular quad_width"],
    f: Float[Tensor, "atoms harmonics width parts quad_width"],
) -> Float[Tensor, "atoms harmonics width_angular parts_quad"]:
    """Return the product of functions of the angle c, a, b and the azimuth of c.

    ``table[a, j, (c, l), (p, b)] = y[a, c, l, b] f[a, j, c, p, b]``, the largest table
    of the network.
    """
    table: Tensor = OuterTable.apply(y, f)  # type: ignore[no-untyped-call]  # torch
    return table


class OuterTable(torch.autograd.Function):
    """See :func:`outer_table`; differentiated without another table of its size."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, f: Tensor) -> Tensor:
        """Make the table."""
        ctx.save_for_backward(y, f)
        return (y[:, None, :, :, None] * f[:, :, :, None]).flatten(4).flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives with respect to both factors."""
        y, f = ctx.saved_tensors
        width, n_angular = y.shape[1:3]
        grad = grad.view(*f.shape[:2], width, n_angular, *f.shape[3:])
        if torch.is_grad_enabled():  # to be differentiated again
            return (
                (grad * f[:, :, :, None]).sum(dim=(1, 4)),
                (grad * y[:, None, :, :, None]).sum(dim=3),
            )
        by_y, by_f = torch.zeros_like(y), torch.zeros_like(f)
        add_outer_slopes(grad, y, f, by_y, by_f)
        return by_y, by_f


def add_outer_slopes(
    grad: Float[Tensor, "atoms harmonics width angular parts quad_width"],
    y: Float[Tensor, "atoms width angular quad_width"],
    f: Float[Tensor, "atoms harmonics width parts quad_width"],
    by_y: Float[Tensor, "atoms width angular quad_width"],
    by_f: Float[Tensor, "atoms harmonics width parts quad_width"],
) -> None:
    """Add to the derivatives of an outer table by both factors.

    Args:
        grad: Derivative with respect to the table, or to some of its harmonics.
        y: First factor.
        f: Second factor, of these harmonics.
        by_y: Added to.
        by_f: Added to.
    """
    if grad.numel() <= _FEW:
        by_y += (grad * f[:, :, :, None]).sum(dim=(1, 4))
        by_f += (grad * y[:, None, :, :, None]).sum(dim=3)
        return
    for j in range(f.shape[1]):
        for part in range(f.shape[3]):
            by_y.addcmul_(grad[:, j, :, :, part], f[:, j, :, None, part])
    for angular in range(y.shape[2]):
        by_f.addcmul_(grad[:, :, :, angular], y[:, None, :, angular, None])


def closure_table(
    y: Float[Tensor, "atoms width angular quad_width"],
    q: Float[Tensor, "atoms width quad_width"],
    closed: Float[Tensor, "atoms width quad_width"],
) -> Float[Tensor, "atoms width harmonics_angular quad_width"]:
    """Return ``closed q^j y_l``, as many j as l, rows (j, l).

    Args:
        y: Functions of the angle.
        q: Product of two sines.
        closed: What all is multiplied with.
    """
    value: Tensor = _ClosureTable.apply(y, q, closed)  # type: ignore[no-untyped-call]  # torch
    return value


class _ClosureTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, q: Tensor, closed: Tensor) -> Tensor:
        ctx.save_for_backward(y, q, closed)
        n = y.shape[2]
        table = y.new_empty((*y.shape[:2], n, *y.shape[2:]))
        torch.mul(y, closed[:, :, None], out=table[:, :, 0])
        for j in range(1, n):
            torch.mul(table[:, :, j - 1], q[:, :, None], out=table[:, :, j])
        return table.flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        y, q, closed = ctx.saved_tensors
        n = y.shape[2]
        part = grad.view(*y.shape[:2], n, *y.shape[2:]).unbind(2)
        q = q[:, :, None]
        by_y, by_q = part[-1], part[-1] * (n - 1)
        for j in range(n - 2, -1, -1):  # Horner, for sums of q^j and j q^(j-1)
            by_y = torch.addcmul(part[j], by_y, q)
            if j > 0:
                by_q = torch.addcmul(part[j] * j, by_q, q)
        by_y = by_y * closed[:, :, None]
        return by_y, (by_q * y).sum(dim=2) * closed, None
