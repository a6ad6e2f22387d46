"""Radial, circular and dihedral bases."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.models.harmonics import legendre_to_cosines
from jmp_calc.models.layers import he_orthogonal_

ENVELOPE_EXPONENT = 5
_LEAST_EXPONENT = -60.0
"""Where Gaussians end: 1e-26, below the rounding of all sums that they enter."""


def envelope(x: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
    """Polynomial that falls from 1 at 0 to 0 at 1 with two vanishing derivatives.

    Source:
        Gasteiger et al., arXiv 2003.03123, eq. 8, with p = 5; zero beyond x = 1.
    """
    p = ENVELOPE_EXPONENT
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2.0), -p * (p + 1) / 2
    value = 1 + x**p * (a + x * (b + x * c))
    return torch.where(x < 1, value, torch.zeros_like(value))


class RadialBasis(torch.nn.Module):
    """Gaussians of the scaled distance times the envelope (gemnet_oc section 4.1)."""

    offset: Tensor
    temps: Tensor

    def __init__(self, num_radial: int) -> None:
        super().__init__()
        # float32 as in the published files: recomputing the centres in float64
        # moves energies by 2e-6. On the CPU also where a network is built without
        # numbers: torch imports sympy to make none.
        centres = torch.linspace(0, 1, num_radial, dtype=torch.float32, device="cpu")
        self.register_buffer("offset", centres)
        self.register_buffer(
            "temps",
            torch.full((num_radial,), 0.5 * (num_radial - 1) ** 2, dtype=torch.float32),
        )

    def forward(self, scaled: Float[Tensor, " edges"]) -> Float[Tensor, "edges radial"]:
        """Evaluate the basis at distance / cutoff."""
        value: Tensor = _Radial.apply(scaled, self.offset, self.temps.abs())  # type: ignore[no-untyped-call]  # torch
        return value


class _Radial(torch.autograd.Function):
    """Gaussians times the envelope, with the derivative written out."""

    @staticmethod
    def forward(ctx: Any, scaled: Tensor, offset: Tensor, width: Tensor) -> Tensor:
        gauss = _gaussians(scaled[:, None] - offset, width)
        ctx.save_for_backward(scaled, offset, width, gauss)
        return envelope(scaled)[:, None] * gauss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scaled, offset, width, gauss = ctx.saved_tensors
        away = scaled[:, None] - offset
        # to be differentiated again, it must follow from the distance
        known = not torch.is_grad_enabled()
        weighted = grad * (gauss if known else _gaussians(away, width))
        by_envelope = weighted.sum(dim=1)
        by_gauss = (weighted * away) @ (-2 * width)
        slope = _envelope_slope(scaled)
        return by_envelope * slope + by_gauss * envelope(scaled), None, None


def _gaussians(away: Tensor, width: Tensor) -> Tensor:
    # without an end of its exponent, many numbers are too small to be fast
    return torch.exp((-width * away**2).clamp(min=_LEAST_EXPONENT))


def _envelope_slope(x: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
    p = ENVELOPE_EXPONENT
    value = -p * (p + 1) * (p + 2) / 2 * x ** (p - 1) * (1 - x) ** 2
    return torch.where(x < 1, value, torch.zeros_like(value))


class FactorisedProjection(torch.nn.Module):
    """Projection of the radial basis to (embedding, angular) factors (section 4.5).

    The weight is declared (radial, angular, embedding), but its memory is read as
    (radial, embedding, angular): a quirk of the published weights that is kept so that
    they fit.
    """

    def __init__(self, num_radial: int, n_angular: int, n_embedding: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(
            he_orthogonal_(torch.empty(num_radial, n_angular, n_embedding))
        )

    def forward(
        self, radial: Float[Tensor, "edges radial"]
    ) -> Float[Tensor, "edges embedding angular"]:
        """Return the factors that meet the angular basis inside an interaction."""
        n_radial, n_angular, n_embedding = self.weight.shape
        product = radial @ self.weight.reshape(n_radial, -1)
        return product.view(-1, n_embedding, n_angular)


class ToCosines(torch.nn.Module):
    """From factors of Legendre functions of a dihedral to factors of cosines.

    Weights are those of Legendre polynomials of the dihedral's cosine; sums over
    dihedrals are made of cosines of its multiples.
    """

    series: Tensor

    def __init__(self, n_angular: int) -> None:
        super().__init__()
        self.register_buffer(
            "series", torch.from_numpy(legendre_to_cosines(n_angular)), persistent=False
        )

    def forward(
        self, factors: Float[Tensor, "edges embedding angular_dihedral"]
    ) -> Float[Tensor, "edges embedding harmonics_angular"]:
        """Return the factors; columns (j, l): cosine, Legendre index of the angle."""
        n = len(self.series)
        table = factors.view(*factors.shape[:2], n, n)
        return (table @ self.series.to(table.dtype)).transpose(2, 3).flatten(2)
