"""Extended XYZ frames -> samples; the force column may have another name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ase
import numpy as np

from jmp_calc.errors import DataError
from jmp_train.data.layouts import ase_files
from jmp_train.data.sample import Sample, molecule_sample


def read_frames(
    path: Path, *, source: str, group: str, forces_key: str = "forces"
) -> Iterator[Sample]:
    """Yield the frames of a file in eV and Å.

    Args:
        path: File with ``energy`` in its comment lines.
        source: Key of ``DATASETS``.
        group: Group of every frame.
        forces_key: Name of the force column; frames without it have no forces.

    Raises:
        DataError: If the file is empty or damaged, or a frame has no energy.
    """
    for index, atoms in enumerate(ase_files.read_frames(path)):
        results = atoms.calc.results if atoms.calc is not None else {}
        if "energy" not in results:
            raise DataError(
                f"frame {index} of {path} has no energy; write energy=... in its "
                "comment line"
            )
        forces = results.get(forces_key, atoms.arrays.get(forces_key))
        sample = molecule_sample(
            atoms.numbers,
            atoms.positions,
            energy=results["energy"],
            forces=forces,
            source=source,
            group=group,
        )
        yield periodic(sample, atoms) if atoms.pbc.any() else sample


def periodic(sample: Sample, atoms: ase.Atoms) -> Sample:
    """Return the sample with the cell of ``atoms``; all tags become 1 (no adsorbate).

    Args:
        sample: A sample without cell.
        atoms: Holds the cell and the periodic directions.
    """
    return replace(
        sample,
        cell=np.asarray(atoms.cell.array, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=bool),
        tags=np.ones_like(sample.tags),
    )
