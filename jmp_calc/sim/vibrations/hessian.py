"""Second derivatives of the energy by finite differences of forces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.vibrations import VibrationsData
from jaxtyping import Bool, Float

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.side_by_side import compute_together
from jmp_calc.sim.vibrations.rotations import is_linear
from jmp_calc.units import FS, PER_CM, PER_CM_PER_THZ

_WAVE_PER_CM = 1e3 * FS / (2 * np.pi) * PER_CM_PER_THZ
"""Wavenumber of a curvature of 1 eV/angstrom^2/amu, 1/cm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hessian:
    """Second derivatives, and how good they are."""

    values: Float[np.ndarray, "coordinates coordinates"]
    """Symmetric, eV/angstrom^2; x, y, z of the first free atom come first."""
    asymmetry: float
    """Largest difference between an element and its transpose before, eV/angstrom^2."""
    free: list[int]
    """Atoms that may move."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Modes:
    """Normal modes of a structure."""

    data: VibrationsData
    """All modes, those of the whole body at zero."""
    is_rigid: Bool[np.ndarray, "modes"]
    """Which modes move the structure as a whole."""
    frequencies_per_cm: Float[np.ndarray, "modes"]
    """Wavenumbers, 1/cm, ascending; imaginary ones are negative."""
    rigid_per_cm: Float[np.ndarray, "rigid"]
    """What translations and rotations would have without the projection, 1/cm."""

    @property
    def vibrations_per_cm(self) -> Float[np.ndarray, "vibrations"]:
        """Wavenumbers of all vibrations, 1/cm; imaginary ones are negative."""
        waves: Float[np.ndarray, "vibrations"] = self.frequencies_per_cm[~self.is_rigid]
        return waves


def compute_hessian(
    atoms: Atoms,
    calculator: Any,
    *,
    displacement: float,
    progress: Callable[[int, int], None] | None = None,
) -> Hessian:
    """Move each free atom back and forth along x, y and z, and difference the forces.

    Args:
        atoms: A structure at rest; fixed atoms do not move.
        calculator: An ASE calculator, or anything with ``evaluate``.
        displacement: How far, angstrom.
        progress: Called with the displacements done and their number.

    Raises:
        UnsupportedSystemError: If no atom is free, or a displacement is refused.
    """
    free = free_atoms(atoms)
    systems = []
    for atom in free:
        for axis in range(3):
            for sign in (-1, 1):
                system = atoms.copy()
                system.set_constraint()
                system.positions[atom, axis] += sign * displacement
                systems.append(system)
    found = compute_together(systems, ("forces",), calculator, progress=progress)
    forces = [results["forces"][free].ravel() for results in found]
    pairs = np.array(forces).reshape(3 * len(free), 2, 3 * len(free))
    raw = (pairs[:, 0] - pairs[:, 1]) / (2 * displacement)
    return Hessian(
        values=(raw + raw.T) / 2,
        asymmetry=float(np.abs(raw - raw.T).max()),
        free=free,
    )


def free_atoms(atoms: Atoms) -> list[int]:
    """Return the atoms that may move.

    Args:
        atoms: Any structure.

    Raises:
        UnsupportedSystemError: If none may, or a constraint holds something else than
            whole atoms.
    """
    held: set[int] = set()
    for constraint in atoms.constraints:
        is_whole = isinstance(constraint, FixAtoms) or (
            isinstance(constraint, FixCartesian) and np.all(constraint.mask)
        )
        if not is_whole:
            raise UnsupportedSystemError(
                f"a constraint of the structure, {type(constraint).__name__}, does not "
                "hold whole atoms, and vibrations know no other kind; fix these atoms "
                "(FixAtoms) or remove it"
            )
        held.update(np.arange(len(atoms))[constraint.index].tolist())
    free = [number for number in range(len(atoms)) if number not in held]
    if not free:
        raise UnsupportedSystemError(
            "all atoms are fixed, so nothing can vibrate; remove the constraint"
        )
    return free


def find_modes(atoms: Atoms, hessian: Hessian) -> Modes:
    """Return the normal modes; motions of the whole body are projected out.

    A free molecule has three translations and three rotations (two if it is linear), a
    periodic structure three translations, and one with fixed atoms none.

    Args:
        atoms: The structure that the derivatives belong to.
        hessian: From :func:`compute_hessian`.

    Source:
        Wilson, Decius and Cross, Molecular Vibrations (1955), chapter 11.
    """
    roots = np.repeat(np.sqrt(atoms.get_masses()[hessian.free]), 3)
    weights = np.outer(roots, roots)
    weighted = hessian.values / weights
    body = rigid_motions(atoms)
    rest = np.eye(len(roots)) - body @ body.T
    data = VibrationsData.from_2d(
        atoms, (rest @ weighted @ rest) * weights, indices=hessian.free
    )
    energies, shapes = data.get_energies_and_modes()
    # shapes are orthonormal in mass-weighted coordinates
    overlap = ((shapes.reshape(len(energies), -1) * roots) @ body) ** 2
    is_rigid = np.zeros(len(energies), dtype=bool)
    is_rigid[np.argsort(overlap.sum(axis=1))[::-1][: body.shape[1]]] = True
    left = np.linalg.eigvalsh(body.T @ weighted @ body) if body.size else np.zeros(0)
    return Modes(
        data=data,
        is_rigid=is_rigid,
        frequencies_per_cm=_signed(energies) / PER_CM,
        rigid_per_cm=np.sign(left) * np.sqrt(np.abs(left)) * _WAVE_PER_CM,
    )


def rigid_motions(atoms: Atoms) -> Float[np.ndarray, "coordinates rigid"]:
    """Return orthonormal mass-weighted motions that cost a free structure no energy.

    Args:
        atoms: Any structure.
    """
    n_atoms, free = len(atoms), free_atoms(atoms)
    if len(free) < n_atoms:
        return np.zeros((3 * len(free), 0))
    roots = np.sqrt(atoms.get_masses())[:, None]
    motions = [(roots * axis).ravel() for axis in np.eye(3)]
    if not atoms.pbc.any() and n_atoms > 1:
        arms = atoms.positions - atoms.get_center_of_mass()
        axes = np.linalg.svd(roots * arms, full_matrices=True)[2]
        # along the first axis of a linear molecule there is nothing to turn
        turned = axes[1:] if is_linear(roots * arms) else axes
        motions += [(roots * np.cross(axis, arms)).ravel() for axis in turned]
    basis: Float[np.ndarray, "coordinates rigid"] = np.linalg.qr(np.array(motions).T)[0]
    return basis


def _signed(energies: np.ndarray) -> np.ndarray:
    """Return energies with those that are imaginary as negative numbers."""
    return np.where(np.abs(energies.imag) > 0, -np.abs(energies), energies.real)
