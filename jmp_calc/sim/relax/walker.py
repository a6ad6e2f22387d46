"""One structure on its way down: its optimizer, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixConstraint
from ase.filters import FrechetCellFilter
from ase.stress import voigt_6_to_full_3x3_stress
from jaxtyping import Float

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import Results
from jmp_calc.sim.output import RESULT_PREFIX, without_results
from jmp_calc.sim.relax.optimizers import OPTIMIZER_CLASSES
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.spread import SPREADS, spread_of
from jmp_calc.units import GPA

VOLUME_RANGE = (0.25, 4.0)
"""Volume by that of the start at which a relaxation has left the physical range."""

_VOIGT_AXES = ("xx", "yy", "zz", "yz", "xz", "xy")

_STEP_ERRORS = (ArithmeticError, AssertionError, RuntimeError, ValueError)
"""What optimizers and cell filters of ASE raise when a step is impossible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxStep:
    """One geometry of a relaxation."""

    step: int
    """0 at the start."""
    energy_eV: float
    """Potential energy, eV."""
    enthalpy_eV: float | None
    """Energy + pressure * volume, eV; None if the cell is fixed."""
    max_force_eV_per_A: float
    """Length of the largest force on an atom, eV/angstrom; constraints applied."""
    max_stress_GPa: float | None
    """Largest component of the stress that the cell can still relax, outer pressure
    included, GPa; None if the cell is fixed."""
    volume_A3: float | None
    """Volume of the cell, angstrom^3; None if it is fixed."""
    energy_std_eV: float | None = None
    """Spread of the energy between the models of a committee, eV."""
    max_force_std_eV_per_A: float | None = None
    """Largest spread of the force on an atom, eV/angstrom."""


class Walker:
    """A structure that is relaxed step by step with results from elsewhere.

    Args:
        name: What its files are called.
        atoms: Start; not changed. Its constraints are kept.
        settings: What to do.

    Raises:
        UnsupportedSystemError: If it cannot be relaxed that way.
        ArgumentError: If the symmetry is to be kept and spglib is not installed.
    """

    def __init__(self, name: str, atoms: Atoms, settings: RelaxSettings) -> None:
        self.name = name
        self.settings = settings
        self.steps: list[RelaxStep] = []
        self.head: str | None = None
        _check(atoms, settings)
        self._template = without_results(atoms)
        self._template.arrays.pop("momenta", None)
        self.system = self._template.copy()
        self.system.set_constraint(_constraints(self.system, settings))
        movable = self.system
        if settings.has_cell:
            movable = FrechetCellFilter(
                self.system,
                mask=_mask(settings.fixed_axes),
                hydrostatic_strain=settings.cell_change == "hydrostatic",
                constant_volume=settings.cell_change == "constant-volume",
                scalar_pressure=settings.pressure_GPa * GPA,
            )
        self._optimizer = OPTIMIZER_CLASSES[settings.optimizer](
            movable, logfile=None, maxstep=settings.max_step_A
        )
        # with symmetry the start is the symmetric structure, not quite the input
        self.start: Atoms = self.system.copy()
        self.last: Atoms | None = None

    def take(self, results: Results) -> RelaxStep:
        """Accept what was computed for where the structure is now.

        Args:
            results: At least ``settings.properties``, all finite.

        Raises:
            UnsupportedSystemError: If the relaxation has left the physical range.
        """
        self._check_head(results.get("head"))
        values = {name: results[name] for name in self.settings.properties}
        system = self.system
        system.calc = SinglePointCalculator(system, **values)
        frame = self._frame(values, results)
        # what "cell" holds in place for the optimizer is not held in the structure
        source = system if self.settings.has_positions else frame
        step = RelaxStep(
            step=len(self.steps),
            energy_eV=float(results["energy"]),
            enthalpy_eV=self._enthalpy(float(results["energy"])),
            max_force_eV_per_A=_longest(source.get_forces()),
            max_stress_GPa=self._max_stress() if self.settings.has_cell else None,
            volume_A3=float(system.cell.volume) if self.settings.has_cell else None,
            **spread_of(results),
        )
        self._check_volume(step.volume_A3)
        frame.info["step"] = step.step
        self.last = frame
        self.steps.append(step)
        return step

    @property
    def is_converged(self) -> bool:
        """Whether forces and stress of the last geometry are small enough."""
        settings, last = self.settings, self.steps[-1]
        has_forces = (
            settings.has_positions and last.max_force_eV_per_A > settings.fmax_eV_per_A
        )
        has_stress = (
            last.max_stress_GPa is not None
            and last.max_stress_GPa > settings.stress_tolerance_GPa
        )
        return not has_forces and not has_stress

    def advance(self) -> None:
        """Move to the next geometry.

        Raises:
            UnsupportedSystemError: If the optimizer cannot make a step.
        """
        try:
            # step() needs nothing but forces and stress of where the structure is;
            # run() would ask for those of the next place before it returns
            self._optimizer.step()
        except _STEP_ERRORS as error:
            raise UnsupportedSystemError(
                f"the optimizer cannot make a step ({error}); use a shorter max_step_A "
                "or optimizer=fire"
            ) from error
        self._optimizer.nsteps += 1
        if not np.isfinite(self.system.positions).all():
            raise UnsupportedSystemError("the optimizer sent an atom to infinity")

    def _frame(self, values: Results, results: Results) -> Atoms:
        frame: Atoms = self._template.copy()
        frame.set_cell(self.system.cell, apply_constraint=False)
        frame.set_positions(self.system.positions, apply_constraint=False)
        frame.calc = SinglePointCalculator(frame, **values)
        for name in set(SPREADS) & set(results):
            place = frame.arrays if name.startswith("forces") else frame.info
            place[f"{RESULT_PREFIX}{name}"] = results[name]
        return frame

    def _enthalpy(self, energy: float) -> float | None:
        if not self.settings.has_cell:
            return None
        pressure = self.settings.pressure_GPa * GPA
        return energy + pressure * float(self.system.cell.volume)

    def _max_stress(self) -> float:
        settings = self.settings
        stress = voigt_6_to_full_3x3_stress(self.system.get_stress())
        stress = stress + settings.pressure_GPa * GPA * np.eye(3)
        mean = np.trace(stress) / 3 * np.eye(3)
        if settings.cell_change == "hydrostatic":
            stress = mean
        elif settings.cell_change == "constant-volume":
            stress = stress - mean
        mask = _mask(settings.fixed_axes)
        left = stress * voigt_6_to_full_3x3_stress(np.array(mask, dtype=float))
        return float(np.abs(left).max() / GPA)

    def _check_head(self, head: str | None) -> None:
        if self.steps and head != self.head:
            raise UnsupportedSystemError(
                f"the model's head for this structure changed from {self.head!r} to "
                f"{head!r} on the way; choose one with --head"
            )
        self.head = head

    def _check_volume(self, volume: float | None) -> None:
        if volume is None:
            return
        ratio = volume / float(self.start.cell.volume)
        low, high = VOLUME_RANGE
        if not low <= ratio <= high:
            raise UnsupportedSystemError(
                f"the volume has become {ratio:.2g} times that of the start, outside "
                f"of {low:g} to {high:g}; start closer, or use a shorter max_step_A"
            )


def _check(atoms: Atoms, settings: RelaxSettings) -> None:
    if len(atoms) == 0:
        raise UnsupportedSystemError("the structure has no atoms; give one with atoms")
    needs = [
        what
        for what, is_needed in (
            (f"move={settings.move}", settings.has_cell),
            ("keep_symmetry", settings.keep_symmetry),
        )
        if is_needed
    ]
    if needs and not (atoms.pbc.all() and atoms.cell.rank == 3):
        way_out = "relax positions only (--move positions)"
        if atoms.pbc.sum() == 2 and atoms.cell.rank == 3:
            way_out += (
                ", or make the vacuum periodic, too (pbc), and hold the cell along it "
                "(--fixed-axes)"
            )
        raise UnsupportedSystemError(
            f"{needs[0]} needs a crystal, periodic in three directions, and pbc is "
            f"{atoms.pbc.tolist()}; {way_out}"
        )
    if settings.keep_symmetry and atoms.constraints:
        kinds = sorted({type(c).__name__ for c in atoms.constraints})
        raise UnsupportedSystemError(
            f"keep_symmetry cannot go with the constraints of the structure "
            f"({', '.join(kinds)}); remove them or leave out keep_symmetry"
        )
    if settings.has_positions and not settings.has_cell and is_all_fixed(atoms):
        raise UnsupportedSystemError(
            "all atoms are fixed, so nothing can move; remove the constraint"
        )


def is_all_fixed(atoms: Atoms) -> bool:
    """Return whether no atom may move.

    Args:
        atoms: Any structure.
    """
    is_free = np.ones((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            is_free[constraint.get_indices()] = False
        elif isinstance(constraint, FixCartesian):
            is_free[constraint.get_indices()] &= ~np.asarray(constraint.mask, bool)
    return not is_free.any()


def _constraints(system: Atoms, settings: RelaxSettings) -> list[FixConstraint]:
    """Return what holds a structure while it is relaxed."""
    held: list[FixConstraint] = []
    if settings.keep_symmetry:
        held.append(_symmetry(system, settings.symmetry_tolerance_A))
    else:
        held.extend(system.constraints)
    if not settings.has_positions:
        # the cell carries the atoms along; they do not move in it
        held.append(FixAtoms(indices=range(len(system))))
    return held


def _symmetry(system: Atoms, tolerance: float) -> FixConstraint:
    """Make a structure symmetric and return what keeps it so.

    Symmetrizing can bring more symmetry within the tolerance. Operations that the
    structure has only nearly would hide forces, so it is repeated until none is new.
    """
    require_spglib()
    from ase.constraints import FixSymmetry

    n_operations = 0
    while True:
        constraint = FixSymmetry(system, symprec=tolerance)
        if len(constraint.rotations) == n_operations:
            return constraint
        n_operations = len(constraint.rotations)


def require_spglib() -> None:
    """Check that symmetries can be found.

    Raises:
        ArgumentError: If spglib is not installed.
    """
    try:
        import spglib  # noqa: F401
    except ImportError:
        raise ArgumentError(
            "keep_symmetry needs spglib, which is not installed; "
            "run: pip install spglib"
        ) from None


def _mask(fixed_axes: str) -> list[bool]:
    return [not set(pair) & set(fixed_axes) for pair in _VOIGT_AXES]


def _longest(vectors: Float[np.ndarray, "atoms 3"]) -> float:
    return float(np.linalg.norm(vectors, axis=1).max())
