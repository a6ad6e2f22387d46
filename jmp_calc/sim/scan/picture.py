"""A picture of a scan: energy by bond length, angle or dihedral."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.scan.calculation import ScanResult
from jmp_calc.units import KCAL_PER_MOL


def _kcal_of_eV(energies: Any) -> Any:  # noqa: N802 (a unit)
    return energies / KCAL_PER_MOL


def _eV_of_kcal(energies: Any) -> Any:  # noqa: N802 (a unit)
    return energies * KCAL_PER_MOL


def plot_scan(result: ScanResult, picture: Path, *, title: str) -> None:
    """Draw the energy above the lowest point.

    Args:
        result: From ``run_scan``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    settings = result.settings
    figure = new_figure(6.4, 4.2)
    from matplotlib.ticker import MultipleLocator

    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    label = "all else relaxed" if settings.relax else "rigid"
    axes.plot(
        result.values, result.relative_eV, "o-", c=color(0), ms=4, lw=1.2, label=label
    )
    is_missing = np.isnan(result.energies_eV)
    is_open = ~np.array(result.is_point_converged) & ~is_missing
    heights = np.where(is_missing, 0.0, result.relative_eV)
    for chosen, sign, text in (
        (is_open, "x", "not converged"),
        (is_missing, "|", "not computed"),
    ):
        if chosen.any():
            axes.plot(
                result.values[chosen],
                heights[chosen],
                sign,
                c=color(1),
                ms=8,
                label=text,
            )
    if min(result.values) <= result.present <= max(result.values):
        axes.axvline(result.present, c=GRAY, ls="--", lw=1, label="input")
    names = "-".join(f"{result.frames[0].symbols[i]}{i}" for i in settings.indices)
    unit = "Å" if settings.kind == "bond" else "degrees"
    axes.set_xlabel(f"{settings.kind} {names} ({unit})")
    axes.set_ylabel("energy above the lowest (eV)")
    legend_above(axes)
    tidy(axes)
    if settings.kind == "dihedral" and np.ptp(result.values) >= 180:
        axes.xaxis.set_major_locator(MultipleLocator(60))
    other = axes.secondary_yaxis(
        "right",
        functions=(_kcal_of_eV, _eV_of_kcal),
    )
    other.set_ylabel("kcal/mol")
    other.tick_params(labelsize="small")
    save_figure(figure, picture)
