"""A picture of elastic constants: the matrix, and Young's modulus by direction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jmp_calc.pictures import color, new_figure, save_figure
from jmp_calc.sim.elastic.constants import ElasticResult
from jmp_calc.sim.elastic.moduli import VOIGT_AXES, young_along

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
"""Name -> axes that span the plane."""


def plot_elastic(result: ElasticResult, picture: Path, *, title: str) -> None:
    """Draw the matrix and, for a stable crystal, Young's modulus in three planes.

    Args:
        result: From ``run_elastic``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    is_stable = result.moduli.is_stable
    figure = new_figure(9.6 if is_stable else 5.2, 4.6)
    figure.suptitle(title, fontsize="medium")
    n_panels = 2 if is_stable else 1
    _draw_matrix(figure.add_subplot(1, n_panels, 1), result)
    if is_stable:
        _draw_young(figure.add_subplot(1, n_panels, 2, projection="polar"), result)
    save_figure(figure, picture)


def _draw_matrix(axes: Axes, result: ElasticResult) -> None:
    values = result.constants_GPa
    limit = float(np.abs(values).max())
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for row in range(6):
        for column in range(6):
            value = values[row, column]
            shade = "white" if abs(value) > 0.6 * limit else "black"
            # zeros that the symmetry asks for come out as -0.0
            text = f"{value:.1f}" if abs(value) >= 0.05 else "0"
            axes.text(
                column, row, text, ha="center", va="center", c=shade, fontsize="small"
            )
    axes.set_xticks(range(6), VOIGT_AXES)
    axes.set_yticks(range(6), VOIGT_AXES)
    axes.tick_params(length=0, labelsize="small")
    axes.spines[:].set_visible(False)
    axes.set_title("elastic constants (GPa)", fontsize="medium")


def _draw_young(axes: Axes, result: ElasticResult) -> None:
    angle = np.linspace(0, 2 * np.pi, 361)
    for place, (name, (first, second)) in enumerate(_PLANES.items()):
        directions = np.zeros((len(angle), 3))
        directions[:, first] = np.cos(angle)
        directions[:, second] = np.sin(angle)
        modulus = young_along(result.constants_GPa, directions)
        style = ("-", "--", ":")[place]
        axes.plot(
            angle, modulus, c=color(place), ls=style, lw=1.5, label=f"{name} plane"
        )
    axes.set_ylim(bottom=0)
    # more circles have labels that overlap
    axes.set_yticks(axes.get_yticks()[1::2])
    axes.grid(color="#e4e4e4", lw=0.6)
    axes.tick_params(labelsize="small")
    axes.set_title("Young's modulus by direction (GPa)", fontsize="medium")
    axes.legend(
        frameon=False,
        fontsize="small",
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.06),
    )
