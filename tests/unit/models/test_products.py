"""Products with weights in the layout of the processor are the plain products."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from jmp_calc import JMPCalculator
from jmp_calc.models.config import NANO, HeadSpec
from jmp_calc.models.frozen import products
from jmp_calc.models.frozen.block import Weights
from jmp_calc.models.frozen.products import (
    LEAST,
    Packed,
    add_transposed_product,
    linear,
    packed,
    product,
    transposed_product,
)
from jmp_calc.models.jmp import JMPModel
from toys.models import SMOOTH

needs_layouts = pytest.mark.skipif(
    not products._is_trusted(), reason="this torch has no layouts for products here"
)


def _weight(inputs: int = 192, outputs: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(inputs, outputs, generator=generator) / inputs**0.5


def _rows(n_rows: int, width: int) -> torch.Tensor:
    return torch.randn(n_rows, width, generator=torch.Generator().manual_seed(2))


@needs_layouts
@pytest.mark.parametrize("n_rows", [0, 1, 7, 256, 1001])
def test_all_products_are_those_of_the_plain_weight(n_rows: int) -> None:
    weight = _weight()
    found = packed(weight, transposed=False)
    assert isinstance(found, Packed)
    x, y = _rows(n_rows, 192), _rows(n_rows, 256)
    exact = x.double() @ weight.double()
    torch.testing.assert_close(product(x, found).double(), exact, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        transposed_product(y, found).double(),
        y.double() @ weight.double().t(),
        rtol=0,
        atol=1e-5,
    )
    total = add_transposed_product(x.clone(), y.clone(), found, beta=0.7, alpha=-1.3)
    exact = 0.7 * x.double() - 1.3 * (y.double() @ weight.double().t())
    torch.testing.assert_close(total.double(), exact, rtol=0, atol=1e-5)


@needs_layouts
@pytest.mark.parametrize("kind", ["columns", "transposed", "expanded"])
def test_rows_may_lie_anywhere_in_memory(kind: str) -> None:
    weight = _weight()
    found = packed(weight, transposed=True)
    x = {
        "columns": _rows(50, 600)[:, 200:392],
        "transposed": _rows(192, 50).t(),
        "expanded": _rows(1, 192).expand(50, -1),
    }[kind]
    torch.testing.assert_close(product(x, found), x @ weight, rtol=1e-5, atol=1e-5)


@needs_layouts
def test_a_product_is_differentiated_by_its_rows() -> None:
    weight, x = _weight(), _rows(20, 192)
    slopes = []
    for factor in (weight, packed(weight, transposed=True)):
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(linear(leaf, factor).square().sum(), leaf)
        slopes.append(slope)
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-5)


def test_other_weights_stay_plain() -> None:
    small, double = _weight(8, 8), _weight().double()
    assert small.numel() < LEAST
    for weight in (small, double):
        assert packed(weight, transposed=True) is weight


def test_whoever_turns_onednn_off_gets_plain_products() -> None:
    weight = _weight()
    torch._C._set_mkldnn_enabled(False)  # the public way sets, and warns of, TF32 too
    try:
        assert packed(weight, transposed=True) is weight
    finally:
        torch._C._set_mkldnn_enabled(True)


@pytest.mark.parametrize("fault", ["absent", "wrong"])
def test_without_operations_that_agree_weights_stay_plain(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def layout(weight: torch.Tensor) -> torch.Tensor:
        if fault == "absent":
            raise AttributeError("no such operation")
        return torch.ops.mkldnn._reorder_linear_weight(1.01 * weight, 64)

    monkeypatch.setattr(products, "_layout", layout)
    monkeypatch.setattr(products, "_is_trusted", products._is_trusted.__wrapped__)
    weight = _weight()
    assert packed(weight, transposed=True) is weight


@needs_layouts
def test_the_weight_is_not_lost() -> None:
    weight = _weight()
    found = packed(weight, transposed=True)
    assert isinstance(found, Packed)
    assert found.nbytes == 2 * weight.nbytes
    assert torch.equal(found.dense(), weight)
    assert torch.equal(pickle.loads(pickle.dumps(found)).dense(), weight)
    assert torch.equal(copy.deepcopy(found).dense(), weight)


def _network() -> JMPModel:
    torch.manual_seed(0)
    config = replace(NANO, emb_size_edge=192, emb_size_atom=192, num_before_skip=2)
    head = HeadSpec(name="task", graph=SMOOTH, forces="gradient", domain="molecule")
    return JMPModel(config, [head])


@needs_layouts
def test_a_network_with_packed_weights_is_the_same_network() -> None:
    atoms = molecule("CH3CH2NH2")
    found = {}
    network = _network()
    calc = JMPCalculator(network, head="task", dtype="float32")
    layers = [m for m in calc.model.modules() if isinstance(m, Weights)]
    assert sum(layer.nbytes() for layer in layers) > 2**20
    found["packed"] = calc.evaluate([atoms], ["energy", "forces"])[0]
    calc.model.cpu()  # what moves is unpacked
    assert sum(layer.nbytes() for layer in layers) == 0
    found["plain"] = calc.evaluate([atoms], ["energy", "forces"])[0]
    exact = JMPCalculator(network, head="task", dtype="float64")
    forces = exact.evaluate([atoms], ["forces"])[0]["forces"]
    scale = np.abs(forces).max()
    assert np.abs(forces - found["plain"]["forces"]).max() < 2e-6 * scale
    assert np.abs(forces - found["packed"]["forces"]).max() < 2e-6 * scale
    assert not np.array_equal(found["packed"]["forces"], found["plain"]["forces"])


@needs_layouts
def test_a_calculator_with_packed_weights_is_copied() -> None:
    atoms = molecule("CH3CH2NH2")
    calc = JMPCalculator(_network(), head="task", dtype="float32")
    copied = copy.deepcopy(calc)
    a, b = (c.evaluate([atoms], ["energy", "forces"])[0] for c in (calc, copied))
    assert a["energy"] == b["energy"]
    assert np.array_equal(a["forces"], b["forces"])
