"""A picture of an equation of state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from jmp_calc.pictures import GRAY, color, legend_above, new_figure, save_figure, tidy
from jmp_calc.sim.eos.calculation import EosResult


def plot_eos(result: EosResult, picture: Path, *, title: str) -> None:
    """Draw the energies and the curve, per atom and from the lowest computed one.

    Args:
        result: From ``run_eos``.
        picture: File to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    figure = new_figure(6.4, 4.4)
    figure.suptitle(title, fontsize="medium")
    axes = figure.subplots()
    n_atoms, fit = result.n_atoms, result.fit
    volumes = result.volumes_A3 / n_atoms
    lowest_eV = float(result.energies_eV.min())

    def from_lowest(energies_eV: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Energy per atom, meV."""
        return 1000 * (energies_eV - lowest_eV) / n_atoms

    if fit is not None:
        # the curve reaches its minimum also where that is outside of the volumes
        ends = [*result.volumes_A3, fit.volume_A3]
        fine = np.linspace(min(ends), max(ends), 200)
        text = f"{fit.equation}: $B_0$ = {fit.bulk_modulus_GPa:.1f} GPa"
        if not result.is_converged:
            text += f" ({result.status.replace('_', ' ')})"
        curve = from_lowest(fit.energies(fine))
        axes.plot(fine / n_atoms, curve, c=color(1), lw=1.2, label=text)
        lowest = fit.volume_A3 / n_atoms
        axes.axvline(
            lowest, c=GRAY, ls="--", lw=1, label=f"$V_0$ = {lowest:.3f} Å³/atom"
        )
    energies = from_lowest(result.energies_eV)
    axes.plot(volumes, energies, "o", c=color(0), ms=4, label="computed")
    axes.set_xlabel("volume (Å³/atom)")
    axes.set_ylabel("energy from the lowest (meV/atom)")
    legend_above(axes)
    tidy(axes)
    save_figure(figure, picture)
