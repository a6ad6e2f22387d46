"""How far the models of a committee are apart, as it is written to files."""

from __future__ import annotations

import numpy as np

from jmp_calc.sim.evaluation import Results

SPREADS = ("energy_std", "forces_std")
"""Results of committees: standard deviations over the models of the energy (eV) and of
each component of the forces (eV/angstrom)."""


def spread_of(results: Results) -> dict[str, float]:
    """Return the spread of a structure by column of a table; empty without committee.

    Args:
        results: Of the structure.
    """
    found = {}
    if "energy_std" in results:
        found["energy_std_eV"] = float(results["energy_std"])
    if "forces_std" in results:
        lengths = np.linalg.norm(results["forces_std"], axis=1)
        found["max_force_std_eV_per_A"] = float(lengths.max())
    return found
