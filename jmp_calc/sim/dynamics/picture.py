"""A picture of a run: energy and temperature against time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jmp_calc.pictures import (
    color,
    legend_above,
    new_figure,
    require_matplotlib,
    save_figure,
)
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.settings import MDSettings


def plot_md(
    observables: str | Path,
    picture: str | Path,
    *,
    title: str,
    settings: MDSettings,
) -> None:
    """Draw energies and temperature of a run; pressure and volume if the cell moves.

    Args:
        observables: CSV written by ``run_md``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.
        settings: Those of the run, for the targets.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    require_matplotlib()
    with Path(observables).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    series = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    time = series["time_ps"]
    ensemble = find_ensemble(settings)
    has_cell = "volume_A3" in series
    figure = new_figure(6.4, 9.0 if has_cell else 5.2)
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(4 if has_cell else 2, 1, sharex=True)
    energy, temperature = panels[:2]
    kept = "thermostat and barostat included"
    if not has_cell:
        kept = "total without heat of thermostat"
    for name, label, tint in (
        ("potential_energy_eV", "potential", color(0)),
        ("total_energy_eV", "total", color(1)),
        ("conserved_energy_eV", kept, "black"),
    ):
        if name == "conserved_energy_eV" and settings.ensemble == "nve":
            continue
        energy.plot(time, series[name] - series[name][0], lw=1, c=tint, label=label)
    energy.set_ylabel("energy change (eV)")
    steps = series["step"]
    targets_K = [settings.temperature_at(int(step)) for step in steps]
    _draw_series(
        temperature,
        time,
        series["temperature_K"],
        targets_K if ensemble.has_thermostat else None,
    )
    temperature.set_ylabel("temperature (K)")
    if has_cell:
        targets_GPa = [settings.pressure_at(int(step)) for step in steps]
        _draw_series(panels[2], time, series["pressure_GPa"], targets_GPa)
        panels[2].set_ylabel("pressure (GPa)")
        _draw_series(panels[3], time, series["volume_A3"], None)
        panels[3].set_ylabel("volume (A$^3$)")
    panels[-1].set_xlabel("time (ps)")
    for axes in panels:
        axes.margins(x=0.01)
        legend_above(axes)
    save_figure(figure, Path(picture))


def _draw_series(
    axes: Any, time: np.ndarray, values: np.ndarray, targets: Sequence[float] | None
) -> None:
    mean = np.cumsum(values) / np.arange(1, len(values) + 1)
    axes.plot(time, values, lw=0.8, c=color(0), alpha=0.6, label="instantaneous")
    axes.plot(time, mean, lw=1.5, c=color(1), label="mean so far")
    if targets is not None:
        axes.plot(time, targets, lw=1, ls="--", color="black", label="target")
