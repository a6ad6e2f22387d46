"""QM9 as text files, one per molecule, and what both of its layouts share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from jaxtyping import Float, Int

from jmp_calc.errors import DataError
from jmp_calc.units import MolecularUnits

XYZ_PROPERTIES = (
    "A",
    "B",
    "C",
    "mu",
    "alpha",
    "eps_HOMO",
    "eps_LUMO",
    "delta_eps",
    "R_2_Abs",
    "ZPVE",
    "U_0",
    "U",
    "H",
    "G",
    "c_v",
)
"""Targets of the second line of a text file, in its order."""

_HARTREE = {"eps_HOMO", "eps_LUMO", "delta_eps", "ZPVE", "U_0", "U", "H", "G"}
_KCAL_PER_MOL = {"U_0_ATOM", "U_ATOM", "H_ATOM", "G_ATOM"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Qm9Molecule:
    """One molecule with its properties in the units of the set (energies in eV)."""

    index: int
    """Number in the set, from 1."""
    numbers: Int[np.ndarray, " atoms"]
    """Atomic numbers."""
    positions: Float[np.ndarray, "atoms 3"]
    """Å."""
    targets: dict[str, float]
    """Properties by the name of the target."""


def parse_number(text: str) -> float:
    """Return a number, whose exponent may be written by Mathematica (``1.2*^-6``).

    Args:
        text: The number.
    """
    return float(text.replace("*^", "e"))


def convert_properties(
    values: dict[str, float], units: MolecularUnits
) -> dict[str, float]:
    """Return properties of a published file with all energies in eV.

    Args:
        values: Properties in hartree, kcal/mol (atomization energies), D, bohr³,
            bohr², GHz and cal/(mol K), by the name of the target.
        units: Factors of hartree and kcal/mol.
    """
    factors = dict.fromkeys(_HARTREE, units.hartree)
    factors.update(dict.fromkeys(_KCAL_PER_MOL, units.kcal_per_mol))
    return {name: value * factors.get(name, 1.0) for name, value in values.items()}


def parse_xyz(text: str, where: str, units: MolecularUnits) -> Qm9Molecule:
    """Return the molecule of a text file.

    Args:
        text: Its content.
        where: Name of the file, for errors.
        units: Factors of hartree and kcal/mol.

    Raises:
        DataError: If a line is not as published.
    """
    lines = text.splitlines()
    n_line = 1
    try:
        n_atoms = int(lines[0])
        n_line = 2
        tag, index, *values = lines[1].split()
        if tag != "gdb" or len(values) != len(XYZ_PROPERTIES):
            raise ValueError(f"{len(values)} properties after {tag!r}")
        properties = dict(
            zip(XYZ_PROPERTIES, (parse_number(value) for value in values), strict=True)
        )
        rows = []
        for line in lines[2 : 2 + n_atoms]:
            n_line += 1
            symbol, *coordinates = line.split()
            x, y, z = (parse_number(value) for value in coordinates[:3])
            rows.append((atomic_numbers[symbol], x, y, z))
        n_line += 1
        if len(rows) != n_atoms:
            raise ValueError(f"the file ends after {len(rows)} of {n_atoms} atoms")
        gdb_index = int(index)
    except (ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"{where}, line {n_line}: not the layout of QM9 ({error}); it must be a "
            "count, then 'gdb index' and 15 properties, then one line per atom"
        ) from None
    table = np.array(rows, dtype=np.float64)
    return Qm9Molecule(
        index=gdb_index,
        numbers=table[:, 0].astype(np.int64),
        positions=table[:, 1:].copy(),
        targets=convert_properties(properties, units),
    )


def read_uncharacterized(path: Path) -> frozenset[int]:
    """Return the numbers of the molecules that failed the consistency check.

    Args:
        path: ``uncharacterized.txt``: a line per molecule with number, three SMILES
            and a distance; all other lines are prose.

    Raises:
        DataError: If there is no such line.
    """
    indices = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) >= 5 and words[0].isdigit() and _is_number(words[-1]):
            indices.add(int(words[0]))
    if not indices:
        raise DataError(
            f"{path} lists no molecule; it must be uncharacterized.txt of QM9"
        )
    return frozenset(indices)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
