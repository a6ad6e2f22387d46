"""A picture of a run: energy and temperature against time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.output import writing

_BLUE, _ORANGE = "#0072b2", "#d55e00"
"""Told apart with every kind of colour vision (Okabe and Ito)."""


def require_matplotlib() -> None:
    """Check that pictures can be made.

    Raises:
        ArgumentError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ArgumentError(
            "a picture needs matplotlib, which is not installed; "
            "run: pip install 'jmp-calc[plot]'"
        ) from None


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
    # no pyplot: it would hold global state and choose a window system
    from matplotlib.figure import Figure

    with Path(observables).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    series = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    time = series["time_ps"]
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    energy, temperature = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title, fontsize="medium")
    for name, label, color in (
        ("potential_energy_eV", "potential", _BLUE),
        ("total_energy_eV", "total", _ORANGE),
        ("conserved_energy_eV", "total without heat of thermostat", "black"),
    ):
        if name == "conserved_energy_eV" and target_K is None:
            continue
        energy.plot(time, series[name] - series[name][0], lw=1, c=color, label=label)
    energy.set_ylabel("energy change (eV)")
    raw = series["temperature_K"]
    mean = np.cumsum(raw) / np.arange(1, len(raw) + 1)
    temperature.plot(time, raw, lw=0.8, c=_BLUE, alpha=0.6, label="instantaneous")
    temperature.plot(time, mean, lw=1.5, c=_ORANGE, label="mean so far")
    if target_K is not None:
        temperature.axhline(target_K, lw=1, ls="--", color="black", label="target")
    temperature.set_ylabel("temperature (K)")
    temperature.set_xlabel("time (ps)")
    for axes in (energy, temperature):
        axes.margins(x=0.01)
        # above the axes, where no curve can pass behind it
        axes.legend(
            frameon=False,
            ncols=3,
            fontsize="small",
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderaxespad=0.2,
        )
    with writing(Path(picture)):
        figure.savefig(picture, dpi=150)
