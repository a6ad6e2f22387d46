"""One molecule in an NPZ archive: the layouts of rMD17 and of sGDML (MD17, MD22)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jmp_calc.errors import DataError
from jmp_calc.units import CODATA, MolecularUnits
from jmp_train.data.layouts.frames import Frames
from jmp_train.data.layouts.npz import NpzArrays


@dataclass(frozen=True, kw_only=True, slots=True)
class NpzKeys:
    """Names of the arrays of a layout; energies in kcal/mol, lengths in Å.

    A file may say otherwise (:func:`energy_factor`).
    """

    numbers: str
    """Atomic numbers."""
    positions: str
    """Å, frames × atoms × 3."""
    energy: str
    """kcal/mol, one per frame."""
    forces: str
    """kcal/mol/Å, frames × atoms × 3."""


RMD17_KEYS = NpzKeys(
    numbers="nuclear_charges", positions="coords", energy="energies", forces="forces"
)
"""rMD17."""

SGDML_KEYS = NpzKeys(numbers="z", positions="R", energy="E", forces="F")
"""MD17 and MD22, as sGDML writes them."""


_ENERGY_UNIT, _LENGTH_UNIT = "e_unit", "r_unit"
_LENGTHS = ("ang", "angstrom", "å")


def energy_factor(arrays: NpzArrays, units: MolecularUnits) -> float:
    """Return what energies and forces of a file are multiplied with, for eV and eV/Å.

    The set of MD22 is in kcal/mol; files that sGDML made of other data are in any unit,
    and say so.

    Args:
        arrays: The file.
        units: Factor of kcal/mol.

    Raises:
        DataError: If it states units that are not known here.
    """
    energy = arrays.text(_ENERGY_UNIT) or "kcal/mol"
    length = arrays.text(_LENGTH_UNIT) or "Ang"
    factors = {"kcal/mol": units.kcal_per_mol, "ev": 1.0}
    if energy.lower() not in factors or length.lower() not in _LENGTHS:
        raise DataError(
            f"{arrays.path} has energies in {energy!r} and lengths in {length!r}, as "
            f"its {_ENERGY_UNIT} and {_LENGTH_UNIT} say; they must be kcal/mol or eV, "
            "and Ang, so convert the file"
        )
    return factors[energy.lower()]


def count_frames(path: Path, keys: NpzKeys) -> int:
    """Return the number of frames, after checking that the arrays fit together.

    Args:
        path: The archive.
        keys: Its layout.

    Raises:
        DataError: If an array is absent or has another shape than the others ask for,
            or the file states units that are not known here.
    """
    arrays = NpzArrays(path)
    energy_factor(arrays, CODATA)
    arrays.check(**{keys.numbers: 1, keys.positions: 3, keys.forces: 3})
    n_frames, n_atoms, _ = arrays.shapes[keys.positions]
    wanted = {
        keys.numbers: ((n_atoms,),),
        keys.positions: ((n_frames, n_atoms, 3),),
        keys.forces: ((n_frames, n_atoms, 3),),
        keys.energy: ((n_frames,), (n_frames, 1)),
    }
    arrays.check(**{keys.energy: len(arrays.shapes.get(keys.energy, ()))})
    for key, allowed in wanted.items():
        if arrays.shapes[key] not in allowed:
            raise DataError(
                f"{key!r} of {path} has shape {arrays.shapes[key]}; it must have "
                f"{allowed[0]} for {n_frames} frames of {n_atoms} atoms"
            )
    return n_frames


def read_frames(
    path: Path,
    keys: NpzKeys,
    frames: range,
    *,
    units: MolecularUnits = CODATA,
) -> Frames:
    """Return frames; only theirs are read.

    Args:
        path: The archive.
        keys: Its layout.
        frames: Consecutive frames to read.
        units: Factor of kcal/mol.

    Raises:
        DataError: If an array is absent or damaged.
    """
    arrays = NpzArrays(path)
    factor = energy_factor(arrays, units)
    start, stop = frames.start, frames.stop
    energy = arrays.rows(keys.energy, start, stop).reshape(-1)
    forces = arrays.rows(keys.forces, start, stop)
    return Frames(
        numbers=arrays.rows(keys.numbers).astype(np.int64),
        positions=arrays.rows(keys.positions, start, stop),
        energy=energy * factor,
        forces=forces * factor,
        first=start,
    )
