"""A picture of a path: energies, slopes, and the curve through them."""

from __future__ import annotations

from pathlib import Path

from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.neb.calculation import NebResult


def plot_neb(result: NebResult, picture: Path, *, title: str) -> None:
    """Draw the energy along the path.

    Args:
        result: From ``run_neb``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    fit = result.fit
    figure = new_figure(6.4, 4.4)
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    axes.plot(
        fit.fit_path,
        fit.fit_energies,
        c=color(1),
        lw=1.2,
        label="curve through energies and forces",
    )
    for number, (place, height) in enumerate(fit.lines):
        label = "forces along the path" if number == 0 else None
        axes.plot(place, height, c=GRAY, lw=1.2, label=label)
    axes.plot(fit.path, fit.energies, "o", c=color(0), ms=5, label="images")
    top = fit.path[result.saddle], result.barrier
    axes.annotate(
        f"{result.barrier:.3f} eV\nback {result.back_barrier:.3f} eV",
        top,
        xytext=(0, 12),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )
    axes.margins(y=0.2)
    axes.set_xlabel("length of the path (Å)")
    axes.set_ylabel("energy above the first end point (eV)")
    legend_above(axes)
    tidy(axes)
    save_figure(figure, picture)
