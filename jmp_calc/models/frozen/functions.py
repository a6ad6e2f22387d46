"""Chains of dense layers as single operations with a derivative written out.

Between the sums over neighbours GemNet-OC is a chain of dense layers on edges. Autograd
would keep a tensor for each activation, product and sum of it, and walk back through
all of them. With frozen weights only what enters each activation is needed, and the
products with weights are nearly all the work that is left. Scale factors, 1/0.6 of the
activation and 1/sqrt(2) of the residual sums are constants of the weights.

Functions here differentiate once, which is all that forces need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from jmp_calc.models.activation import SILU_GAIN
from jmp_calc.models.frozen.products import (
    Weight,
    add_transposed_product,
    product,
    transposed_product,
)
from jmp_calc.models.layers import sum_by_target

KEPT = 2**19
"""Elements of edge features up to which products are kept although they are quickly
made again; in larger graphs they would make up a third of the memory."""

_silu_backward = torch.ops.aten.silu_backward


def residuals_forward(
    x: Float[Tensor, "rows dim"], weights: Sequence[Weight], saved: list[Tensor]
) -> Float[Tensor, "rows dim"]:
    """Return ``2^(n/2)`` times the result of n residual layers.

    With ``x_k' = 2^(k/2) x_k`` a layer ``(x + act(W2 act(W1 x))) / sqrt(2)`` becomes
    ``x' + 2^(k/2) / 0.6 silu(W2' silu(W1' x'))``: one sum, the constants are in the
    weights.

    Args:
        x: Input.
        weights: From :func:`residual_weights`, two per layer.
        saved: Gets what the derivative needs.
    """
    for k in range(0, len(weights), 2):
        first = product(x, weights[k])
        second = product(torch.nn.functional.silu(first), weights[k + 1])
        saved += [first, second]
        x = torch.add(x, torch.nn.functional.silu(second), alpha=_gain(k))
    return x


def residuals_backward(
    grad: Float[Tensor, "rows dim"], weights: Sequence[Weight], saved: list[Tensor]
) -> Float[Tensor, "rows dim"]:
    """Return the derivative with respect to the input of the layers.

    Args:
        grad: Derivative with respect to the result, times :func:`top_gain`;
            overwritten.
        weights: As in :func:`residuals_forward`.
        saved: As filled there; emptied from the end.
    """
    # the running derivative carries the factor of the layer's sum, so that what changes
    # it from layer to layer is part of the matrix product
    for k in range(len(weights) - 2, -1, -2):
        second, first = saved.pop(), saved.pop()
        inner = transposed_product(_silu_backward(grad, second), weights[k + 1])
        grad = add_transposed_product(
            grad,
            _silu_backward(inner, first),
            weights[k],
            beta=math.sqrt(0.5) if k else 1 / SILU_GAIN,
            alpha=_gain(k - 2) if k else 1.0,
        )
    return grad


def top_gain(weights: Sequence[Weight]) -> float:
    """Return what :func:`residuals_backward` wants its argument multiplied with."""
    return _gain(len(weights) - 2) if weights else 1.0


def _gain(k: int) -> float:
    """Factor of the last activation of the layer with weights k and k + 1."""
    return 2 ** (k / 4) * SILU_GAIN


def residual_weights(stack: Iterable[Any]) -> list[Tensor]:
    """Return transposed weights of residual layers with the constants in them.

    Args:
        stack: Residual layers of two dense layers each.
    """
    found: list[Tensor] = []
    for k, layer in enumerate(stack):
        found.append(layer[0].weight.detach().t() * 2 ** (-k / 2))
        found.append(layer[1].weight.detach().t() * SILU_GAIN)
    return [weight.contiguous() for weight in found]


class Residuals(torch.autograd.Function):
    """``scale`` times the result of residual layers; see :func:`residuals_forward`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Sequence[Weight], scale: float) -> Tensor:
        """Apply the layers to rows."""
        saved: list[Tensor] = []
        y = residuals_forward(x, weights, saved)
        ctx.save_for_backward(*saved)
        factor = scale * 2 ** (-len(weights) / 4)
        ctx.weights, ctx.scale = weights, factor
        return y * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the derivative with respect to the rows."""
        saved = list(ctx.saved_tensors)
        scale = ctx.scale * top_gain(ctx.weights)
        return residuals_backward(grad * scale, ctx.weights, saved), None, None


class Messages(torch.autograd.Function):
    """All that a block makes of the edge features before its sums over neighbours.

    Returns the activated features of the edge itself (without 1/0.6), and for each of
    the triplet, quadruplet and edge-to-atom interactions the gated, down-projected
    message, activated (without 1/0.6).
    """

    @staticmethod
    def forward(
        ctx: Any,
        edge: Float[Tensor, "edges dim"],
        triplet: Float[Tensor, "edges rbf"],
        quadruplet: Float[Tensor, "edges rbf"],
        edge_to_atom: Float[Tensor, "edges rbf"],
        dense: Weight,
        gates: Sequence[Weight],
        downs: Sequence[Weight],
    ) -> tuple[Tensor, ...]:
        """Make the four features."""
        radial = (triplet, quadruplet, edge_to_atom)
        hidden = product(edge, dense)
        active = torch.nn.functional.silu(hidden)
        width = edge.shape[1]
        outputs, lowered, kept = [active[:, :width]], [], []
        ctx.is_kept = edge.numel() <= KEPT
        for k, (rad, gate, down) in enumerate(zip(radial, gates, downs, strict=True)):
            message = active[:, (k + 1) * width : (k + 2) * width]
            gated = product(rad, gate)
            if ctx.is_kept:
                kept += [gated, message]
                gated = gated * message
            else:
                gated.mul_(message)
            low = product(gated, down)
            lowered.append(low)
            outputs.append(torch.nn.functional.silu(low))
        ctx.save_for_backward(*radial, hidden, *lowered, *kept)
        ctx.dense, ctx.gates, ctx.downs = dense, gates, downs
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, own: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives with respect to edge features and radial factors."""
        saved = ctx.saved_tensors
        radial, hidden, lowered, kept = saved[:3], saved[3], saved[4:7], saved[7:]
        width = own.shape[1]
        total = torch.empty_like(hidden)
        total[:, :width] = own
        by_radial = []
        for k in range(3):
            part = slice((k + 1) * width, (k + 2) * width)
            by_gated = transposed_product(
                _silu_backward(grads[k], lowered[k]), ctx.downs[k]
            )
            if ctx.is_kept:
                gate, message = kept[2 * k : 2 * k + 2]
            else:
                gate = product(radial[k], ctx.gates[k])
                message = torch.nn.functional.silu(hidden[:, part])
            torch.mul(by_gated, gate, out=total[:, part])
            by_radial.append(transposed_product(by_gated.mul_(message), ctx.gates[k]))
        edge = transposed_product(_silu_backward(total, hidden), ctx.dense)
        return edge, *by_radial, None, None, None


class AtomMessages(torch.autograd.Function):
    """All that a block makes of the atom features before its sums over neighbours.

    Returns the gated, down-projected message of each atom_edge edge, activated, and the
    projected feature of the source of each atom_atom edge, activated (without 1/0.6).
    """

    @staticmethod
    def forward(
        ctx: Any,
        atom: Float[Tensor, "atoms atom_dim"],
        radial: Float[Tensor, "ae_edges rbf"],
        source: Int[Tensor, " ae_edges"],
        pair_source: Int[Tensor, " aa_edges"],
        dense: Weight,
        gate: Weight,
        down: Weight,
    ) -> tuple[Tensor, Tensor]:
        """Make both features."""
        hidden = product(atom, dense)
        active = torch.nn.functional.silu(hidden)
        width = gate.shape[1]
        message = active[:, :width].index_select(0, source)
        low = product(product(radial, gate).mul_(message), down)
        ctx.save_for_backward(radial, source, pair_source, hidden, low)
        ctx.dense, ctx.gate, ctx.down = dense, gate, down
        pairs = active[:, width:].index_select(0, pair_source)
        return torch.nn.functional.silu(low), pairs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_low: Tensor, by_pairs: Tensor) -> tuple[Any, ...]:
        """Return the derivatives with respect to atom features and radial factors."""
        radial, source, pair_source, hidden, low = ctx.saved_tensors
        width = ctx.gate.shape[1]
        by_gated = transposed_product(_silu_backward(by_low, low), ctx.down)
        by_atom = None
        if ctx.needs_input_grad[0]:
            total = torch.zeros_like(hidden)
            gated = product(radial, ctx.gate).mul_(by_gated)
            total[:, :width].index_add_(0, source, gated)
            total[:, width:].index_add_(0, pair_source, by_pairs)
            by_atom = transposed_product(_silu_backward(total, hidden), ctx.dense)
        message = torch.nn.functional.silu(hidden[:, :width]).index_select(0, source)
        by_radial = transposed_product(by_gated.mul_(message), ctx.gate)
        return by_atom, by_radial, None, None, None, None, None


class Joined(torch.autograd.Function):
    """Sum of the feature of an edge and the messages that reach it from both ends.

    ``a * own + b * sum_k (silu(y_k U_k)[:, :d] + silu(y_k U_k)[swap, d:])``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        own: Float[Tensor, "edges dim"],
        swap: Int[Tensor, " edges"],
        ups: Sequence[Weight],
        own_scale: float,
        scale: float,
        *sums: Tensor,
    ) -> Float[Tensor, "edges dim"]:
        """Join everything."""
        width = own.shape[1]
        kept = [product(sums[0], ups[0])]
        total = torch.nn.functional.silu(kept[0])
        ctx.is_kept = own.numel() <= KEPT
        for y, up in zip(sums[1:], ups[1:], strict=True):
            raised = product(y, up)
            total += torch.nn.functional.silu(raised)
            if ctx.is_kept:
                kept.append(raised)
        result = total[:, width:].index_select(0, swap).add_(total[:, :width])
        result.mul_(scale).add_(own, alpha=own_scale)
        # the products with U are twelve times as large as the sums
        ctx.save_for_backward(swap, *(kept if ctx.is_kept else sums))
        ctx.ups, ctx.own_scale, ctx.scale = ups, own_scale, scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives with respect to the feature and the sums."""
        swap, *kept = ctx.saved_tensors
        if not ctx.is_kept:
            kept = [product(y, up) for y, up in zip(kept, ctx.ups, strict=True)]
        scaled = grad * ctx.scale
        # an edge is the counter-edge of its counter-edge
        both = torch.cat([scaled, scaled.index_select(0, swap)], dim=1)
        by_sum = [
            transposed_product(_silu_backward(both, raised), up)
            for raised, up in zip(kept, ctx.ups, strict=True)
        ]
        return grad * ctx.own_scale, None, None, None, None, *by_sum


class Updated(torch.autograd.Function):
    """New edge features: residual layers, sum with the old ones, residual layers."""

    @staticmethod
    def forward(
        ctx: Any,
        edge: Float[Tensor, "edges dim"],
        x: Float[Tensor, "edges dim"],
        before: Sequence[Weight],
        after: Sequence[Weight],
    ) -> Float[Tensor, "edges dim"]:
        """Apply the layers."""
        saved: list[Tensor] = []
        x = residuals_forward(x, before, saved)
        ctx.inner = 2 ** (-len(before) / 4 - 0.5)
        ctx.outer = 2 ** (-len(after) / 4)
        merged = torch.add(edge * math.sqrt(0.5), x, alpha=ctx.inner)
        y = residuals_forward(merged, after, saved)
        ctx.save_for_backward(*saved)
        ctx.before, ctx.after = before, after
        return y * ctx.outer if after else y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives with respect to both inputs."""
        saved = list(ctx.saved_tensors)
        grad = residuals_backward(
            grad * (ctx.outer * top_gain(ctx.after)), ctx.after, saved
        )
        edge = grad * math.sqrt(0.5)
        x = residuals_backward(
            grad.mul_(ctx.inner * top_gain(ctx.before)), ctx.before, saved
        )
        return edge, x, None, None


class Concatenated(torch.autograd.Function):
    """Edge features from both atoms and the edge, residual layers, and the skip."""

    @staticmethod
    def forward(
        ctx: Any,
        edge: Float[Tensor, "edges dim"],
        of_source: Float[Tensor, "atoms dim"],
        of_target: Float[Tensor, "atoms dim"],
        source: Int[Tensor, " edges"],
        target: Int[Tensor, " edges"],
        weight: Weight,
        layers: Sequence[Weight],
    ) -> Float[Tensor, "edges dim"]:
        """Apply the layers; the products with atom features are already made."""
        hidden = product(edge, weight)
        hidden += of_source.index_select(0, source)
        hidden += of_target.index_select(0, target)
        saved = [source, target, hidden]
        x = torch.nn.functional.silu(hidden).mul_(SILU_GAIN)
        x = residuals_forward(x, layers, saved)
        ctx.save_for_backward(*saved)
        ctx.weight, ctx.layers, ctx.n_atoms = weight, layers, of_source.shape[0]
        ctx.scale = 2 ** (-len(layers) / 4 - 0.5)
        return torch.add(edge * math.sqrt(0.5), x, alpha=ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives with respect to edge and atom features."""
        source, target, *saved = ctx.saved_tensors
        inner = residuals_backward(
            grad * (ctx.scale * top_gain(ctx.layers)), ctx.layers, saved
        )
        inner = _silu_backward(inner.mul_(SILU_GAIN), saved.pop())
        edge = add_transposed_product(
            grad * math.sqrt(0.5), inner, ctx.weight, beta=1.0
        )
        of_source, of_target = (
            inner.new_zeros((ctx.n_atoms, inner.shape[1])).index_add_(0, index, inner)
            for index in (source, target)
        )
        return edge, of_source, of_target, None, None, None, None


class Summed(torch.autograd.Function):
    """Atom features: the gated sum of incoming edges, and residual layers after it."""

    @staticmethod
    def forward(
        ctx: Any,
        edge: Float[Tensor, "edges edge_dim"],
        radial: Float[Tensor, "edges rbf"],
        target: Int[Tensor, " edges"],
        n_atoms: int,
        gate: Weight,
        dense: Weight | None,
        layers: Sequence[Weight],
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Sum up, and apply the layers; no ``dense`` if both widths are the same."""
        gated = product(radial, gate)
        saved = [edge, radial, target]
        ctx.is_kept = edge.numel() <= KEPT
        if ctx.is_kept:
            saved.append(gated)
            gated = gated * edge
        else:
            gated.mul_(edge)
        x = sum_by_target(gated, target, n_atoms)
        if dense is not None:
            saved.append(product(x, dense))
            x = torch.nn.functional.silu(saved[-1]).mul_(SILU_GAIN)
        x = residuals_forward(x, layers, saved)
        ctx.save_for_backward(*saved)
        ctx.gate, ctx.dense, ctx.layers = gate, dense, layers
        ctx.scale = 2 ** (-len(layers) / 4)
        return x * ctx.scale if layers else x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the derivatives with respect to edge features and radial factors."""
        edge, radial, target, *saved = ctx.saved_tensors
        grad = residuals_backward(
            grad * (ctx.scale * top_gain(ctx.layers)), ctx.layers, saved
        )
        if ctx.dense is not None:
            grad = _silu_backward(grad.mul_(SILU_GAIN), saved.pop())
            grad = transposed_product(grad, ctx.dense)
        of_edges = grad.index_select(0, target)
        gated = saved.pop() if ctx.is_kept else product(radial, ctx.gate)
        by_edge = gated * of_edges
        by_radial = transposed_product(of_edges.mul_(edge), ctx.gate)
        return by_edge, by_radial, None, None, None, None, None
