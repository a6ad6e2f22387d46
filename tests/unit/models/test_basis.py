from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre

from jmp_calc.models.basis import (
    FactorisedProjection,
    RadialBasis,
    envelope,
)
from jmp_calc.models.harmonics import _slopes, legendre, legendre_to_cosines


def test_the_envelope_and_two_derivatives_vanish_at_the_end() -> None:
    x = torch.tensor([1 - 1e-6], dtype=torch.float64, requires_grad=True)
    value = envelope(x)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert abs(value.item()) < 1e-14
    assert abs(first.item()) < 1e-9
    assert abs(second.item()) < 1e-3
    assert envelope(torch.tensor([0.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.0]


def test_harmonics_are_normalised_legendre_polynomials() -> None:
    c = torch.linspace(-1, 1, 11, dtype=torch.float64)
    y = legendre(c, 7)
    for degree in range(7):
        exact = math.sqrt((2 * degree + 1) / (4 * math.pi)) * eval_legendre(
            degree, c.numpy()
        )
        np.testing.assert_allclose(y[:, degree], exact, atol=1e-14)


def test_slopes_first_asked_for_in_inference_mode_can_be_differentiated() -> None:
    _slopes.cache_clear()
    c = torch.full((2,), 0.3, dtype=torch.float64, requires_grad=True)
    total = legendre(c, 3).square().sum()
    with torch.inference_mode():
        torch.autograd.grad(total, c, retain_graph=True)
    (slope,) = torch.autograd.grad(total, c, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), c)
    # of 3 c^2 + 5 (3 c^2 - 1)^2 / 4 over 4 pi
    expected = (6 + 5 * (27 * 0.3**2 - 3)) / (4 * math.pi)
    np.testing.assert_allclose(curvature, [expected] * 2, rtol=1e-14)


def test_a_legendre_polynomial_of_a_cosine_is_a_series_of_cosines() -> None:
    angle = np.linspace(0, math.pi, 9)
    series = legendre_to_cosines(7)
    expected = legendre(torch.from_numpy(np.cos(angle)), 7).numpy()
    cosines = np.cos(np.arange(7)[:, None] * angle)
    np.testing.assert_allclose((series @ cosines).T, expected, atol=1e-14)


def test_radial_functions_are_gaussians_under_the_envelope() -> None:
    basis = RadialBasis(5).double()
    value = basis(torch.tensor([0.25], dtype=torch.float64))
    centres = np.linspace(0, 1, 5)
    exact = np.exp(-0.5 * 16 * (0.25 - centres) ** 2)
    exact *= envelope(torch.tensor([0.25], dtype=torch.float64)).item()
    np.testing.assert_allclose(value[0], exact, rtol=1e-14)


def test_a_factorised_projection_reads_its_memory_embedding_first() -> None:
    projection = FactorisedProjection(3, 2, 4).double()
    radial = torch.rand(5, 3, dtype=torch.float64)
    viewed = projection.weight.reshape(3, 4, 2)
    expected = torch.einsum("en,nik->eik", radial, viewed)
    torch.testing.assert_close(projection(radial), expected)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_harmonics_can_be_asked_for(n: int) -> None:
    assert legendre(torch.zeros(2, 3), n).shape == (2, 3, n)
