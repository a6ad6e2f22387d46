"""Relaxation of a crystal before its atoms are displaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ase import Atoms

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.evaluation import evaluate_in_chunks
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.walker import Walker

FORCE_TOLERANCE_eV_per_A = 1e-3
"""Larger forces make spurious imaginary modes."""
STRESS_TOLERANCE_GPa = 0.01
"""Larger stress shifts frequencies."""
STEPS = 500
"""Most steps of the relaxation."""


def relax_crystal(
    atoms: Atoms,
    calculator: Any,
    move: Literal["positions", "both"],
    progress: Callable[[str, int, int], None] | None = None,
) -> Atoms:
    """Return a crystal with its forces (and stress) relaxed, in the same space group.

    Args:
        atoms: The crystal; not changed.
        calculator: What computes it.
        move: Relax positions only, or the cell as well.
        progress: Told after each step.

    Raises:
        UnsupportedSystemError: If it does not converge.
    """
    settings = RelaxSettings(
        move=move,
        fmax_eV_per_A=FORCE_TOLERANCE_eV_per_A,
        stress_tolerance_GPa=STRESS_TOLERANCE_GPa,
        steps=STEPS,
        keep_symmetry=True,
    )
    start = atoms.copy()
    # the symmetry holds fixed atoms as well
    start.set_constraint()
    walker = Walker("crystal", start, settings)
    for number in range(STEPS + 1):
        (results,) = evaluate_in_chunks(
            calculator, [walker.system], settings.properties
        )
        step = walker.take(results)
        if progress is not None:
            progress("relaxation", number, STEPS)
        if walker.is_converged:
            relaxed: Atoms = walker.system.copy()
            relaxed.set_constraint()
            return relaxed
        walker.advance()
    raise UnsupportedSystemError(
        f"the relaxation did not converge in {STEPS} steps (largest force "
        f"{step.max_force_eV_per_A:.3g} eV/angstrom); relax the structure with "
        "'jmp-md relax' first"
    )
