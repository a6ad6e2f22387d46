"""Every wrong setting of a relaxation is told."""

from __future__ import annotations

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.relax.optimizers import OPTIMIZER_CLASSES
from jmp_calc.sim.relax.settings import (
    CELL_CHANGES,
    MOVES,
    OPTIMIZERS,
    RelaxSettings,
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fmax_eV_per_A": 0.0}, "fmax_eV_per_A is 0.0; give a number above 0"),
        ({"fmax_eV_per_A": float("nan")}, "fmax_eV_per_A is nan"),
        ({"stress_tolerance_GPa": -1.0}, "stress_tolerance_GPa is -1.0; give"),
        ({"symmetry_tolerance_A": 0.0}, "symmetry_tolerance_A is 0.0; give"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"together": 0}, "together is 0; give 1 or more"),
        ({"max_step_A": 0.0}, "max_step_A is 0.0; give a number above 0 and up to 1"),
        ({"max_step_A": 3.0}, "max_step_A is 3.0"),
        ({"pressure_GPa": float("inf"), "move": "both"}, "pressure_GPa is inf; give"),
        ({"pressure_GPa": 1.0}, "pressure_GPa is 1.0 and the cell is not relaxed"),
        ({"cell_change": "hydrostatic"}, "cell_change is hydrostatic and the cell"),
        ({"fixed_axes": "z"}, "fixed_axes is z and the cell is not relaxed; use"),
        ({"fixed_axes": "c", "move": "both"}, "fixed_axes is 'c'; give x, y, z"),
        ({"fixed_axes": "zz", "move": "both"}, "fixed_axes is 'zz'; give x, y, z"),
        ({"fixed_axes": "xyz", "move": "both"}, "nothing of the cell is free"),
        (
            {"fixed_axes": "z", "cell_change": "hydrostatic", "move": "both"},
            "use one of them",
        ),
        (
            {"fixed_axes": "z", "keep_symmetry": True, "move": "both"},
            "leave out one of fixed_axes and keep_symmetry",
        ),
        (
            {"pressure_GPa": 1.0, "cell_change": "constant-volume", "move": "both"},
            "does nothing at constant volume",
        ),
    ],
)
def test_a_wrong_setting_is_told(settings, told):
    with pytest.raises(ArgumentError, match=told):
        RelaxSettings(**settings)


def test_names_are_those_of_the_tables():
    for move in MOVES:
        RelaxSettings(move=move)
    for optimizer in OPTIMIZERS:
        RelaxSettings(optimizer=optimizer)
    for change in CELL_CHANGES:
        RelaxSettings(cell_change=change, move="both")


def test_every_optimizer_has_a_class() -> None:
    assert tuple(OPTIMIZER_CLASSES) == OPTIMIZERS
