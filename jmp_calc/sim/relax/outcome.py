"""How the relaxation of a structure ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.sim.relax.files import RelaxFiles
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.walker import RelaxStep, Walker


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxOutcome:
    """How the relaxation of one structure ended."""

    name: str
    """What its files are called."""
    status: str
    """One of ``status.STATUSES``."""
    reason: str | None
    """Why it ended early; None if it did not."""
    formula: str
    """Chemical formula."""
    n_atoms: int
    """Number of atoms."""
    steps: tuple[RelaxStep, ...]
    """Every geometry on the way; empty if there was none."""
    max_move_A: float | None
    """Longest way of an atom from the start, the strain of the cell left out,
    angstrom."""
    symmetry: str | None
    """Space group of the last structure if it was to be kept."""
    head: str | None
    """Head of the model, if the calculator tells."""
    atoms: Atoms | None
    """The last good structure with energy, forces and, if the cell is relaxed,
    stress."""
    files: RelaxFiles | None
    """Where it is; None if nothing was written."""

    @property
    def n_steps(self) -> int:
        """Steps done; the start is none."""
        return max(len(self.steps) - 1, 0)

    @property
    def energy_change(self) -> float | None:
        """Energy at the end minus that at the start, eV."""
        if not self.steps:
            return None
        return self.steps[-1].energy_eV - self.steps[0].energy_eV

    @property
    def enthalpy_change(self) -> float | None:
        """The same for energy + pressure * volume; None if the cell is fixed."""
        if not self.steps:
            return None
        first, last = self.steps[0].enthalpy_eV, self.steps[-1].enthalpy_eV
        return None if first is None or last is None else last - first

    @property
    def volume_change_percent(self) -> float | None:
        """Change of the volume; None if the cell is fixed."""
        if not self.steps:
            return None
        first, last = self.steps[0].volume_A3, self.steps[-1].volume_A3
        return None if first is None or last is None else 100 * (last / first - 1)

    def row(self) -> dict[str, Any]:
        """Return the outcome as a row of the table over all structures."""
        last = self.steps[-1] if self.steps else None
        change = self.energy_change
        return {
            "name": self.name,
            "status": self.status,
            "formula": self.formula,
            "n_atoms": self.n_atoms,
            "steps": self.n_steps,
            "initial_energy_eV": self.steps[0].energy_eV if last else None,
            "final_energy_eV": last.energy_eV if last else None,
            "energy_change_eV": change,
            "energy_change_meV_per_atom": (
                None if change is None else 1000 * change / self.n_atoms
            ),
            "enthalpy_change_eV": self.enthalpy_change,
            "max_force_eV_per_A": last.max_force_eV_per_A if last else None,
            "max_stress_GPa": last.max_stress_GPa if last else None,
            "volume_change_percent": self.volume_change_percent,
            "energy_std_eV": last.energy_std_eV if last else None,
            "max_force_std_eV_per_A": last.max_force_std_eV_per_A if last else None,
            "max_move_A": self.max_move_A,
            "symmetry": self.symmetry,
            "head": self.head,
            "reason": self.reason,
        }


def outcome_of(
    walker: Walker, status: str, reason: str | None, files: RelaxFiles
) -> RelaxOutcome:
    """Return how the relaxation of a structure that had started ended.

    Args:
        walker: The structure.
        status: One of ``status.STATUSES``.
        reason: Why it ended early.
        files: Where it is written.
    """
    final = walker.last
    assert final is not None
    final.info["relax_status"] = status
    return RelaxOutcome(
        name=walker.name,
        status=status,
        reason=reason,
        formula=final.get_chemical_formula(),
        n_atoms=len(final),
        steps=tuple(walker.steps),
        max_move_A=_max_move(walker.start, final),
        symmetry=_symmetry(final, walker.settings),
        head=walker.head,
        atoms=final,
        files=files,
    )


def outcome_without_steps(
    name: str, atoms: Atoms, status: str, reason: str | None
) -> RelaxOutcome:
    """Return the outcome of a structure that was never computed.

    Args:
        name: What it is called.
        atoms: The input.
        status: ``REFUSED`` or ``NOT_STARTED``.
        reason: Why.
    """
    return RelaxOutcome(
        name=name,
        status=status,
        reason=reason,
        formula=atoms.get_chemical_formula(),
        n_atoms=len(atoms),
        steps=(),
        max_move_A=None,
        symmetry=None,
        head=None,
        atoms=None,
        files=None,
    )


def _max_move(start: Atoms, end: Atoms) -> float:
    carried = start.positions
    if start.cell.rank == 3:
        carried = start.cell.scaled_positions(start.positions) @ end.cell.array
    return float(np.linalg.norm(end.positions - carried, axis=1).max())


def _symmetry(atoms: Atoms, settings: RelaxSettings) -> str | None:
    if not settings.keep_symmetry:
        return None
    from ase.spacegroup.symmetrize import check_symmetry

    found = check_symmetry(atoms, symprec=settings.symmetry_tolerance_A)
    return f"{found.international} ({found.number})"
