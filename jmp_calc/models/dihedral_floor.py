"""The floor that the published rules put under the sine of a dihedral.

The published code takes the dihedral of c, a, b, d as atan2(y, x) with x = p . q and
y = max(|p x q|, 1e-9), where p and q are the components across b -> a of the unit
vectors c -> a and d -> b. The factorised sums have no such floor; the few quadruplets
that it changes are corrected one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_COLLINEAR = {torch.float64: 1e-9, torch.float32: 1e-6}
"""Sine of an angle below which its atoms count as collinear (published rules)."""
_SINE_FLOOR = 1e-9
"""The published code never lets the sine part of a dihedral fall below this."""
_FLOOR_MATTERS = 1e-2
"""Product of the two sines above which that floor is below rounding (1e-14)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlooredTerms:
    """The few quadruplets whose dihedral the published floor on the sine changes.

    With p and q of the two angles, the published cosine is x / sqrt(x^2 + 1e-18),
    x = p . q, wherever |p x q| is below 1e-9: for planar and for collinear atoms. Where
    x is small, forces see it; at exactly collinear atoms x is 0 and its derivative is
    amplified by 1e9.
    """

    incoming: Int[Tensor, "2 floored"]
    """(quadruplet edge, slot of d at b)."""
    to: Int[Tensor, " floored"]
    """Flat (atom a, slot of c)."""
    weight: Float[Tensor, "floored harmonics_angular"]
    """Published value minus the exact one."""


def floored_terms(
    inner: tuple[tuple[Tensor, Tensor], Bool[Tensor, "quad_edges width"]],
    outer: tuple[tuple[Tensor, Tensor], Bool[Tensor, "quad_edges width"]],
    *,
    y_out: Callable[[], Float[Tensor, "quad_edges width angular"]],
    is_open: Bool[Tensor, " quad_edges"],
    excluded: Int[Tensor, " closed"],
    row: Int[Tensor, " quad_edges"],
) -> FlooredTerms | None:
    """Find the quadruplets that the floor changes, without listing all of them.

    Exactly collinear atoms count in float64 and in systems without periodic images. In
    float32 the published dihedral is random there, and in crystals, where an atom and
    its images are always on a line, the amplified terms cancel to irreproducible
    rounding: their derivative is zero here, which is also what it is for images of one
    atom.

    Args:
        inner: Components across b -> a of the unit vectors d -> b, and which slots
            hold a d.
        outer: The same for c -> a.
        y_out: Makes the circular harmonics of the angle c, a, b.
        is_open: Which quadruplet edges belong to a system without periodic images.
        excluded: Flat (quadruplet edge, slot of c, slot of d) of terms with d == c.
        row: First flat slot of atom a of each quadruplet edge.

    Source:
        GemNet-OC specification, section 4.4 and quirk Q5.
    """
    (x_d, y_d), is_incoming = inner
    (x_c, y_c), is_outgoing = outer
    size_d = torch.hypot(x_d.detach(), y_d.detach())
    size_c = torch.hypot(x_c.detach(), y_c.detach())
    keeps_flat = (is_open & (size_d.dtype == torch.float64))[:, None]
    is_incoming = is_incoming & (keeps_flat | (size_d > _COLLINEAR[size_d.dtype]))
    is_outgoing = is_outgoing & (keeps_flat | (size_c > _COLLINEAR[size_c.dtype]))
    bound = _FLOOR_MATTERS**0.5  # one of the two sines must be below it
    near_c = (is_outgoing & (size_c < bound)).nonzero()
    near_d = (is_incoming & (size_d < bound)).nonzero()
    if not len(near_c) and not len(near_d):
        return None
    width = size_d.shape[1]
    slots = torch.arange(width, device=size_d.device)
    quad = torch.cat([near_c[:, 0], near_d[:, 0]]).repeat_interleave(width)
    c = torch.cat([near_c[:, 1].repeat_interleave(width), slots.repeat(len(near_d))])
    d = torch.cat([slots.repeat(len(near_c)), near_d[:, 1].repeat_interleave(width)])
    keep = is_incoming[quad, d] & is_outgoing[quad, c]
    keep &= size_c[quad, c] * size_d[quad, d] < _FLOOR_MATTERS
    sine = x_c[quad, c] * y_d[quad, d] - y_c[quad, c] * x_d[quad, d]
    keep &= sine.detach().abs() < _SINE_FLOOR
    key = torch.unique(((quad * width + c) * width + d)[keep])
    key = key[~torch.isin(key, excluded)]
    if not len(key):
        return None
    quad, c, d = key // (width * width), key // width % width, key % width
    z_c, z_d = (x_c[quad, c], y_c[quad, c]), (x_d[quad, d], y_d[quad, d])
    (unit_c, flat_c), (unit_d, flat_d) = normalised(z_c), normalised(z_d)
    x = z_c[0] * z_d[0] + z_c[1] * z_d[1]
    # Of collinear atoms only the derivative means something, the value is rounding.
    x = torch.where(flat_c | flat_d, x - x.detach(), x)
    published = x / torch.sqrt(x * x + _SINE_FLOOR**2)
    exact = unit_c[0] * unit_d[0] + unit_c[1] * unit_d[1]  # 0 for collinear atoms
    y = y_out()
    n = y.shape[-1]
    difference = _chebyshev(published, n) - _chebyshev(exact, n)
    return FlooredTerms(
        incoming=torch.stack([quad, d]),
        to=row[quad] + c,
        weight=(difference[:, :, None] * y[quad, c][:, None]).flatten(1),
    )


def normalised(
    z: tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]],
) -> tuple[tuple[Tensor, Tensor], Bool[Tensor, "*shape"]]:
    """Divide a two-component vector by its length.

    Args:
        z: Both components; their length is the sine of an angle.

    Returns:
        The unit vector, and where the atoms are collinear: it is zero there.
    """
    x, y = z
    square = x * x + y * y
    is_flat = square.detach() < _COLLINEAR[square.dtype] ** 2
    inverse = torch.rsqrt(torch.where(is_flat, torch.ones_like(square), square))
    inverse = torch.where(is_flat, torch.zeros_like(inverse), inverse)
    return (x * inverse, y * inverse), is_flat


def _chebyshev(cosine: Tensor, n: int) -> Tensor:
    """Return cos(j theta), j = 0 .. n-1, on a new last axis."""
    t = [torch.ones_like(cosine), cosine]
    while len(t) < n:
        t.append(2 * cosine * t[-1] - t[-2])
    return torch.stack(t[:n], dim=-1)
