"""A picture of a run: energy and temperature against time."""

from __future__ import annotations

import csv
from pathlib import Path

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.report import writing


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
        target_K: Temperature of the thermostat, drawn as a line, K.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    require_matplotlib()
    # no pyplot: it would hold global state and choose a window system
    from matplotlib.figure import Figure

    with Path(observables).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    series = {name: [float(row[name]) for row in rows] for name in rows[0]}
    time = series["time_ps"]
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    energy, temperature = figure.subplots(2, 1, sharex=True)
    energy.set_title(title)
    for name, label in (
        ("potential_energy_eV", "potential"),
        ("total_energy_eV", "total"),
        ("conserved_energy_eV", "without heat of thermostat"),
    ):
        start = series[name][0]
        energy.plot(time, [value - start for value in series[name]], lw=1, label=label)
    energy.set_ylabel("energy - start (eV)")
    energy.legend(frameon=False)
    temperature.plot(time, series["temperature_K"], lw=1, color="tab:red")
    if target_K is not None:
        temperature.axhline(target_K, lw=1, ls="--", color="black", label="target")
        temperature.legend(frameon=False)
    temperature.set_ylabel("temperature (K)")
    temperature.set_xlabel("time (ps)")
    with writing(Path(picture)):
        figure.savefig(picture, dpi=150)
