"""What a run leaves on disk: trajectory, CSV of observables, final structure, summary.

Every file is valid after every write: a record that was cut off (interrupt, full disk)
is removed or never becomes visible, and the summary is replaced in one step.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import TrajectoryWriter

from jmp_calc.sim.dynamics.observables import Observables, Snapshot
from jmp_calc.sim.dynamics.settings import TRAJECTORY_FORMATS
from jmp_calc.sim.output import (
    LineFile,
    check_new,
    extxyz_text,
    without_results,
    writing,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MDFiles:
    """Where a run writes."""

    trajectory: Path
    """Frames with energy, forces and momenta."""
    observables: Path
    """CSV, one row per logged step."""
    final: Path
    """Last structure, extended XYZ."""
    summary: Path
    """Inputs, settings, versions and results, YAML."""

    @classmethod
    def under(cls, folder: str | Path, stem: str, trajectory_format: str) -> MDFiles:
        """Name the files of a run.

        Args:
            folder: Folder of all files.
            stem: First part of every name.
            trajectory_format: Key of ``TRAJECTORY_FORMATS``.
        """
        folder = Path(folder)
        ending = TRAJECTORY_FORMATS[trajectory_format]
        return cls(
            trajectory=folder / f"{stem}-traj{ending}",
            observables=folder / f"{stem}-md.csv",
            final=folder / f"{stem}-final.xyz",
            summary=folder / f"{stem}-summary.yml",
        )

    def check(self, *, overwrite: bool) -> None:
        """See to it that no existing file is replaced unasked.

        Args:
            overwrite: Whether existing files may be replaced.

        Raises:
            ArgumentError: If a file exists and may not be replaced.
        """
        paths: tuple[Path, ...] = astuple(self)
        check_new(paths, overwrite=overwrite)


class ObservableLog:
    """CSV of observables; floats are written so that they read back exactly."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._file = LineFile(path, overwrite=overwrite)
        self._pending_header = ",".join(f.name for f in fields(Observables)) + "\n"

    def write(self, row: Observables) -> None:
        """Append one row, the first one with the header."""
        text = ",".join(repr(value) for value in astuple(row)) + "\n"
        self._file.append(self._pending_header + text)
        self._pending_header = ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class XYZTrajectory:
    """Extended XYZ trajectory."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._file = LineFile(path, overwrite=overwrite)
        self.n_frames = 0

    def write(self, frame: Atoms) -> None:
        """Append one frame."""
        self._file.append(extxyz_text(frame))
        self.n_frames += 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ASETrajectory:
    """ASE's own trajectory format; exact."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self.n_frames = 0
        self._is_cut = False
        with writing(path):
            # ASE's writer always replaces; this one claims the name
            path.open("wb" if overwrite else "xb").close()
            self._writer = TrajectoryWriter(str(path), "w")

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


def open_trajectory(
    path: Path, *, overwrite: bool = False
) -> XYZTrajectory | ASETrajectory:
    """Return the writer for the ending of a path.

    Args:
        path: File to make.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ArgumentError: If the file exists and may not be replaced.
        DataError: If it cannot be made.
    """
    if path.suffix == TRAJECTORY_FORMATS["xyz"]:
        return XYZTrajectory(path, overwrite=overwrite)
    return ASETrajectory(path, overwrite=overwrite)


def frame_from(template: Atoms, shot: Snapshot) -> Atoms:
    """Return a structure that carries its own results, ready to be written.

    Args:
        template: The system with the constraints that the user gave it.
        shot: Its state at one step.
    """
    frame = without_results(template)
    frame.set_positions(shot.positions, apply_constraint=False)
    frame.set_momenta(shot.momenta, apply_constraint=False)
    frame.info["step"] = shot.observables.step
    frame.info["time_ps"] = shot.observables.time_ps
    frame.calc = SinglePointCalculator(frame, energy=shot.energy, forces=shot.forces)
    return frame
