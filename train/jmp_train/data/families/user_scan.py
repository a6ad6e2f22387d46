"""The first look at user data: which labels, which parts, which free atoms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.calculator.domains import Kind, classify, find_bonds
from jmp_calc.errors import DataError, UnsupportedSystemError
from jmp_calc.models.config import Domain
from jmp_train.data.families.user_splits import FileFrames
from jmp_train.data.layouts.ase_files import named_values, read_frames
from jmp_train.data.sample import molecule_sample, structure_hash

FREE_ATOM = "free atom; its energy is that of the element"
"""Why a free atom is not a system to learn from."""

ISOLATED_ATOM = "IsolatedAtom"
"""Value of ``config_type`` that marks a free atom."""

MIN_BOX = 8.0
"""One atom in a cell with at least this distance between opposite faces is a free
atom, Å."""

ENERGY_STEP = 1e-3
"""Energies of two free atoms of one element may differ by this much, eV."""

_CLASSIFIED = 100
_NUMBER = (int, float, np.integer, np.floating)
_DOMAINS: dict[Kind, Domain] = {
    "molecule": "molecule",
    "wire": "bulk",
    "surface": "surface",
    "bulk": "bulk",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeAtom:
    """One frame with a free atom."""

    where: str
    """File and frame."""
    number: int
    """Atomic number."""
    values: Mapping[str, Any]
    """Its values by name."""


@dataclass(kw_only=True, slots=True)
class Scan:
    """What a first look at all frames showed."""

    files: list[FileFrames] = field(default_factory=list)
    """Hashes and named parts."""
    counts: Counter[str] = field(default_factory=Counter)
    """In how many frames each name has a value."""
    free_atoms: list[FreeAtom] = field(default_factory=list)
    """The free atoms."""
    domains: Counter[Domain] = field(default_factory=Counter)
    """Kinds of the first frames."""
    n_charged: int = 0
    """Frames with a total charge or unpaired electrons."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return sum(len(file.structures) for file in self.files)

    @property
    def domain(self) -> Domain:
        """The most frequent kind."""
        return self.domains.most_common(1)[0][0] if self.domains else "molecule"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the data."""
        notes = []
        if self.n_charged:
            notes.append(
                f"{self.n_charged} frames have a charge or a spin multiplicity above "
                "1, which the model does not see"
            )
        if self.n_copies:
            notes.append(
                f"{self.n_copies} frames are copies of the structure of another frame; "
                "such a structure counts as often as it is there"
            )
        return tuple(notes)

    @property
    def n_copies(self) -> int:
        """Frames whose structure an earlier frame has."""
        found = [name for file in self.files for name in file.structures if name]
        return len(found) - len(set(found))

    def atom_energies(self, key: str | None) -> dict[int, float]:
        """Return the energies of the free atoms, eV, by atomic number.

        Args:
            key: Name of the energy.

        Raises:
            DataError: If two free atoms of an element have different energies.
        """
        found: dict[int, tuple[float, str]] = {}
        for atom in self.free_atoms:
            if key is None or key not in atom.values:
                continue
            energy = float(atom.values[key])
            known, place = found.setdefault(atom.number, (energy, atom.where))
            if abs(known - energy) > ENERGY_STEP:
                raise DataError(
                    f"{place} and {atom.where} are free atoms of one element with the "
                    f"energies {known} and {energy} eV; keep the one that is meant"
                )
        return {number: energy for number, (energy, _) in sorted(found.items())}


def scan_files(files: Sequence[Path]) -> Scan:
    """Read all frames once.

    Args:
        files: Files that ASE reads.

    Raises:
        DataError: If a file is damaged, or there is no frame at all.
    """
    scan = Scan()
    for path in files:
        structures, named, groups = [], [], []
        for index, atoms in enumerate(read_frames(path)):
            structures.append(_look_at(scan, atoms, f"frame {index} of {path}"))
            named.append(str(atoms.info.get("split", "")))
            groups.append(str(atoms.info.get("group", "")))
        scan.files.append(
            FileFrames(
                path=path,
                structures=tuple(structures),
                named=tuple(named),
                groups=tuple(groups),
            )
        )
    if scan.n_frames == 0:
        names = ", ".join(str(path) for path in files[:5])
        raise DataError(f"there are no frames in {names}")
    return scan


def _look_at(scan: Scan, atoms: Atoms, where: str) -> str:
    """Note what a frame holds; return its hash, or nothing for a free atom."""
    values = named_values(atoms)
    scan.counts.update(values.keys())
    scan.n_charged += _is_charged(atoms.info)
    if is_free_atom(atoms):
        number = int(atoms.numbers[0])
        scan.free_atoms.append(FreeAtom(where=where, number=number, values=values))
        return ""
    if len(atoms) == 0:
        return ""
    if scan.domains.total() < _CLASSIFIED:
        try:
            kind = classify(atoms, find_bonds(atoms))
        except UnsupportedSystemError:
            pass  # such a frame is skipped, with its reason, when it is read
        else:
            scan.domains[_DOMAINS[kind]] += 1
    if not np.isfinite(atoms.positions).all():
        return where  # likewise
    cell = np.asarray(atoms.cell.array) if atoms.pbc.any() else np.zeros((3, 3))
    system = molecule_sample(
        atoms.numbers, atoms.positions, energy=None, forces=None, source="", group=""
    )
    return structure_hash(replace(system, cell=cell))


def is_free_atom(atoms: Atoms) -> bool:
    """Return whether a frame holds one atom and nothing that it could interact with.

    Args:
        atoms: A frame.
    """
    if len(atoms) != 1:
        return False
    if atoms.info.get("config_type") == ISOLATED_ATOM or not atoms.pbc.any():
        return True
    cell = atoms.cell.complete()
    heights = 1 / np.linalg.norm(cell.reciprocal().array, axis=1)
    return bool((heights[atoms.pbc] >= MIN_BOX).all())


def _is_charged(info: Mapping[str, Any]) -> bool:
    charge = info.get("charge", 0)
    spin = info.get("spin", info.get("multiplicity", 1))
    has_charge = isinstance(charge, _NUMBER) and charge != 0
    return bool(has_charge or (isinstance(spin, _NUMBER) and spin > 1))
