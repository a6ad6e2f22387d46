"""OC20 excerpt: relaxations of an adsorbate on a slab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import Trajectory
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample

MAX_FORCE = 20.0
"""Largest force on an atom that is kept, eV/Å; line searches overshoot beyond it."""

FRAMES_PER_GROUP = 10
"""Consecutive frames of a relaxation that are held out together."""

_ADSORBATE_ELEMENTS = (1, 6, 7, 8)


def read(root: Path) -> Iterator[Sample]:
    """Yield the frames with moderate forces, relaxation by relaxation.

    Args:
        root: Data root.

    Raises:
        DataError: If the folder has no trajectory.
    """
    paths = sorted(find_file(root, "oc20_relaxations").glob("*.traj"))
    if not paths:
        raise DataError(f"there are no .traj files in {root / 'oc20_relaxations'}")
    for path in paths:
        with Trajectory(path) as frames:
            for index, atoms in enumerate(frames):
                group = f"{path.stem}/{index // FRAMES_PER_GROUP}"
                sample = _frame_sample(atoms, group)
                if sample is not None:
                    yield sample


def _frame_sample(atoms: Atoms, group: str) -> Sample | None:
    forces = atoms.get_forces(apply_constraint=False)
    if np.linalg.norm(forces, axis=1).max() >= MAX_FORCE:
        return None
    return Sample(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        energy=float(atoms.get_potential_energy(apply_constraint=False)),
        forces=forces.astype(np.float64),
        tags=rebuild_tags(atoms),
        source="oc20_relaxations",
        group=group,
    )


def rebuild_tags(atoms: Atoms) -> Int[np.ndarray, " atoms"]:
    """Return tags in the OC20 convention, which these files have lost.

    The adsorbate (2) is the run of H, C, N and O atoms at the end; of the others,
    fixed atoms are sub-surface (0) and free ones surface (1).

    Args:
        atoms: A slab with its FixAtoms constraint and the adsorbate last.

    Raises:
        DataError: If that makes no sense for the structure.
    """
    start = len(atoms)
    while start > 0 and atoms.numbers[start - 1] in _ADSORBATE_ELEMENTS:
        start -= 1
    fixed = [c.get_indices() for c in atoms.constraints if isinstance(c, FixAtoms)]
    tags = np.ones(len(atoms), dtype=np.int64)
    for indices in fixed:
        tags[indices] = 0
    slab_has_adsorbate_element = np.isin(atoms.numbers[:start], _ADSORBATE_ELEMENTS)
    if start in (0, len(atoms)) or not fixed or (tags[start:] == 0).any():
        raise DataError(
            f"cannot rebuild the tags of {atoms.get_chemical_formula()}: it needs "
            "fixed slab atoms first and a free adsorbate of H, C, N, O last"
        )
    if slab_has_adsorbate_element.any():
        raise DataError(
            f"cannot rebuild the tags of {atoms.get_chemical_formula()}: the slab "
            "holds H, C, N or O, so the start of the adsorbate is unknown"
        )
    tags[start:] = 2
    return tags


INFO = DatasetInfo(
    name="oc20_relaxations",
    folder="oc20_relaxations",
    read=read,
    title="OC20 (16 relaxations)",
    level_of_theory="RPBE, VASP",
    licence="MIT (the full set: CC-BY-4.0)",
    units="eV (total energy), eV/Å, Å",
    split="group",
    citation="Chanussot et al., ACS Catal. 11, 6059 (2021)",
    notes=(
        "Frames with a force of 20 eV/Å or more are left out; tags are rebuilt. Held "
        "out are blocks of 10 consecutive frames: their neighbours in time are in "
        "training, so the error is one of interpolation along known relaxations."
    ),
)
"""The OC20 relaxations."""
