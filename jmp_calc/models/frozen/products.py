"""Products with frozen weights, in the layout that is fastest to multiply with.

A matrix product on the CPU first brings the weight into the layout that its inner loops
read. A frozen weight can stay in that layout (that of oneDNN), for products with itself
and with its transpose: the same sums, in another order.
"""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST = 2**15
"""Elements of the smallest weight that is worth a layout of its own."""
_ROWS = 256
"""Of the products that layouts are chosen for; others have the same results."""


class Packed:
    """A float32 weight on the CPU, in the layouts of both products.

    Args:
        weight: Input axis first.
    """

    def __init__(self, weight: Float[Tensor, "inputs outputs"]) -> None:
        self.shape = weight.shape
        self._by_rows = _layout(weight.t())
        self._by_columns: Tensor | None = None

    def dense(self) -> Float[Tensor, "inputs outputs"]:
        """Return the weight as it was."""
        return self._by_rows.to_dense().t().contiguous()

    def prepare_transposed(self) -> None:
        """Make the layout for :meth:`transposed_product`, if it is not there."""
        if self._by_columns is None:
            self._by_columns = _layout(self.dense())

    @property
    def nbytes(self) -> int:
        """Bytes of all layouts."""
        n_layouts = 1 if self._by_columns is None else 2
        return n_layouts * self.shape.numel() * 4

    def product(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Return ``x @ weight``."""
        return _linear(x, self._by_rows, self.shape[1])

    def transposed_product(
        self,
        x: Float[Tensor, "rows outputs"],
        added: Float[Tensor, "rows inputs"] | None = None,
    ) -> Float[Tensor, "rows inputs"]:
        """Return ``x @ weight.T``, plus what is added."""
        self.prepare_transposed()
        assert self._by_columns is not None
        return _linear(x, self._by_columns, self.shape[0], added)

    def __deepcopy__(self, memo: Any) -> Packed:
        return self  # it never changes

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, (self.dense(),)


Weight = Tensor | Packed
"""What products are made with."""


def product(
    x: Float[Tensor, "rows inputs"], weight: Weight
) -> Float[Tensor, "rows outputs"]:
    """Return ``x @ weight``, for use where nothing is differentiated.

    Args:
        x: Rows.
        weight: Input axis first.
    """
    return weight.product(x) if isinstance(weight, Packed) else torch.mm(x, weight)


def transposed_product(
    x: Float[Tensor, "rows outputs"], weight: Weight
) -> Float[Tensor, "rows inputs"]:
    """Return ``x @ weight.T``, for use where nothing is differentiated.

    Args:
        x: Rows.
        weight: Input axis first.
    """
    if isinstance(weight, Packed):
        return weight.transposed_product(x)
    return torch.mm(x, weight.t())


def add_transposed_product(
    total: Float[Tensor, "rows inputs"],
    x: Float[Tensor, "rows outputs"],
    weight: Weight,
    *,
    beta: float,
    alpha: float = 1.0,
) -> Float[Tensor, "rows inputs"]:
    """Return ``beta * total + alpha * x @ weight.T``.

    Args:
        total: Overwritten.
        x: Rows; overwritten.
        weight: Input axis first.
        beta: Factor of ``total``.
        alpha: Factor of the product.
    """
    if not isinstance(weight, Packed):
        return total.addmm_(x, weight.t(), beta=beta, alpha=alpha)
    if alpha != 1:
        x = x.mul_(alpha)
    return weight.transposed_product(x, total.mul_(beta))


def linear(
    x: Float[Tensor, "rows inputs"], weight: Weight
) -> Float[Tensor, "rows outputs"]:
    """Return ``x @ weight``, which may be differentiated once with respect to ``x``.

    Args:
        x: Rows.
        weight: Input axis first.
    """
    if not isinstance(weight, Packed):
        return torch.mm(x, weight)
    y: Tensor = _Linear.apply(x, weight)  # type: ignore[no-untyped-call]  # torch
    return y


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Packed) -> Tensor:
        ctx.weight = weight
        return weight.product(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.weight.transposed_product(grad), None


def packed(weight: Tensor, *, transposed: bool) -> Weight:
    """Return a weight in the layouts of products, or itself where that is no gain.

    Args:
        weight: Input axis first.
        transposed: Whether products with its transpose are expected, too.
    """
    is_small = weight.numel() < LEAST
    if is_small or weight.device.type != "cpu" or weight.dtype != torch.float32:
        return weight
    if not torch.backends.mkldnn.enabled or not _is_trusted():
        return weight
    result = Packed(weight)
    if transposed:
        result.prepare_transposed()
    return result


def _layout(weight: Float[Tensor, "outputs inputs"]) -> Tensor:
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
    return found


def _linear(
    x: Tensor, layout: Tensor, n_outputs: int, added: Tensor | None = None
) -> Tensor:
    if not len(x):
        return x.new_empty((0, n_outputs))
    if x.stride(1) != 1 or x.stride(0) < x.shape[1]:
        x = x.contiguous()
    operation = torch.ops.mkldnn._linear_pointwise
    y: Tensor
    if added is None:
        y = operation.default(x, layout, None, "none", [], "")
    else:
        y = operation.binary(x, added, layout, None, "add")
    return y


@cache
def _is_trusted() -> bool:
    """Whether the operations exist here and agree with plain products.

    They belong to the part of torch that its compiler uses, so they may change with its
    version; then products are plain ones, as on other processors.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, added = (
        torch.randn(*shape, generator=generator)
        for shape in ((37, 160), (160, 224), (37, 160))
    )
    try:
        trial = Packed(weight)
        y = trial.product(x)
        back = trial.transposed_product(y, added)
        of_part = trial.product(torch.cat([x, x], dim=1)[:, 160:])
        is_same = torch.equal(trial.dense(), weight)
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    pairs = ((y, x @ weight), (of_part, y), (back, y @ weight.t() + added))
    return is_same and all(torch.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in pairs)
