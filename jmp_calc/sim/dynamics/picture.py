"""A picture of a run: energy and temperature against time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from jmp_calc.pictures import (
    color,
    legend_above,
    new_figure,
    require_matplotlib,
    save_figure,
)


def plot_md(
    observables: str | Path,
    picture: str | Path,
    *,
    title: str,
    target_K: float | None = None,
) -> None:
    """Draw energies and temperature of a run.

    Args:
        observables: CSV written by ``run_md``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.
        target_K: Temperature of the thermostat, drawn as a line, K; None: there was no
            thermostat.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    require_matplotlib()
    with Path(observables).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    series = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    time = series["time_ps"]
    figure = new_figure(6.4, 5.2)
    figure.suptitle(title, fontsize="medium")
    energy, temperature = figure.subplots(2, 1, sharex=True)
    for name, label, tint in (
        ("potential_energy_eV", "potential", color(0)),
        ("total_energy_eV", "total", color(1)),
        ("conserved_energy_eV", "total without heat of thermostat", "black"),
    ):
        if name == "conserved_energy_eV" and target_K is None:
            continue
        energy.plot(time, series[name] - series[name][0], lw=1, c=tint, label=label)
    energy.set_ylabel("energy change (eV)")
    raw = series["temperature_K"]
    mean = np.cumsum(raw) / np.arange(1, len(raw) + 1)
    temperature.plot(time, raw, lw=0.8, c=color(0), alpha=0.6, label="instantaneous")
    temperature.plot(time, mean, lw=1.5, c=color(1), label="mean so far")
    if target_K is not None:
        temperature.axhline(target_K, lw=1, ls="--", color="black", label="target")
    temperature.set_ylabel("temperature (K)")
    temperature.set_xlabel("time (ps)")
    for axes in (energy, temperature):
        axes.margins(x=0.01)
        legend_above(axes)
    save_figure(figure, Path(picture))
