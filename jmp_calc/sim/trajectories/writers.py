"""Writes trajectories frame by frame; what was cut off is never seen."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import ulm
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from jmp_calc.errors import DataError
from jmp_calc.files import replacing
from jmp_calc.sim.output import LineFile, extxyz_text, writing
from jmp_calc.sim.trajectories.h5md import ENDINGS as H5MD_ENDINGS
from jmp_calc.sim.trajectories.h5md import H5MDWriter


class XYZTrajectory:
    """Extended XYZ trajectory.

    Args:
        path: File to make.
        overwrite: Whether an existing file may be replaced.
        keep_frames: Go on with an existing file after its first frames; None: make a
            new file.
        keep_bytes: Size of these frames.
    """

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        keep_frames: int | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        self._file = LineFile(path, overwrite=overwrite, keep_bytes=keep_bytes)
        self.n_frames = keep_frames or 0

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self._file.n_bytes

    def write(self, frame: Atoms) -> None:
        """Append one frame."""
        self._file.append(extxyz_text(frame))
        self.n_frames += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ASETrajectory:
    """ASE's own trajectory format; exact.

    Args:
        path: File to make.
        overwrite: Whether an existing file may be replaced.
        keep_frames: Go on with an existing file after its first frames; None: make a
            new file.
    """

    n_bytes = 0

    def __init__(
        self, path: Path, *, overwrite: bool, keep_frames: int | None = None
    ) -> None:
        self.path = path
        self.n_frames = keep_frames or 0
        self._is_cut = False
        with writing(path):
            if keep_frames is not None:
                _keep(path, keep_frames)
            else:
                # ASE's writer always replaces; this one claims the name
                path.open("wb" if overwrite else "xb").close()
            mode = "w" if keep_frames is None else "a"
            self._writer = TrajectoryWriter(str(path), mode)

    def write(self, frame: Atoms) -> None:
        """Append one frame; it counts once it is complete, and none follows if not."""
        if self._is_cut:
            return
        self._is_cut = True
        with writing(self.path):
            self._writer.write(frame)
        self._is_cut = False
        self.n_frames += 1

    def close(self) -> None:
        """Close the file; the writer's own close would complete a frame cut off."""
        self._writer.backend.fd.close()


def _keep(path: Path, number: int) -> None:
    """Drop the frames of a trajectory in ASE's format after the first ones."""
    try:
        with TrajectoryReader(str(path)) as frames:
            if len(frames) < number:
                raise DataError(
                    f"{path} has {len(frames)} frames and should have {number}; it was "
                    "changed since the run stopped: start a new run from the last frame"
                )
            if len(frames) == number:
                return
            with replacing(path) as new, TrajectoryWriter(str(new), "w") as shorter:
                for place in range(number):
                    shorter.write(frames[place])
    except ulm.InvalidULMFileError as error:
        raise DataError(f"cannot read the trajectory {path}: {error}") from error


TrajectoryWriting = XYZTrajectory | ASETrajectory | H5MDWriter
"""What writes a trajectory."""


def open_trajectory(
    path: Path,
    *,
    overwrite: bool = False,
    keep_frames: int | None = None,
    keep_bytes: int | None = None,
) -> TrajectoryWriting:
    """Return the writer for the ending of a path.

    Args:
        path: File to make: .xyz, .h5, or ASE's own format.
        overwrite: Whether an existing file may be replaced.
        keep_frames: Go on with an existing file after its first frames; None: make a
            new file.
        keep_bytes: Size of these frames, if the file is text.

    Raises:
        ArgumentError: If the file exists and may not be replaced, or a package for it
            is missing.
        DataError: If it cannot be made, or holds less than is to be kept.
    """
    if path.suffix in H5MD_ENDINGS:
        return H5MDWriter(path, overwrite=overwrite, keep_frames=keep_frames)
    if path.suffix == ".xyz":
        return XYZTrajectory(
            path, overwrite=overwrite, keep_frames=keep_frames, keep_bytes=keep_bytes
        )
    return ASETrajectory(path, overwrite=overwrite, keep_frames=keep_frames)
