"""Relaxation of a crystal before its atoms are displaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ase import Atoms

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.output import without_results
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import relax_together

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
        UnsupportedSystemError: If it cannot be computed, or does not converge.
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

    def show(_: int, n_rounds: int) -> None:
        if progress is not None:
            progress("relaxation", n_rounds - 1, STEPS)

    (found,) = relax_together(
        [start], settings, calculator, names=["relaxation"], progress=show
    )
    if not found.is_converged:
        raise UnsupportedSystemError(
            f"the relaxation did not converge in {STEPS} steps (largest force "
            f"{found.max_force_eV_per_A:.3g} eV/angstrom); relax the structure with "
            "'jmp-md relax' first"
        )
    return without_results(found.atoms)
