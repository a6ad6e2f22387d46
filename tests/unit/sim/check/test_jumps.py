"""Jumps of known size and place, and curves that have none."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.sim.check.jumps import find_jumps

GRID = np.arange(0.0, 6.0, 0.02)
COLUMNS = [slice(0, 1), slice(1, None)]


def bond(x: np.ndarray) -> np.ndarray:
    """Energy and force of a stiff Morse bond that starts stretched."""
    fade = np.exp(-2.0 * (x - 0.1))
    return np.stack([5.0 * (1 - fade) ** 2, -20.0 * fade * (1 - fade)], axis=1)


def test_a_steep_smooth_curve_has_no_jump() -> None:
    energy, force = find_jumps(bond, GRID, COLUMNS, n_candidates=8)
    # what slopes of 10 and 80 make of 0.04 angstrom halved 20 times
    assert energy.size < 1e-6
    assert force.size < 5e-6


def test_a_kink_is_no_jump() -> None:
    def kinked(x: np.ndarray) -> np.ndarray:
        return bond(x) + np.abs(x - 2.345)[:, None]

    energy, force = find_jumps(kinked, GRID, COLUMNS, n_candidates=8)
    assert max(energy.size, force.size) < 5e-6


@pytest.mark.parametrize("place", [0.3333, 2.345, 5.4321])
@pytest.mark.parametrize("column", [0, 1])
def test_a_small_jump_is_found_and_measured(place: float, column: int) -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        rows = bond(x)
        rows[:, column] += 2e-3 * (x > place)
        return rows

    jump = find_jumps(broken, GRID, COLUMNS, n_candidates=8)[column]
    assert jump.size == pytest.approx(2e-3, rel=0.01)
    assert jump.place == pytest.approx(place, abs=1e-6)


def test_the_largest_of_several_jumps_is_told() -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        rows = bond(x)
        rows[:, 1] += 1e-3 * (x > 3.0) + 3e-3 * (x > 4.0) + 2e-3 * (x > 4.03)
        return rows

    jump = find_jumps(broken, GRID, COLUMNS, n_candidates=8)[1]
    assert jump.size == pytest.approx(3e-3, rel=0.01)
