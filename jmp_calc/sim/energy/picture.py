"""A picture of single points: against their labels, or one after another."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jmp_calc.pictures import GRAY, color, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BINS = 24


def plot_energies(table: Path, picture: Path, *, title: str) -> None:
    """Draw energies against labels and the errors of the forces.

    Without labels energies and largest forces are drawn by number of the structure.

    Args:
        table: CSV written by ``run_energy``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    columns = _read(table)
    figure = new_figure(8.4, 4.0)
    figure.suptitle(title, fontsize="medium")
    left, right = figure.subplots(1, 2)
    energy = columns["energy_eV_per_atom"]
    label = columns["ref_energy_eV"] / columns["n_atoms"]
    if np.isfinite(energy - label).any():
        _draw_parity(left, label, energy)
    else:
        left.plot(energy, ".", ms=3, c=color(0))
        left.set_xlabel("structure")
        left.set_ylabel("energy (eV/atom)")
    errors = columns["forces_rmse_eV_per_A"]
    forces = columns["max_force_eV_per_A"]
    if np.isfinite(errors).any():
        _draw_counts(right, errors, "RMS error of the forces (eV/Å)")
    elif np.isfinite(forces).any():
        right.plot(forces, ".", ms=3, c=color(0))
        right.set_xlabel("structure")
        right.set_ylabel("largest force (eV/Å)")
    else:
        _draw_counts(right, energy, "energy (eV/atom)")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=6)
        tidy(axes)
    save_figure(figure, picture)


def _draw_counts(axes: Axes, values: Float[np.ndarray, " systems"], label: str) -> None:
    known = values[np.isfinite(values)]
    bins = min(_MOST_BINS, 4 + known.size // 5)
    axes.hist(known, bins=bins, color=color(0))
    axes.set_xlabel(label)
    axes.set_ylabel("structures")
    axes.locator_params(axis="y", integer=True)


def _draw_parity(
    axes: Axes,
    label: Float[np.ndarray, " systems"],
    energy: Float[np.ndarray, " systems"],
) -> None:
    is_known = np.isfinite(energy - label)
    x, y = label[is_known], energy[is_known]
    # energies of other zeros are compared by their differences
    shift = float((y - x).mean())
    axes.axline((x[0], x[0]), slope=1, c=GRAY, lw=1)
    axes.plot(x, y - shift, ".", ms=4, c=color(0))
    axes.set_xlabel("reference energy (eV/atom)")
    axes.set_ylabel(f"energy, shifted by {-shift:+.4g} (eV/atom)")
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(axis="x", labelrotation=30)


def _read(table: Path) -> dict[str, Float[np.ndarray, " systems"]]:
    names = (
        "n_atoms",
        "energy_eV_per_atom",
        "ref_energy_eV",
        "forces_rmse_eV_per_A",
        "max_force_eV_per_A",
    )
    found: dict[str, list[float]] = {name: [] for name in names}
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            for name in names:
                found[name].append(float(row[name] or "nan"))
    return {name: np.array(values) for name, values in found.items()}
