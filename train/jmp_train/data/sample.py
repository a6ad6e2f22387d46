"""Sample: what every data set yields, with its units and shapes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int, Integer

from jmp_calc.errors import DataError

_HASH_STEPS_PER_ANGSTROM = 1e4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """One labelled system."""

    numbers: Int[np.ndarray, " atoms"]
    """Atomic numbers."""
    positions: Float[np.ndarray, "atoms 3"]
    """Float64, Å."""
    cell: Float[np.ndarray, "3 3"]
    """Rows are lattice vectors, float64, Å; zeros without periodic boundaries."""
    pbc: Bool[np.ndarray, " 3"]
    """Periodic directions."""
    energy: float
    """Total energy at the level of theory of the set, eV."""
    forces: Float[np.ndarray, "atoms 3"] | None
    """Float64, eV/Å, without any constraint applied; None if not labelled."""
    tags: Int[np.ndarray, " atoms"]
    """OC20 convention: 0 sub-surface (fixed), 1 surface, 2 adsorbate or molecule."""
    source: str
    """Key of ``DATASETS``."""
    group: str
    """Molecule, polymorph or part of a trajectory that must not be split."""
    task: str = ""
    """Key of ``TASKS``; empty until the sample is given to one."""

    def __post_init__(self) -> None:
        """Check that labels and structure are finite and fit together."""
        n_atoms = len(self.numbers)
        name = f"sample {self.group!r} of {self.source!r}"
        if n_atoms == 0:
            raise DataError(f"{name} has no atoms; skip it in the reader of the set")
        shapes = {"positions": (n_atoms, 3), "tags": (n_atoms,), "cell": (3, 3)}
        if self.forces is not None:
            shapes["forces"] = (n_atoms, 3)
        for field, shape in shapes.items():
            value = getattr(self, field)
            if value.shape != shape:
                raise DataError(
                    f"{field} of {name} have shape {value.shape}; it must be {shape} "
                    f"for {n_atoms} atoms"
                )
        labels = [self.positions, self.cell, np.asarray(self.energy)]
        if self.forces is not None:
            labels.append(self.forces)
        if not all(np.isfinite(label).all() for label in labels):
            raise DataError(
                f"{name} has a position or label that is not finite; skip it in the "
                "reader of the set"
            )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def is_periodic(self) -> bool:
        """Whether any direction is periodic."""
        return bool(self.pbc.any())

    def to_atoms(self) -> Atoms:
        """Return the structure (with tags, without labels) for ASE."""
        return Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            tags=self.tags,
        )


def molecule_sample(
    numbers: Integer[np.ndarray, " atoms"],
    positions: Float[np.ndarray, "atoms 3"],
    *,
    energy: float,
    forces: Float[np.ndarray, "atoms 3"] | None,
    source: str,
    group: str,
) -> Sample:
    """Return a sample without periodic boundaries; all tags are 2.

    Args:
        numbers: Atomic numbers.
        positions: Å.
        energy: eV.
        forces: eV/Å, or None.
        source: Key of ``DATASETS``.
        group: What must not be split.
    """
    return Sample(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.asarray(positions, dtype=np.float64),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=float(energy),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
        tags=np.full(len(numbers), 2, dtype=np.int64),
        source=source,
        group=group,
    )


def hill_formula(numbers: Integer[np.ndarray, " atoms"]) -> str:
    """Return the formula in Hill order, such as C2H6O.

    Args:
        numbers: Atomic numbers.
    """
    return _hill_formula(tuple(np.sort(numbers).tolist()))


@lru_cache(maxsize=4096)
def _hill_formula(numbers: tuple[int, ...]) -> str:
    # Kept, because fragments of molecules are asked for the same few formulas.
    return str(Atoms(numbers=numbers).get_chemical_formula(mode="hill"))


def structure_hash(sample: Sample) -> str:
    """Return a name for the structure that ignores labels, source and translation.

    It is the SHA-256 of the atomic numbers in order, of the positions relative to the
    first atom in steps of 1e-4 Å, and of the cell likewise. Two copies of a frame in
    different sets have the same name; a rotated copy does not.
    """
    relative = sample.positions - sample.positions[:1]
    digest = hashlib.sha256(np.ascontiguousarray(sample.numbers, dtype="<i8").tobytes())
    for value in (relative, sample.cell):
        steps = np.rint(value * _HASH_STEPS_PER_ANGSTROM)
        digest.update(steps.astype("<i8").tobytes())
    return digest.hexdigest()
