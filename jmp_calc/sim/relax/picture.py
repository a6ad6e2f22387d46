"""A picture of a relaxation: energy, force and cell, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jmp_calc.pictures import (
    GRAY,
    color,
    legend_above,
    new_figure,
    save_figure,
    tidy,
)
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.walker import RelaxStep

_SMALLEST = 1e-8
"""What a force or stress of zero is drawn as on a logarithmic axis."""


def plot_relax(
    steps: Sequence[RelaxStep], settings: RelaxSettings, picture: Path, *, title: str
) -> None:
    """Draw how energy, largest force and, if the cell is relaxed, stress change.

    Args:
        steps: All geometries of one structure, at least one.
        settings: The limits are drawn as lines.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    number = np.array([step.step for step in steps])
    n_panels = 3 if settings.has_cell else 2
    figure = new_figure(6.4, 2.0 + 1.7 * n_panels)
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(n_panels, 1, sharex=True)
    energy, force = panels[:2]
    style = {"lw": 1.2, "marker": "o" if len(steps) <= 60 else None, "ms": 3}
    values = np.array([step.energy_eV for step in steps])
    energy.plot(number, values - values[0], c=color(0), label="energy", **style)
    if settings.pressure_GPa:
        enthalpy = np.array([step.enthalpy_eV for step in steps], dtype=float)
        energy.plot(
            number,
            enthalpy - enthalpy[0],
            c=color(1),
            label=f"enthalpy at {settings.pressure_GPa:g} GPa",
            **style,
        )
        legend_above(energy)
    energy.set_ylabel("energy change (eV)")
    forces = np.array([step.max_force_eV_per_A for step in steps])
    force.semilogy(number, np.maximum(forces, _SMALLEST), c=color(0), **style)
    if settings.has_positions:
        force.axhline(settings.fmax_eV_per_A, c=GRAY, ls="--", lw=1, label="limit")
        legend_above(force)
    force.set_ylabel("largest force (eV/Å)")
    if settings.has_cell:
        stress = np.array([step.max_stress_GPa for step in steps], dtype=float)
        panels[2].semilogy(number, np.maximum(stress, _SMALLEST), c=color(0), **style)
        limit = settings.stress_tolerance_GPa
        panels[2].axhline(limit, c=GRAY, ls="--", lw=1, label="limit")
        panels[2].set_ylabel("largest stress (GPa)")
        legend_above(panels[2])
    panels[-1].set_xlabel("step")
    if len(steps) == 1:
        panels[-1].set_xlim(-0.5, 0.5)
        panels[-1].set_xticks([0])
    else:
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
    for axes in panels:
        tidy(axes)
    figure.align_ylabels(panels)
    save_figure(figure, picture)
