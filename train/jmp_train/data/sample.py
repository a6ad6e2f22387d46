"""Sample: what every data set yields, with its units and shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    energy: float | None
    """Total energy at the level of theory of the set, eV; None if not labelled."""
    forces: Float[np.ndarray, "atoms 3"] | None
    """Float64, eV/Å, without any constraint applied; None if not labelled."""
    stress: Float[np.ndarray, "3 3"] | None = None
    """Float64, eV/Å³, symmetric, tension positive; None if not labelled."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """Other labels of the system by name, in the units of the set (a class: its
    number); one that is absent is not labelled."""
    tags: Int[np.ndarray, " atoms"]
    """OC20 convention: 0 sub-surface (fixed), 1 surface, 2 adsorbate or molecule."""
    source: str
    """Key of ``DATASETS``, or what else errors are reported by."""
    group: str
    """Molecule, polymorph or part of a trajectory that must not be split."""
    name: str = ""
    """What the set calls the system, such as ``random123/frame5`` or ``gdb 1``."""
    fixed: Bool[np.ndarray, " atoms"] | None = None
    """Atoms held fixed in the source; None: those with tag 0."""
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
        if self.stress is not None:
            shapes["stress"] = (3, 3)
        if self.fixed is not None:
            shapes["fixed"] = (n_atoms,)
        for part, shape in shapes.items():
            value = getattr(self, part)
            if value.shape != shape:
                raise DataError(
                    f"{part} of {name} have shape {value.shape}; it must be {shape} "
                    f"for {n_atoms} atoms"
                )
        labels = [self.positions, self.cell, self.energy, self.forces, self.stress]
        labels += self.targets.values()
        if not all(np.isfinite(x).all() for x in labels if x is not None):
            raise DataError(
                f"{name} has a position or label that is not finite; skip it in the "
                "reader of the set"
            )

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.numbers)

    @property
    def is_fixed(self) -> Bool[np.ndarray, " atoms"]:
        """Atoms that were held fixed; their forces are not scored."""
        return self.tags == 0 if self.fixed is None else self.fixed

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
    energy: float | None,
    forces: Float[np.ndarray, "atoms 3"] | None,
    source: str,
    group: str,
    name: str = "",
    targets: Mapping[str, float] | None = None,
) -> Sample:
    """Return a sample without periodic boundaries; all tags are 2.

    Args:
        numbers: Atomic numbers.
        positions: Å.
        energy: eV, or None.
        forces: eV/Å, or None.
        source: Key of ``DATASETS``.
        group: What must not be split.
        name: What the set calls the system.
        targets: Other labels by name; None: there are none.
    """
    return Sample(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.asarray(positions, dtype=np.float64),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=None if energy is None else float(energy),
        forces=None if forces is None else np.asarray(forces, dtype=np.float64),
        tags=np.full(len(numbers), 2, dtype=np.int64),
        source=source,
        group=group,
        name=name,
        targets={} if targets is None else dict(targets),
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
