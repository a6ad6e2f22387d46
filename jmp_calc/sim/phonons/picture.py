"""Pictures of phonons: bands beside the density of states, and thermal properties."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jmp_calc.pictures import (
    GRAY,
    color,
    dashes,
    legend_above,
    new_figure,
    save_figure,
    tidy,
)
from jmp_calc.sim.phonons.analysis import Analysis, Bands, States, Thermal
from jmp_calc.units import GAS_CONSTANT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_bands(
    analysis: Analysis, picture: Path, *, title: str, tolerance_THz: float
) -> None:
    """Draw bands beside the density of states, on one frequency axis.

    Args:
        analysis: Both.
        picture: File to write; its ending decides the format.
        title: Text above the picture.
        tolerance_THz: Modes below minus this are drawn as imaginary, THz.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    figure = new_figure(7.6, 4.6)
    figure.suptitle(title, fontsize="medium")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.2, 1))
    for axes in (left, right):
        tidy(axes)
        axes.axhline(0.0, lw=0.8, c=GRAY)
    _draw_bands(left, analysis.bands, tolerance_THz)
    _draw_states(right, analysis.states)
    # what is drawn, and the zero, with a little room
    frequencies = np.append(analysis.states.frequency_THz[[0, -1]], 0.0)
    left.set_ylim(frequencies.min(), 1.02 * frequencies.max())
    left.set_ylabel("frequency (THz)")
    right.set_xlabel("states per THz")
    save_figure(figure, picture)


def _draw_bands(axes: Axes, bands: Bands, tolerance_THz: float) -> None:
    for distances, frequencies in zip(
        bands.distances, bands.frequencies_THz, strict=True
    ):
        axes.plot(distances, frequencies, lw=1.0, c=color(0))
        below = np.where(frequencies < -tolerance_THz, frequencies, np.nan)
        axes.plot(distances, below, lw=1.6, c=color(1))
    names: dict[float, str] = {}
    labels = iter(bands.path.labels)
    goes_on = False
    for distances, is_connected in zip(
        bands.distances, bands.path.connections, strict=True
    ):
        for place in distances[[-1]] if goes_on else distances[[0, -1]]:
            # where the path jumps, two points share a place
            at, label = round(float(place), 6), next(labels)
            names[at] = f"{names[at]}|{label}" if at in names else label
        goes_on = is_connected
    for place in names:
        axes.axvline(place, lw=0.6, c=GRAY)
    axes.grid(visible=False, axis="x")
    axes.set_xticks(list(names), list(names.values()))
    axes.set_xlim(min(names), max(names))


def _draw_states(axes: Axes, states: States) -> None:
    axes.fill_betweenx(states.frequency_THz, states.total, color="#e4e4e4")
    axes.plot(states.total, states.frequency_THz, lw=1.0, c="black", label="all")
    if len(states.by_element) > 1:
        for number, (symbol, own) in enumerate(states.by_element.items()):
            axes.plot(
                own,
                states.frequency_THz,
                lw=1.0,
                c=color(number),
                ls=dashes(number // 8),
                label=symbol,
            )
        legend_above(axes, columns=min(3, 1 + len(states.by_element)))
    axes.set_xlim(0.0, 1.05 * max(float(states.total.max()), 1e-6))


def plot_thermal(thermal: Thermal, picture: Path, *, title: str, n_atoms: int) -> None:
    """Draw heat capacity, entropy and free energy against temperature.

    Args:
        thermal: Properties of a mole of primitive cells.
        picture: File to write; its ending decides the format.
        title: Text above the picture.
        n_atoms: Atoms of the primitive cell, for the limit of Dulong and Petit.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    figure = new_figure(6.4, 5.2)
    figure.suptitle(title, fontsize="medium")
    upper, lower = figure.subplots(2, 1, sharex=True)
    temperature = thermal.temperature_K
    for axes in (upper, lower):
        tidy(axes)
        axes.margins(x=0.01)
    for number, (values, label) in enumerate(
        (
            (thermal.heat_capacity_J_per_K_per_mol, "heat capacity"),
            (thermal.entropy_J_per_K_per_mol, "entropy"),
        )
    ):
        upper.plot(temperature, values, lw=1.4, c=color(number), label=label)
    upper.axhline(
        3 * n_atoms * GAS_CONSTANT, lw=1, ls="--", c=GRAY, label="Dulong and Petit"
    )
    upper.set_ylabel("J/K per mole of cells")
    legend_above(upper)
    lower.axhline(0.0, lw=0.8, c=GRAY)
    lower.plot(temperature, thermal.free_energy_kJ_per_mol, lw=1.4, c=color(2))
    lower.set_ylabel("free energy\n(kJ per mole of cells)")
    lower.set_xlabel("temperature (K)")
    save_figure(figure, picture)
