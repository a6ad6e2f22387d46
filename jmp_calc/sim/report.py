"""What a run leaves on disk: trajectory, CSV of observables, final structure, summary.

Every file is valid after every write: a record that was cut off (interrupt, full disk)
is removed or never becomes visible, and the summary is replaced in one step.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.io.trajectory import TrajectoryWriter

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.sim.observables import Observables, Snapshot
from jmp_calc.sim.settings import TRAJECTORY_FORMATS
from jmp_calc.versions import installed_versions

PACKAGES = ("jmp-calc", "ase", "numpy", "scipy", "matscipy", "torch")
"""Packages whose versions a summary states if they are installed."""


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
        existing = [path for path in paths if path.exists()]
        if existing and not overwrite:
            raise _exists(existing[0])


def _exists(path: Path) -> ArgumentError:
    return ArgumentError(
        f"{path} exists and would be replaced; choose another --out "
        "(out=) or allow it with --overwrite (overwrite=True)"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write into an error that names the file and what to do.

    Raises:
        ArgumentError: If a file exists that the block wanted to make.
        DataError: If the block raised another ``OSError``.
    """
    try:
        yield
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free space there or "
            "choose another --out"
        ) from error


class LineFile:
    """A text file that grows by whole records only."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        with writing(path):
            self._file = path.open("wb" if overwrite else "xb", buffering=0)
        self._complete = 0

    def append(self, text: str) -> None:
        """Write one record through to the file, in place of one that was cut off."""
        data = text.encode()
        with writing(self.path):
            self._file.seek(self._complete)
            while data:
                data = data[self._file.write(data) :]
            self._complete = self._file.tell()

    def close(self) -> None:
        """Drop a record that was cut off, and close."""
        with self._file:
            if self._file.tell() != self._complete:
                self._file.truncate(self._complete)


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


def extxyz_text(frame: Atoms) -> str:
    """Return a structure as extended XYZ."""
    text = io.StringIO()
    write_extxyz(text, frame)
    return text.getvalue()


def frame_from(template: Atoms, shot: Snapshot) -> Atoms:
    """Return a structure that carries its own results, ready to be written.

    Entries of the input that look like results (``energy``, ``REF_forces``, ...) belong
    to another geometry and are left out; beside a calculator they would also make
    ASE's extended XYZ writer fail. So are ``info`` entries other than numbers, texts
    and vectors, and arrays with blank texts (PDB files have them), which would make
    extended XYZ unreadable; line breaks in texts become blanks.

    Args:
        template: The system with the constraints that the user gave it.
        shot: Its state at one step.
    """
    frame: Atoms = template.copy()
    for store in (frame.info, frame.arrays):
        for name in [name for name in store if _is_result(name)]:
            del store[name]
    frame.info = {
        key: " ".join(value.splitlines()) if isinstance(value, str) else value
        for key, value in frame.info.items()
        if _is_plain(value)
    }
    for name in [name for name in frame.arrays if not _is_column(frame.arrays[name])]:
        del frame.arrays[name]
    frame.set_positions(shot.positions, apply_constraint=False)
    frame.set_momenta(shot.momenta, apply_constraint=False)
    frame.info["step"] = shot.observables.step
    frame.info["time_ps"] = shot.observables.time_ps
    frame.calc = SinglePointCalculator(frame, energy=shot.energy, forces=shot.forces)
    return frame


def _is_result(name: str) -> bool:
    return not name.startswith("initial_") and name.endswith(tuple(all_properties))


def _is_plain(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "ifb"
    return isinstance(value, (bool, int, float, str, np.generic))


def _is_column(values: np.ndarray) -> bool:
    if values.dtype.kind == "U":
        return values.ndim == 1 and all(len(text.split()) == 1 for text in values)
    return values.ndim <= 2 and values.dtype.kind in "ifb"


def save_structure(frame: Atoms, path: Path) -> None:
    """Write one structure as extended XYZ, in one step.

    Raises:
        DataError: If it cannot be written.
    """
    _replace(path, extxyz_text(frame))


def save_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Write a summary as YAML, in one step.

    Args:
        summary: Plain data; numpy scalars and paths are converted.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    text = yaml.safe_dump(_plain(summary), sort_keys=False, allow_unicode=True)
    _replace(path, text)


def _replace(path: Path, text: str) -> None:
    with writing(path), replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return nested data as what YAML can hold without tags."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def versions() -> dict[str, str]:
    """Return the versions of Python and of what a run depends on, importing nothing."""
    return installed_versions(PACKAGES)
