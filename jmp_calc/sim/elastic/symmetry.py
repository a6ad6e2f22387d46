"""Makes elastic constants as symmetric as the crystal is."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.elastic.moduli import full_stiffness, voigt_stiffness


@dataclass(frozen=True, kw_only=True, slots=True)
class PointGroup:
    """The rotations of a crystal."""

    space_group: str
    """Its space group, international symbol and number."""
    is_cubic: bool
    """Whether that is cubic."""
    rotations: Float[np.ndarray, "operations 3 3"]
    """Rotations and reflections in Cartesian coordinates."""


def find_point_group(atoms: Atoms, tolerance: float) -> PointGroup | None:
    """Return the rotations of a crystal, or None if spglib is not installed.

    Args:
        atoms: A crystal.
        tolerance: Largest distance of an atom from its symmetric place, angstrom.

    Raises:
        UnsupportedSystemError: If spglib finds no symmetry at all.
    """
    try:
        import spglib
    except ImportError:
        return None
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        # older ways of reporting errors warn; both ways are understood here
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            # a supercell lacks operations that do not keep its shape
            primitive = spglib.standardize_cell(
                cell, to_primitive=True, no_idealize=True, symprec=tolerance
            )
            if primitive is None:
                raise _not_found("spglib gave nothing")
            found = spglib.get_symmetry_dataset(primitive, symprec=tolerance)
    except spglib.SpglibError as error:
        raise _not_found(str(error)) from error
    if found is None:
        raise _not_found("spglib gave nothing")
    columns = np.transpose(primitive[0])
    rotations = np.array(
        [columns @ rotation @ np.linalg.inv(columns) for rotation in found.rotations]
    )
    return PointGroup(
        space_group=f"{found.international} ({found.number})",
        is_cubic=found.number >= 195,
        rotations=np.unique(rotations.round(9), axis=0),
    )


def _not_found(what: str) -> UnsupportedSystemError:
    return UnsupportedSystemError(
        f"the symmetry of the crystal cannot be found ({what}); check that no atoms "
        "overlap, or use skip_symmetry (--skip-symmetry)"
    )


def symmetric_constants(
    constants: Float[np.ndarray, "6 6"], rotations: Float[np.ndarray, "operations 3 3"]
) -> Float[np.ndarray, "6 6"]:
    """Average a matrix of elastic constants over the rotations of the crystal.

    Args:
        constants: Symmetric, Voigt order.
        rotations: Of the crystal, Cartesian; a whole group.

    Source:
        Nye, Physical Properties of Crystals (1985): a tensor of a crystal is unchanged
        by its point group, so that the mean over the group is its projection.
    """
    tensor = full_stiffness(constants)
    turned = sum(
        np.einsum("ai,bj,ck,dl,ijkl->abcd", r, r, r, r, tensor, optimize=True)
        for r in rotations
    )
    return voigt_stiffness(np.asarray(turned) / len(rotations))
