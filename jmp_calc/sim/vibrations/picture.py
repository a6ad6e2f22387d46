"""A picture of vibrations: a line for each, and the broadened density."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.vibrations.calculation import IMAGINARY_PER_CM, VibrationsResult


def plot_vibrations(
    result: VibrationsResult, picture: Path, *, broadening_per_cm: float, title: str
) -> None:
    """Draw the vibrations; heights count modes, they are no infrared intensities.

    Args:
        result: From ``run_vibrations``.
        picture: File to write; its ending decides the format.
        broadening_per_cm: Half width of a line, 1/cm.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    waves = result.modes.vibrations_per_cm
    figure = new_figure(7.2, 3.8)
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    if len(waves):
        margin = 100 + 10 * broadening_per_cm
        low, high = min(0.0, waves.min() - margin), max(waves.max(), 0.0) + margin
        grid = np.linspace(
            low, high, max(2000, int((high - low) / broadening_per_cm * 8))
        )
        width = broadening_per_cm
        # each line has a height of 1, so that the curve counts modes at one place
        curve = (width**2 / ((grid[:, None] - waves) ** 2 + width**2)).sum(axis=1)
        label = f"broadened by {width:g} cm$^{{-1}}$"
        axes.plot(grid, curve, c=color(0), lw=1.2, label=label)
        is_real = waves >= -IMAGINARY_PER_CM
        axes.vlines(waves[is_real], 0, 1, colors=GRAY, lw=1, label="vibration")
        if not is_real.all():
            axes.vlines(
                waves[~is_real], 0, 1, colors=color(1), lw=1.5, label="imaginary"
            )
        axes.set_xlim(low, high)
        legend_above(axes)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("wavenumber (cm$^{-1}$; imaginary ones below 0)")
    axes.set_ylabel("modes")
    tidy(axes)
    save_figure(figure, picture)
