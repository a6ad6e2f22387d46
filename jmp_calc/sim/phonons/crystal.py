"""From a structure to phonopy: checks, supercells and meshes."""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings

import numpy as np
from ase import Atoms
from jaxtyping import Float, Int
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from spglib import SpglibError, get_spacegroup

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.phonons.settings import PhononSettings

LOOSE_TOLERANCE_A = 0.01
"""If this tolerance finds a higher symmetry, the user is told."""
MOST_ATOMS = 5000
"""Larger supercells are refused."""
_NO_SYMMETRY = (SpglibError, RuntimeError, ValueError)


def check_crystal(atoms: Atoms) -> None:
    """See to it that a structure can have phonons.

    Args:
        atoms: The structure.

    Raises:
        UnsupportedSystemError: If it is not periodic in three directions, has a flat
            or left-handed cell, or atoms of one element with different masses.
    """
    if not atoms.pbc.all():
        raise UnsupportedSystemError(
            f"{atoms.get_chemical_formula()} is not periodic in three directions; "
            "phonons need a crystal (for a layer, a periodic cell with vacuum), and "
            "molecules have vibrations"
        )
    if abs(atoms.cell.volume) < 1e-3:
        raise UnsupportedSystemError(
            f"the cell of {atoms.get_chemical_formula()} has no volume; give the "
            "lattice vectors of the crystal"
        )
    if np.linalg.det(atoms.cell) < 0:
        raise UnsupportedSystemError(
            f"the lattice vectors of {atoms.get_chemical_formula()} are left-handed, "
            "which phonopy does not take; exchange two of them"
        )
    masses = atoms.get_masses()
    for symbol in set(atoms.symbols):
        own = masses[[s == symbol for s in atoms.symbols]]
        # phonopy takes atoms of an element for alike when it uses symmetry
        if np.ptp(own) > 1e-6:
            raise UnsupportedSystemError(
                f"atoms of {symbol} have masses from {own.min():g} to {own.max():g} "
                "amu, and phonons are computed with one mass per element; remove the "
                "masses from the file"
            )


def phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """Return a structure as phonopy has it.

    Args:
        atoms: The structure; masses and initial magnetic moments are kept.
    """
    moments = atoms.get_initial_magnetic_moments()
    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        cell=np.array(atoms.cell),
        positions=atoms.positions,
        masses=atoms.get_masses(),
        magnetic_moments=moments if np.any(moments) else None,
    )


def supercells(phonon: Phonopy, atoms: Atoms) -> list[Atoms]:
    """Return the supercell and, behind it, those with displacements.

    Atoms keep what calculators may ask for: tags, charges, magnetic moments, masses.

    Args:
        phonon: phonopy's object with displacements.
        atoms: The crystal that it was made from.
    """
    displaced = phonon.supercells_with_displacements
    assert displaced is not None
    cell = phonon.supercell
    origin = [cell.u2u_map[place] for place in cell.s2u_map]
    template = atoms[origin]
    template.set_cell(cell.cell)
    template.pbc = True
    systems = []
    for positions in (cell.positions, *(one.positions for one in displaced)):
        system = template.copy()
        system.positions = positions
        systems.append(system)
    return systems


def build_phonopy(
    atoms: Atoms, supercell: Int[np.ndarray, "3 3"], settings: PhononSettings
) -> Phonopy:
    """Return phonopy's object for a crystal, without displacements.

    Args:
        atoms: The crystal; see :func:`check_crystal`.
        supercell: Supercell vectors in vectors of the crystal, rows.
        settings: Choice of the primitive cell, and tolerance.

    Raises:
        UnsupportedSystemError: If atoms coincide, or no primitive cell is found.
    """
    with warnings.catch_warnings():
        # phonopy 4 tells everybody that "auto" means what it says
        warnings.filterwarnings("ignore", message="primitive_matrix defaulted")
        # symmetry_notes says so in other words
        warnings.filterwarnings("ignore", message="Warning: Point group symmetries")
        warnings.filterwarnings("ignore", message="The input unit cell has a magnetic")
        try:
            return Phonopy(
                phonopy_atoms(atoms),
                # phonopy has the new vectors in columns
                supercell_matrix=supercell.T,
                primitive_matrix="auto" if settings.primitive == "auto" else "P",
                symprec=settings.symmetry_tolerance_A,
                log_level=0,
            )
        except (*_NO_SYMMETRY, TypeError, AttributeError) as error:
            raise UnsupportedSystemError(
                f"phonopy finds no symmetry of {atoms.get_chemical_formula()} at a "
                f"tolerance of {settings.symmetry_tolerance_A:g} angstrom ({error}); "
                "check that no atoms coincide, or change --symmetry-tolerance-A"
            ) from error


def widths(cell: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Return the distances between opposite faces of a cell, angstrom.

    Args:
        cell: Lattice vectors, rows, angstrom.
    """
    heights: Float[np.ndarray, "3"] = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return heights


def choose_supercell(
    cell: Float[np.ndarray, "3 3"], width_A: float
) -> Int[np.ndarray, "3 3"]:
    """Return the smallest diagonal supercell that is wide enough everywhere.

    Args:
        cell: Lattice vectors, rows, angstrom.
        width_A: Smallest distance between opposite faces, angstrom.
    """
    # a cell that is wide enough but for rounding is not doubled
    return np.diag(np.ceil(width_A / widths(cell) - 1e-6).astype(int).clip(1))


def larger_supercell(
    cell: Float[np.ndarray, "3 3"], supercell: Int[np.ndarray, "3 3"]
) -> Int[np.ndarray, "3 3"]:
    """Return the next supercell: one more cell in the narrowest directions.

    A supercell that is not diagonal keeps its shape: 2, 3, ... times the first one.

    Args:
        cell: Lattice vectors, rows, angstrom.
        supercell: Supercell vectors in lattice vectors, rows.
    """
    common = math.gcd(*(abs(int(n)) for n in supercell.flat))
    if np.count_nonzero(supercell - np.diag(np.diag(supercell))):
        return supercell // common * (common + 1)
    width = widths(supercell @ cell)
    return supercell + np.diag((width < width.min() * 1.001).astype(int))


def choose_mesh(phonon: Phonopy, settings: PhononSettings) -> tuple[int, int, int]:
    """Return the numbers of q-points along the reciprocal vectors.

    Odd numbers have Gamma and keep the symmetry of a hexagonal lattice in every scheme.
    The primitive cell of a centred lattice needs equal numbers, or the mesh has less
    symmetry than the crystal.

    Args:
        phonon: phonopy's object.
        settings: Mesh, or its length.
    """
    if settings.mesh_numbers is not None:
        return settings.mesh_numbers
    lengths = np.linalg.norm(np.linalg.inv(phonon.primitive.cell), axis=0)
    numbers = [_odd(settings.mesh_length_A * length) for length in lengths]
    if space_group(phonon)[0] != "P":
        numbers = [max(numbers)] * 3
    a, b, c = numbers
    return a, b, c


def _odd(length: float) -> int:
    return 2 * math.ceil((max(length, 1.0) - 1.0) / 2.0 - 1e-6) + 1


def space_group(phonon: Phonopy) -> str:
    """Return the space group of the primitive cell, such as ``Fm-3m (225)``.

    Magnetic moments, which can lower the symmetry that phonopy works with, do not count
    in it.

    Args:
        phonon: phonopy's object.
    """
    table = phonon.primitive_symmetry.get_international_table()
    if table is None:
        lattice, places, numbers, *_ = phonon.primitive.totuple()
        tolerance = phonon.primitive_symmetry.tolerance
        cell = (lattice.tolist(), places.tolist(), numbers.tolist())
        table = get_spacegroup(cell, symprec=tolerance)
    return str(table)


def symmetry_notes(atoms: Atoms, phonon: Phonopy) -> list[str]:
    """Return sentences on symmetry that a calculation does not have.

    Args:
        atoms: The crystal.
        phonon: phonopy's object of it.
    """
    notes = []
    found = space_group(phonon)
    cell = (
        atoms.cell.tolist(),
        atoms.get_scaled_positions().tolist(),
        atoms.numbers.tolist(),
    )
    loose = None
    with contextlib.suppress(*_NO_SYMMETRY):
        loose = get_spacegroup(cell, symprec=LOOSE_TOLERANCE_A)
    if loose is not None and _number(loose) > _number(found):
        notes.append(
            f"the space group is {found}, and {loose} at a tolerance of "
            f"{LOOSE_TOLERANCE_A:g} angstrom; for fewer displacements symmetrize the "
            f"structure, or allow it with --symmetry-tolerance-A {LOOSE_TOLERANCE_A:g}"
        )
    if phonon.unitcell.magnetic_moments is not None:
        notes.append(
            "the initial magnetic moments of the file count in the symmetry; remove "
            "them if the model does not know them"
        )
    own = len(phonon.symmetry.pointgroup_operations)
    if own < len(phonon.primitive_symmetry.pointgroup_operations):
        notes.append(
            f"the supercell has less symmetry than the crystal ({found}), which bands "
            "that should be degenerate will show; choose one of the same shape with "
            "--supercell"
        )
    return notes


def _number(space_group_text: str) -> int:
    return int(space_group_text.split("(")[1].rstrip(")"))


def check_size(n_atoms: int, supercell: Int[np.ndarray, "3 3"]) -> None:
    """Refuse a supercell that nobody wants but by mistake.

    Args:
        n_atoms: Atoms of the crystal's cell.
        supercell: Supercell vectors in lattice vectors, rows.

    Raises:
        ArgumentError: If it has more than ``MOST_ATOMS``.
    """
    n_total = n_atoms * round(abs(np.linalg.det(supercell)))
    if n_total > MOST_ATOMS:
        raise ArgumentError(
            f"the supercell ({shape_text(supercell)}) has {n_total} atoms, more than "
            f"{MOST_ATOMS}; give a smaller --supercell"
        )


def shape_text(supercell: Int[np.ndarray, "3 3"]) -> str:
    """Return a supercell in a few words, such as ``2 x 2 x 1``.

    Args:
        supercell: Supercell vectors in lattice vectors, rows.
    """
    if np.count_nonzero(supercell - np.diag(np.diag(supercell))):
        return " / ".join(" ".join(map(str, row)) for row in supercell.tolist())
    return " x ".join(map(str, itertools.chain(np.diag(supercell).tolist())))
