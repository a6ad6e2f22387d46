"""Which elements a set holds, as a coloured periodic table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ase.data import chemical_symbols

from jmp_calc.pictures import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOBLE = (2, 10, 18, 36, 54, 86, 118)
"""Last element of each period."""

_LOWEST = 0.01
_SERIES_GAP = 0.4


def table_place(z: int) -> tuple[float, float]:
    """Return column (0 to 17) and row (from the top) of an element.

    Lanthanides and actinides have rows of their own below the others.

    Args:
        z: Atomic number, 1 to 118.
    """
    period = next(row for row, last in enumerate(NOBLE) if z <= last)
    first = NOBLE[period - 1] + 1 if period else 1
    from_start, from_end = z - first, NOBLE[period] - z
    if period >= 5 and 2 <= from_start <= 16:
        return float(from_start), period + 2 + _SERIES_GAP
    if from_start < 2 and z != NOBLE[0]:
        return float(from_start), float(period)
    return 17.0 - from_end, float(period)


def draw_elements(axes: Axes, shares: Mapping[int, float]) -> None:
    """Draw a periodic table coloured by how many systems hold each element.

    Args:
        axes: Where to.
        shares: Percent of the systems by atomic number.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    # from below the smallest share, so that every element that occurs has a colour
    lowest = max(min(shares.values()), _LOWEST) / 3
    scale = LogNorm(lowest, 100.0, clip=True)
    colors = colormaps["GnBu"]
    for z in range(1, NOBLE[-1] + 1):
        x, y = table_place(z)
        share = shares.get(z)
        face = "white" if share is None else colors(scale(share))
        axes.add_patch(Rectangle((x, y), 0.94, 0.94, fc=face, ec="#d0d0d0", lw=0.5))
        is_dark = share is not None and scale(share) > 0.6
        axes.text(
            x + 0.47,
            y + 0.5,
            chemical_symbols[z],
            ha="center",
            va="center",
            fontsize=7,
            color="white" if is_dark else "#c8c8c8" if share is None else "black",
        )
    axes.set_xlim(-0.1, 18.1)
    axes.set_ylim(9.5, -0.1)
    axes.set_aspect("equal")
    axes.set_axis_off()
    bar = axes.figure.colorbar(
        ScalarMappable(scale, colors),
        ax=axes,
        aspect=30,
        pad=0.02,
        shrink=0.8,
        panchor=(0.5, 0.5),
    )
    bar.set_label("systems with the element (%)", fontsize="small", color=GRAY)
    bar.ax.tick_params(labelsize="small")
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.outline.set_visible(False)
