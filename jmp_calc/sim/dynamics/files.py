"""What a run leaves on disk: trajectory, CSV of observables, final structure, summary.

Every file is valid after every write: a record that was cut off (interrupt, full disk)
is removed or never becomes visible, and the summary is replaced in one step.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from filelock import FileLock, Timeout

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import unfinished
from jmp_calc.sim.dynamics.observables import Observables, Snapshot
from jmp_calc.sim.dynamics.settings import TRAJECTORY_FORMATS
from jmp_calc.sim.output import (
    LineFile,
    check_new,
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
    checkpoint: Path
    """State to go on from; replaced while the run goes."""

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
            checkpoint=folder / f"{stem}-checkpoint.npz",
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


def is_running(summary: Path) -> bool:
    """Return whether a summary is that of a run that goes on, or was killed.

    Args:
        summary: Of the run.
    """
    try:
        return summary.read_text(encoding="utf-8").startswith("status: running")
    except (OSError, UnicodeDecodeError):
        return False


@contextlib.contextmanager
def alone(files: MDFiles) -> Iterator[None]:
    """Refuse a second run that writes the same files; the folder is made if missing.

    The system frees the lock however the process ends.

    Args:
        files: Where a run writes.

    Raises:
        ArgumentError: If another run is writing there.
        DataError: If nothing can be written there.
    """
    path = files.summary.with_name(f".{files.summary.stem}.lock")
    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ArgumentError(
                f"another run is writing {files.summary.parent}; wait for it, or "
                "choose another --out"
            ) from None
    try:
        _remove_leftovers(files)
        yield
    finally:
        lock.release()


def _remove_leftovers(files: MDFiles) -> None:
    """Remove what a killed run had not finished writing; nobody else writes now."""
    paths: tuple[Path, ...] = astuple(files)
    for path in paths:
        for leftover in path.parent.glob(unfinished(path)):
            leftover.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """How much of the files of an earlier part of a run stays; the rest is redone."""

    n_frames: int
    """Frames of the trajectory."""
    trajectory_bytes: int
    """Bytes of the trajectory, if it is text."""
    log_bytes: int
    """Bytes of the CSV."""


class ObservableLog:
    """CSV of observables; floats are written so that they read back exactly."""

    def __init__(self, path: Path, *, overwrite: bool, kept: Kept | None) -> None:
        keep_bytes = None if kept is None else kept.log_bytes
        self._file = LineFile(path, overwrite=overwrite, keep_bytes=keep_bytes)

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self._file.n_bytes

    def write(self, row: Observables) -> None:
        """Append one row, the first one with the header."""
        known = {
            name: value for name, value in asdict(row).items() if value is not None
        }
        header = "" if self._file.n_bytes else ",".join(known) + "\n"
        self._file.append(header + ",".join(map(repr, known.values())) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_observables(path: Path) -> list[Observables]:
    """Read the CSV of a run.

    Args:
        path: Written by :class:`ObservableLog`.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [
                Observables(
                    step=int(row.pop("step")),
                    **{name: float(value) for name, value in row.items()},
                )
                for row in csv.DictReader(lines)
            ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"cannot read {path} ({error}); it was changed since the run stopped: "
            "start a new run from the last frame"
        ) from error


def frame_from(template: Atoms, shot: Snapshot) -> Atoms:
    """Return a structure that carries its own results, ready to be written.

    Args:
        template: The system as it is written; see :meth:`motion.Motion.template`.
        shot: Its state at one step.
    """
    frame: Atoms = template.copy()
    frame.set_positions(shot.positions, apply_constraint=False)
    frame.set_momenta(shot.momenta, apply_constraint=False)
    frame.set_cell(shot.cell, apply_constraint=False)
    frame.info["step"] = shot.observables.step
    frame.info["time_ps"] = shot.observables.time_ps
    results = {"energy": shot.energy, "forces": shot.forces}
    if shot.stress is not None:
        results["stress"] = shot.stress
    frame.calc = SinglePointCalculator(frame, **results)
    return frame
