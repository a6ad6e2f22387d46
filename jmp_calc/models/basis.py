"""Radial, circular and dihedral bases."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.models.layers import he_orthogonal_

ENVELOPE_EXPONENT = 5


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
        gauss = torch.exp(-self.temps.abs() * (scaled[:, None] - self.offset) ** 2)
        return envelope(scaled)[:, None] * gauss


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


def legendre(
    cosine: Float[Tensor, "*shape"], n: int, *, dim: int = -1
) -> Float[Tensor, "..."]:
    """Return ``sqrt((2l+1)/4pi) P_l(cosine)`` for l = 0 .. n-1 on a new axis.

    Args:
        cosine: Of angles.
        n: Number of functions.
        dim: Where the new axis is.
    """
    p = [torch.ones_like(cosine), cosine]
    for m in range(1, n - 1):
        p.append(((2 * m + 1) * cosine * p[m] - m * p[m - 1]) / (m + 1))
    return torch.stack(
        [math.sqrt((2 * m + 1) / (4 * math.pi)) * p[m] for m in range(n)], dim=dim
    )


def legendre_to_cosines(n: int) -> Float[np.ndarray, "n n"]:
    """Return a[m, j] with ``sqrt((2m+1)/4pi) P_m(cos t) = sum_j a[m, j] cos(j t)``."""
    a = np.zeros((n, n))
    for m in range(n):
        series = np.polynomial.chebyshev.poly2cheb(
            np.polynomial.legendre.leg2poly(np.eye(n)[m])
        )
        a[m, : len(series)] = math.sqrt((2 * m + 1) / (4 * math.pi)) * series
    return a
