"""How many structures the tests compute, for whoever waits."""

from __future__ import annotations

from collections.abc import Sequence

from jmp_calc.sim.check.jumps import DEPTH, FINE_POINTS
from jmp_calc.sim.check.probe import NOISE_POINTS, NOISE_SCALES, Probe
from jmp_calc.sim.check.smoothness import cutoff_grid, ranks_grid

WITHOUT_NOISE = ("elements", "nve")
"""Tests that do not ask how noisy the energy is."""


def expected_evaluations(probe: Probe, names: Sequence[str]) -> int:
    """Return about how many structures tests will compute.

    Args:
        probe: The system.
        names: Tests that are still to be done.
    """
    settings = probe.settings
    n_displaced = 2 * min(3 * len(probe.given), settings.n_coordinates)
    is_crystal = bool(probe.given.pbc.all())
    candidates = settings.n_candidates * (FINE_POINTS + DEPTH)
    costs = {
        "elements": 1,
        "forces": 1 + n_displaced,
        "stress": 14 if is_crystal else 0,
        "curl": 0 if "forces" in settings.names else n_displaced,
        "net-force": 1,
        "torque": 0 if probe.given.pbc.any() else 1,
        "translation": 4,
        "rotation": 6 if is_crystal else 4,
        "permutation": 4,
        # one of them has twice the atoms
        "supercell": 3 if probe.given.pbc.any() else 0,
        "cutoff": len(cutoff_grid(probe)) + candidates,
        "ranks": len(ranks_grid(probe)) + candidates,
        "collinear": 3,
        "nve": 1 + settings.n_nve_steps,
    }
    total = sum(costs.get(name, 0) for name in names)
    needs_noise = any(name not in WITHOUT_NOISE for name in names)
    if needs_noise and not probe.knows_noise:
        total += NOISE_POINTS * len(NOISE_SCALES)
    return total
