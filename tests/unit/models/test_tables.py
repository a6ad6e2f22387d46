"""Shared tables: the derivatives of all products, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from jmp_calc.models import tables
from jmp_calc.models.harmonics import outer_table
from jmp_calc.models.tables import SharedOuterTable, SharedTable

ATOMS, HARMONICS, WIDTH, ANGULAR, PARTS, QUAD, CHANNELS = 2, 3, 4, 3, 2, 5, 2


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


FACTORS = (
    (ATOMS, WIDTH, ANGULAR, QUAD),
    (ATOMS, HARMONICS, WIDTH, PARTS, QUAD),
)
CASES: dict[str, Any] = {
    "table": (SharedTable, lambda x: x, ((ATOMS, WIDTH, QUAD),), (ATOMS, QUAD)),
    "table of tables": (
        SharedTable,
        lambda x: x,
        ((ATOMS, HARMONICS, WIDTH, QUAD),),
        (ATOMS, HARMONICS, QUAD),
    ),
    "outer table": (
        SharedOuterTable,
        outer_table,
        FACTORS,
        (ATOMS, HARMONICS, PARTS * QUAD),
    ),
}
every = pytest.mark.parametrize("name", CASES)


def products(make: Callable[..., Any], made_of: list[Tensor], xs: list[Tensor]) -> Any:
    table = make(*made_of)
    return sum(((k + 1) * (table @ x)).sin().sum() for k, x in enumerate(xs))


def problem(name: str) -> tuple[Any, Any, list[Tensor], list[Tensor]]:
    shared, plain, factors, rows = CASES[name]
    made_of = tensors(*factors)
    xs = tensors(*[(*rows, CHANNELS)] * 3)
    return shared, plain, made_of, xs


@every
@pytest.mark.parametrize("at_once", [1, 2**19])
def test_derivatives_are_those_of_plain_products(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_AT_ONCE", at_once)
    shared, plain, made_of, xs = problem(name)
    expected = torch.autograd.grad(products(plain, made_of, xs), [*made_of, *xs])
    found = torch.autograd.grad(products(shared, made_of, xs), [*made_of, *xs])
    torch.testing.assert_close(found, expected)


@every
def test_a_pass_that_did_not_ask_for_the_table_leaves_nothing(name: str) -> None:
    shared, plain, made_of, xs = problem(name)
    value = products(shared, made_of, xs)
    torch.autograd.grad(value, xs, retain_graph=True)
    found = torch.autograd.grad(value, made_of, retain_graph=True)
    again = torch.autograd.grad(value, made_of)
    expected = torch.autograd.grad(products(plain, made_of, xs), made_of)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(again, expected)


@every
def test_tables_refuse_a_second_derivative(name: str) -> None:
    shared, _, made_of, xs = problem(name)
    value = products(shared, made_of, xs)
    first = torch.autograd.grad(value, made_of, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate"):
        first[0].sum().backward()
