"""Frames of a trajectory file, one after another, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.errors import READ_ERRORS, DataError
from jmp_calc.sim.trajectories.h5md import ENDINGS as H5MD_ENDINGS
from jmp_calc.sim.trajectories.h5md_frames import H5MDFrames

NPZ_NAMES = (("nuclear_charges", "coords"), ("z", "R"))
"""Arrays of atomic numbers and of positions (angstrom) in npz files: of rMD17, and of
MD17, MD22 and sGDML."""


@dataclass(kw_only=True, slots=True)
class FrameFile:
    """A trajectory file, of which some frames are used.

    Frames are read when they are asked for, so that memory does not grow with the
    length of the file (npz files are read whole).
    """

    path: Path
    """ASE's .traj, extended XYZ, H5MD (.h5), npz of rMD17 and MD22, or any other format
    of ASE with several frames."""
    start: int = 0
    """First frame used."""
    stop: int | None = None
    """First frame not used any more; None: to the end."""
    stride: int = 1
    """Use every n-th frame."""
    notes: list[str] = field(default_factory=list)
    """What was found to be wrong with the file while it was read."""

    def __iter__(self) -> Iterator[tuple[int, Atoms]]:
        """Yield the number of each frame in the file and the frame.

        Raises:
            DataError: If there is no such file, no frame can be read, or the atoms are
                not the same in all.
        """
        if not self.path.is_file():
            problem = "is a folder" if self.path.is_dir() else "does not exist"
            raise DataError(f"{self.path} {problem}; give a trajectory file")
        first: Atoms | None = None
        number = self.start
        frames = self._read()
        while (frame := self._next(frames, number, first)) is not None:
            if first is None:
                first = frame
            self._check(frame, first, number)
            yield number, frame
            number += self.stride
        if first is None:
            raise DataError(
                f"{self.path} has no frames from frame {self.start} on; give a "
                "trajectory with more frames or a smaller --start"
            )

    @property
    def n_frames(self) -> int:
        """Number of frames used if it is known without reading, else 0."""
        count = self._count()
        return len(range(count)[self.start : self.stop : self.stride])

    def _next(
        self, frames: Iterator[Atoms], number: int, first: Atoms | None
    ) -> Atoms | None:
        from ase.io import ParseError
        from ase.io.formats import UnknownFileTypeError

        try:
            return next(frames, None)
        except (*READ_ERRORS, ParseError, UnknownFileTypeError) as error:
            reason = f"{type(error).__name__}: {error}"
            if first is None:
                raise DataError(
                    f"cannot read frame {number} of {self.path} ({reason}); give a "
                    ".traj, extended XYZ, H5MD or rMD17 npz file, or another format "
                    "of ASE"
                ) from error
            self.notes.append(
                f"the file ends within frame {number} ({reason}); the frames before "
                "are used"
            )
            return None

    def _check(self, frame: Atoms, first: Atoms, number: int) -> None:
        if len(frame) == 0:
            raise DataError(f"frame {number} of {self.path} holds no atoms")
        if not np.array_equal(frame.numbers, first.numbers):
            raise DataError(
                f"frame {number} of {self.path} has other atoms than frame "
                f"{self.start} ({frame.get_chemical_formula()} and "
                f"{first.get_chemical_formula()}), or in another order; give a "
                "trajectory of one system"
            )
        if not np.isfinite(frame.positions).all():
            raise DataError(
                f"frame {number} of {self.path} has positions that are not finite; "
                f"leave it and what follows out with --stop {number}"
            )

    def _count(self) -> int:
        kind = self.path.suffix.lower()
        if kind not in (".traj", ".npz", *H5MD_ENDINGS):
            return 0
        try:
            if kind == ".traj":
                from ase.io.trajectory import TrajectoryReader

                with TrajectoryReader(str(self.path)) as frames:
                    return len(frames)
            if kind == ".npz":
                return len(_npz_arrays(self.path)[1])
            with H5MDFrames(self.path) as frames:
                return len(frames)
        except READ_ERRORS:
            # reading tells what is wrong
            return 0

    def _read(self) -> Iterator[Atoms]:
        kind = self.path.suffix.lower()
        if kind == ".npz":
            yield from self._read_npz()
        elif kind in H5MD_ENDINGS:
            with H5MDFrames(self.path) as frames:
                self.notes += frames.notes
                yield from self._chosen(frames)
        elif kind == ".traj":
            from ase.io.trajectory import TrajectoryReader

            with TrajectoryReader(str(self.path)) as frames:
                yield from self._chosen(frames)
        else:
            import ase.io

            # readers differ in the slices that they know, not in ":"
            every = ase.io.iread(self.path, index=":", do_not_split_by_at_sign=True)
            yield from islice(every, self.start, self.stop, self.stride)

    def _chosen(self, frames: Any) -> Iterator[Atoms]:
        for number in range(len(frames))[self.start : self.stop : self.stride]:
            yield frames[number]

    def _read_npz(self) -> Iterator[Atoms]:
        numbers, positions = _npz_arrays(self.path)
        for place in positions[self.start : self.stop : self.stride]:
            yield Atoms(numbers=numbers, positions=place)


def _npz_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        for numbers, positions in NPZ_NAMES:
            if numbers in arrays and positions in arrays:
                return arrays[numbers].astype(int), arrays[positions].astype(float)
        raise DataError(
            f"{path} has the arrays {', '.join(arrays)}; it needs nuclear_charges and "
            "coords (rMD17), or z and R (MD17, MD22)"
        )
