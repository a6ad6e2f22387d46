"""Frames: the labelled geometries of one molecule, as the molecule files hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample, molecule_sample


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frames:
    """Consecutive geometries of one molecule with their labels, in eV and Å."""

    numbers: Integer[np.ndarray, " atoms"]
    """Atomic numbers."""
    positions: Float[np.ndarray, "frames atoms 3"]
    """Å."""
    energy: Float[np.ndarray, " frames"]
    """eV; not finite where it was not computed."""
    forces: Float[np.ndarray, "frames atoms 3"] | None
    """eV/Å; None: the level has none."""
    first: int = 0
    """Number of the first frame within the molecule."""

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.energy)

    @property
    def is_labelled(self) -> Bool[np.ndarray, " frames"]:
        """Whether energy and forces of each frame were computed."""
        is_finite: Bool[np.ndarray, " frames"] = np.isfinite(self.energy)
        if self.forces is not None:
            is_finite &= np.isfinite(self.forces).all(axis=(1, 2))
        return is_finite

    def sample(self, row: int, *, source: str, group: str, name: str = "") -> Sample:
        """Return one frame as a sample.

        Args:
            row: Its place here.
            source: Name of the set.
            group: What must not be split.
            name: What the set calls the frame.
        """
        return molecule_sample(
            self.numbers,
            self.positions[row],
            energy=float(self.energy[row]),
            forces=None if self.forces is None else self.forces[row],
            source=source,
            group=group,
            name=name,
        )

    def labelled_samples(self, *, source: str, group: str) -> Iterator[Sample]:
        """Yield the frames that have labels.

        Args:
            source: Name of the set.
            group: What must not be split.
        """
        for row in np.flatnonzero(self.is_labelled):
            yield self.sample(int(row), source=source, group=group)


def check_shapes(where: str, n_atoms: int, **arrays: np.ndarray | None) -> None:
    """Check that arrays of a molecule fit together.

    Args:
        where: File and group, for the error.
        n_atoms: Number of atoms.
        arrays: ``positions``, ``energy``, ``forces``, as in :class:`Frames`.

    Raises:
        DataError: If one has another shape than the others ask for.
    """
    positions = arrays["positions"]
    n_frames = 0 if positions is None else len(positions)
    wanted = {
        "positions": (n_frames, n_atoms, 3),
        "energy": (n_frames,),
        "forces": (n_frames, n_atoms, 3),
    }
    for name, array in arrays.items():
        if array is not None and array.shape != wanted[name]:
            raise DataError(
                f"{where}: {name} have shape {array.shape}; they must have "
                f"{wanted[name]} for {n_frames} frames of {n_atoms} atoms"
            )
