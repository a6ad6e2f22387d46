"""Which constraints molecular dynamics can trust, and which one it adds."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import (
    FixBondLengths,
    FixCom,
    FixConstraint,
    FixLinearTriatomic,
    Hookean,
)
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jmp_calc.errors import ArgumentError, UnsupportedSystemError

INTERNAL = (FixBondLengths, FixLinearTriatomic)
"""Constraints that leave a system free to move as a whole."""


def is_internal(constraint: FixConstraint) -> bool:
    """Return whether a constraint leaves a system free to move as a whole.

    Args:
        constraint: One of ``INTERNAL``, or a spring between two atoms; a spring to a
            point or a plane is not.
    """
    if isinstance(constraint, Hookean):
        # its description tells what the spring is tied to: an atom, a point or a plane
        return isinstance(constraint.todict()["kwargs"]["a2"], (int, np.integer))
    return isinstance(constraint, INTERNAL)


class FixRotation(FixConstraint):
    """Keeps an isolated molecule from turning: its angular momentum is zero.

    The integrators conserve angular momentum; this takes out what rounding, and forces
    with a torque, put in. Momenta change by those of a rigid rotation about the centre
    of mass, the projection that is orthogonal in the metric of the masses.
    """

    def get_removed_dof(self, atoms: Atoms) -> int:
        """Return the number of rotations; two atoms cannot turn about their axis."""
        return 2 if len(atoms) == 2 else 3

    def adjust_momenta(self, atoms: Atoms, momenta: np.ndarray) -> None:
        """Take the rotation out of momenta; called by ASE."""
        arms = atoms.positions - atoms.get_center_of_mass()
        masses = atoms.get_masses()[:, None]
        weighted = masses * arms
        inertia = np.sum(weighted * arms) * np.eye(3) - weighted.T @ arms
        spin = np.cross(arms, momenta).sum(axis=0)
        momenta -= masses * np.cross(np.linalg.pinv(inertia, rcond=1e-10) @ spin, arms)

    def adjust_positions(self, atoms: Atoms, new: np.ndarray) -> None:
        """Take the rotation out of displacements; called by ASE."""
        masses = atoms.get_masses()[:, None]
        moved = (new - atoms.positions) * masses
        self.adjust_momenta(atoms, moved)
        new[:] = atoms.positions + moved / masses

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Leave forces alone; they act on momenta."""


def fix_rotation(atoms: Atoms, ensemble: str) -> None:
    """Keep a molecule from turning.

    Args:
        atoms: A molecule; it gets the constraint.
        ensemble: How it is to move, for the message.

    Raises:
        ArgumentError: If it is not free to turn, or is turned by the thermostat.
    """
    why = None
    if ensemble == "nvt":
        why = "the Langevin thermostat turns a molecule as it must"
    elif atoms.pbc.any():
        why = "the structure is periodic"
    elif not all(isinstance(c, FixCom) for c in atoms.constraints):
        why = "the structure has constraints"
    elif len(atoms) < 2:
        why = "one atom does not turn"
    if why is not None:
        raise ArgumentError(
            "fix_rotation is for isolated molecules under nve, nvt-bussi or nvt-nhc: "
            f"{why}; leave it out"
        )
    atoms.set_constraint([*atoms.constraints, FixRotation()])


_PROBE = 1e-4
_TOLERANCE = 1e-2


def fix_center_of_mass(atoms: Atoms) -> None:
    """Fix the centre of mass by a constraint if nothing ties the atoms down.

    With fixed atoms the centre of mass must move, and ASE's FixCom beside them either
    moves the fixed atoms or does nothing, and miscounts the degrees of freedom; so it
    is added only where every constraint, if there are any, is one of ``INTERNAL``. A
    lone atom stays free: without its centre of mass it would have no degree of freedom
    left.
    """
    if len(atoms) > 1 and all(is_internal(c) for c in atoms.constraints):
        atoms.set_constraint([*atoms.constraints, FixCom()])


def has_center_fixed(atoms: Atoms) -> bool:
    """Return whether a constraint fixes the centre of mass."""
    return any(type(c) is FixCom for c in atoms.constraints)


def check_constraints(atoms: Atoms) -> None:
    """Check that temperature and dynamics under the constraints will be right.

    ASE counts degrees of freedom per constraint, so an atom in two of them is counted
    twice; and some constraints, made for relaxations, do to momenta what is right for
    forces only. Right ones together are a projection that is orthogonal in the metric
    of the masses and the same for displacements as for momenta; this is tried with
    random vectors.

    Args:
        atoms: A system with all its constraints.

    Raises:
        ArgumentError: If constraints overlap, are redundant, or not for dynamics.
        UnsupportedSystemError: If nothing can move.
    """
    names = ", ".join(type(c).__name__ for c in atoms.constraints)
    if has_center_fixed(atoms) and not all(
        isinstance(c, (FixCom, FixRotation)) or is_internal(c)
        for c in atoms.constraints
    ):
        raise ArgumentError(
            f"the input combines constraints {names}; FixCom next to fixed atoms is "
            "applied wrongly by ASE and gives a wrong temperature: remove FixCom"
        )
    _check_overlap(atoms)
    _check_redundancy(atoms)
    try:
        n_free = atoms.get_number_of_degrees_of_freedom()
        is_right = _is_projection(atoms)
    except NotImplementedError:
        is_right = False
    if not is_right:
        raise ArgumentError(
            f"ASE does not apply the constraints {names} rightly in molecular "
            "dynamics; use FixAtoms, FixCartesian, FixedLine, FixedPlane, "
            "FixBondLengths or Hookean, or remove them"
        )
    if n_free < 1:
        raise UnsupportedSystemError(
            f"all {len(atoms)} atoms are fixed, so nothing can move; "
            "remove constraints from the input"
        )


def _check_overlap(atoms: Atoms) -> None:
    owner: dict[int, str] = {}
    for constraint in atoms.constraints:
        name = type(constraint).__name__
        for atom in _indices(constraint):
            if atom in owner:
                raise ArgumentError(
                    f"atom {atom} is in two constraints, {owner[atom]} and {name}; ASE "
                    "counts its degrees of freedom twice: put it into one of them"
                )
            owner[atom] = name


def _check_redundancy(atoms: Atoms) -> None:
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixBondLengths):
            continue
        pairs = np.asarray(constraint.pairs)
        graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(atoms),) * 2)
        _, cluster = connected_components(graph, directed=False)
        for number in np.unique(cluster[pairs[:, 0]]):
            chosen = pairs[cluster[pairs[:, 0]] == number]
            if _n_independent(atoms, chosen) < len(chosen):
                raise ArgumentError(
                    f"the {len(chosen)} bond lengths fixed among atoms "
                    f"{', '.join(map(str, np.unique(chosen)))} are not independent, "
                    "and ASE would count too few degrees of freedom; remove the "
                    "redundant pairs from FixBondLengths"
                )


def _n_independent(atoms: Atoms, pairs: np.ndarray) -> int:
    members, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(pairs.shape)
    rows = np.zeros((len(pairs), len(members), 3))
    for row, (first, second), (i, j) in zip(rows, pairs, place, strict=True):
        row[i] = atoms.get_distance(first, second, mic=True, vector=True)
        row[j] = -row[i]
    return int(np.linalg.matrix_rank(rows.reshape(len(pairs), -1), tol=1e-6))


def _indices(constraint: FixConstraint) -> list[int]:
    if isinstance(constraint, (FixCom, FixRotation, Hookean)):
        return []
    get_indices = getattr(constraint, "get_indices", None)
    return [] if get_indices is None else [int(i) for i in np.unique(get_indices())]


def _is_projection(atoms: Atoms) -> bool:
    # weighted by the root of the mass, momenta and displacements are the same thing
    root = np.sqrt(atoms.get_masses())[:, None]
    first, second = np.random.default_rng(0).standard_normal((2, len(atoms), 3))

    def project(vector: np.ndarray) -> np.ndarray:
        momenta: np.ndarray = vector * root
        for constraint in atoms.constraints:
            if hasattr(constraint, "adjust_momenta"):
                constraint.adjust_momenta(atoms, momenta)
        weighted: np.ndarray = momenta / root
        return weighted

    once, other = project(first), project(second)
    trial = atoms.copy()
    trial.set_positions(atoms.positions + _PROBE * first / root)
    moved = (trial.positions - atoms.positions) * root / _PROBE
    scale = _TOLERANCE * len(atoms)
    return bool(
        np.abs(project(once) - once).max() < _TOLERANCE
        and abs(np.sum(second * once) - np.sum(first * other)) < scale
        and np.abs(project(np.zeros_like(first))).max() < _TOLERANCE
        and np.abs(moved - once).max() < _TOLERANCE
    )
