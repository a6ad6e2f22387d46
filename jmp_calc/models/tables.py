"""Tables that every block multiplies with, differentiated once for all blocks.

Autograd makes the derivative of a table anew for each product with it and adds them up:
arrays as large as the table, several times per block. Here each product only notes down
its two factors, or adds to one array, and the derivative of what the table is made of
is worked out when the last of them is known. A product passes on nothing but a token,
whose node in the graph autograd visits after all of them.

These tables differentiate once, which is all that forces need.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from jmp_calc.models.harmonics import MOST_AT_ONCE, add_outer_slopes, outer_table


class SharedTable:
    """A table of matrices that many arrays are multiplied with by ``table @ x``.

    Args:
        table: Matrices, the same number as in each ``x``.
    """

    def __init__(self, table: Float[Tensor, "*batch rows columns"]) -> None:
        # The token must not be reachable from its own node: that would be a cycle that
        # is never collected.
        self._notes: _Notes = _Sum()
        self._shape, self._flat = table.shape, table.detach().flatten(0, -3)
        self._token: Tensor = _Token.apply(self._notes, table)  # type: ignore[no-untyped-call]  # torch

    @property
    def shape(self) -> torch.Size:
        """Of the table."""
        return self._shape

    def __matmul__(
        self, x: Float[Tensor, "*batch columns dim"]
    ) -> Float[Tensor, "*batch rows dim"]:
        """Multiply each matrix with one of ``x``."""
        batch = x.shape[:-2]
        if len(batch) > 1:
            x = x.flatten(0, -3)
        value: Tensor = _Product.apply(self._notes, self._token, self._flat, x)  # type: ignore[no-untyped-call]  # torch
        return value.view(*batch, *value.shape[1:]) if len(batch) > 1 else value


class SharedOuterTable(SharedTable):
    """The table of :func:`~jmp_calc.models.harmonics.outer_table`.

    The derivative with respect to this table never exists as a whole.

    Args:
        y: First factor.
        f: Second factor.
    """

    def __init__(
        self,
        y: Float[Tensor, "atoms width angular quad_width"],
        f: Float[Tensor, "atoms harmonics width parts quad_width"],
    ) -> None:
        y_fixed, f_fixed = y.detach(), f.detach()
        table = outer_table(y_fixed, f_fixed)
        self._notes = _OuterSum(y_fixed, f_fixed, 2 * table.numel())
        self._shape, self._flat = table.shape, table.flatten(0, -3)
        self._token = _Token.apply(self._notes, y, f)  # type: ignore[no-untyped-call]  # torch


class _Notes:
    """What is known of the derivative with respect to a table in one backward pass."""

    _task = -1

    def begin(self) -> None:
        """Forget what an earlier pass has left that did not come to its end."""
        task = torch._C._current_graph_task_id()
        if task != self._task:
            self._task = task
            self.forget()

    def forget(self) -> None:
        """Forget everything."""
        raise NotImplementedError

    def add(
        self,
        grad: Float[Tensor, "matrices rows dim"],
        x: Float[Tensor, "matrices columns dim"],
    ) -> None:
        """Note the derivative with respect to the product with ``x``."""
        raise NotImplementedError

    def take(self, *made_of: Tensor) -> tuple[Tensor, ...]:
        """Return the derivatives by what the table is made of, and forget them."""
        raise NotImplementedError


class _Sum(_Notes):
    def __init__(self) -> None:
        self._total: Tensor | None = None

    def forget(self) -> None:
        self._total = None

    def add(self, grad: Tensor, x: Tensor) -> None:
        self.begin()
        x = x.transpose(1, 2)
        if self._total is None:
            self._total = torch.bmm(grad, x)
        else:
            self._total.baddbmm_(grad, x)

    def take(self, *made_of: Tensor) -> tuple[Tensor, ...]:
        self.begin()
        total, self._total = self._total, None
        (table,) = made_of
        return (torch.zeros_like(table) if total is None else total.view_as(table),)


class _OuterSum(_Notes):
    def __init__(self, y: Tensor, f: Tensor, most: int) -> None:
        self._y, self._f, self._most = y, f, most
        self._noted: list[tuple[Tensor, Tensor]] = []
        self._by: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        self._noted, self._by = [], None

    def add(self, grad: Tensor, x: Tensor) -> None:
        self.begin()
        self._noted.append((grad.detach(), x.detach()))
        # few products are cheaper than many, but memory must not grow with the blocks
        if sum(a.numel() + b.numel() for a, b in self._noted) > self._most:
            self._work_out()

    def take(self, *_: Tensor) -> tuple[Tensor, ...]:
        self.begin()
        self._work_out()
        by, self._by = self._by, None
        assert by is not None
        return by

    def _work_out(self) -> None:
        """Add what is noted to the derivatives, in one product for all of it."""
        y, f, noted = self._y, self._f, self._noted
        if self._by is None:
            self._by = torch.zeros_like(y), torch.zeros_like(f)
        if not noted:
            return
        self._noted = []
        n_atoms, n_harmonics = f.shape[:2]
        rows, columns = noted[0][0].shape[1], noted[0][1].shape[1]
        step = max(1, MOST_AT_ONCE // max(1, n_atoms * rows * columns))
        for start in range(0, n_harmonics, step):
            j = slice(start, start + step)
            table: Tensor | None = None
            for pair in noted:
                grad, x = (
                    part.view(n_atoms, n_harmonics, *part.shape[1:])[:, j].flatten(0, 1)
                    for part in pair
                )
                if table is None:
                    table = torch.bmm(grad, x.transpose(1, 2))
                else:
                    table.baddbmm_(grad, x.transpose(1, 2))
            assert table is not None
            table = table.view(n_atoms, -1, *y.shape[1:3], f.shape[3], y.shape[3])
            add_outer_slopes(table, y, f[:, j], self._by[0], self._by[1][:, j])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, notes: _Notes, token: Tensor, table: Tensor, x: Tensor
    ) -> Tensor:
        ctx.save_for_backward(token, table, x)
        ctx.notes = notes
        return torch.bmm(table, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, Tensor]:
        token, table, x = ctx.saved_tensors
        ctx.notes.add(grad, x)
        return None, token, None, torch.bmm(table.transpose(1, 2), grad)


class _Token(torch.autograd.Function):
    """Stands for a table in the graph."""

    @staticmethod
    def forward(ctx: Any, notes: _Notes, *made_of: Tensor) -> Tensor:
        ctx.save_for_backward(*made_of)
        ctx.notes = notes
        return made_of[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.notes.take(*ctx.saved_tensors)
