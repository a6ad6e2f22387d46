from __future__ import annotations

import torch

from jmp_calc.models.layers import (
    Dense,
    Residual,
    ScaleFactor,
    he_orthogonal_,
    head_mlp,
    scaled_silu,
)


def test_an_unfitted_scale_factor_changes_nothing() -> None:
    layer, x = ScaleFactor(), torch.randn(3, 4)
    assert torch.equal(layer(x), x)
    layer.factor.fill_(2.5)
    torch.testing.assert_close(layer(x), 2.5 * x)


def test_a_scale_factor_shows_real_rows_and_their_reference_while_fitting() -> None:
    layer, seen = ScaleFactor(), []
    layer.observe = lambda x, reference: seen.append((x, reference))
    x = torch.randn(2, 3, 4)
    rows = torch.tensor([[True, False, True], [False, False, True]])
    layer(x, lambda: x[rows] + 1, rows=rows)
    assert torch.equal(seen[0][0], x[rows])
    assert torch.equal(seen[0][1], x[rows] + 1)


def test_a_residual_layer_keeps_the_variance_scale() -> None:
    layer, x = Residual(6), torch.randn(5, 6)
    expected = (x + layer[1](layer[0](x))) / 2**0.5
    torch.testing.assert_close(layer(x), expected)


def test_he_orthogonal_rows_have_zero_mean_and_unit_gain() -> None:
    weight = he_orthogonal_(torch.empty(8, 32))
    torch.testing.assert_close(weight.mean(1), torch.zeros(8), atol=1e-6, rtol=0)
    variance = weight.var(1, correction=1) * 32
    torch.testing.assert_close(variance, torch.ones(8), atol=1e-3, rtol=0)


def test_a_dense_layer_has_no_bias_and_a_scaled_activation() -> None:
    layer, x = Dense(4, 3), torch.randn(2, 4)
    assert layer.bias is None
    torch.testing.assert_close(layer(x), scaled_silu(x @ layer.weight.T))
    linear = Dense(4, 3, activation=False)
    torch.testing.assert_close(linear(x), x @ linear.weight.T)


def test_the_last_layer_of_a_scalar_head_has_no_bias() -> None:
    layers = [
        m for m in head_mlp(4, 1, n_layers=5, has_bias=True) if hasattr(m, "bias")
    ]
    assert [m.bias is not None for m in layers] == [True] * 4 + [False]
