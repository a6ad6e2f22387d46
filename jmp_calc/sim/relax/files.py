"""What relaxations leave on disk, and how it is written while they go."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from ase import Atoms

from jmp_calc.sim.output import LineFile, save_structure
from jmp_calc.sim.relax.settings import TRAJECTORY_ENDINGS
from jmp_calc.sim.relax.walker import RelaxStep
from jmp_calc.sim.trajectories.writers import TrajectoryWriting, open_trajectory


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxFiles:
    """Where the relaxation of one structure is written."""

    steps: Path
    """CSV, one row per step."""
    final: Path
    """Last structure, extended XYZ."""
    trajectory: Path | None
    """All steps; None: not asked for."""

    @classmethod
    def under(cls, folder: Path, name: str, trajectory_format: str) -> RelaxFiles:
        """Name the files.

        Args:
            folder: Folder of all files.
            name: First part of every name.
            trajectory_format: Key of ``TRAJECTORY_ENDINGS``.
        """
        ending = TRAJECTORY_ENDINGS[trajectory_format]
        return cls(
            steps=folder / f"{name}-relax.csv",
            final=folder / f"{name}-final.xyz",
            trajectory=None if ending is None else folder / f"{name}-relax{ending}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CommonFiles:
    """Where the outcome of all relaxations of one call is written."""

    table: Path
    """CSV, one row per structure."""
    summary: Path
    """Inputs, settings, versions and results, YAML."""
    finals: Path | None
    """All last structures in the order of the input; None if there is only one."""

    @classmethod
    def under(cls, folder: Path, stem: str, *, is_one: bool) -> CommonFiles:
        """Name the files.

        Args:
            folder: Folder of all files.
            stem: First part of every name.
            is_one: Whether there is only one structure.
        """
        return cls(
            table=folder / f"{stem}-table.csv",
            summary=folder / f"{stem}-summary.yml",
            finals=None if is_one else folder / f"{stem}-relaxed.xyz",
        )


def all_files(
    folder: Path, stem: str, names: Sequence[str], trajectory_format: str
) -> list[Path]:
    """Return every file that a call makes.

    Args:
        folder: Folder of all files.
        stem: First part of the names of the common files.
        names: Structures.
        trajectory_format: Key of ``TRAJECTORY_ENDINGS``.
    """
    common = CommonFiles.under(folder, stem, is_one=len(names) == 1)
    paths = list(astuple(common))
    for name in names:
        paths += astuple(RelaxFiles.under(folder, name, trajectory_format))
    return [path for path in paths if path is not None]


class StepWriter:
    """Writes the steps of one structure while it is relaxed.

    That no file is replaced unasked has been checked before.
    """

    def __init__(self, files: RelaxFiles) -> None:
        """Open the files.

        Args:
            files: Where to; the folder exists.
        """
        self._files = files
        self._is_open = True
        self._table = LineFile(files.steps, overwrite=True)
        self._table.append(csv_row([field.name for field in fields(RelaxStep)]))
        self._trajectory: TrajectoryWriting | None = None
        if files.trajectory is not None:
            self._trajectory = open_trajectory(files.trajectory, overwrite=True)

    def write(self, step: RelaxStep, frame: Atoms) -> None:
        """Append one step.

        Args:
            step: Its numbers.
            frame: Its geometry, with results.
        """
        self._table.append(csv_row(astuple(step)))
        if self._trajectory is not None:
            self._trajectory.write(frame)

    def close(self, final: Atoms | None) -> None:
        """Write the last structure and close the files; may be called again.

        Args:
            final: The last structure; None: an error ended the work.
        """
        if self._is_open:
            self._is_open = False
            self._table.close()
            if self._trajectory is not None:
                self._trajectory.close()
        if final is not None:
            save_structure(final, self._files.final)


class GrowingTable:
    """A CSV that gets a row as soon as a structure is done; made with the first."""

    def __init__(self, path: Path) -> None:
        """Take the name of the file.

        Args:
            path: The file; its folder exists.
        """
        self._path = path
        self._file: LineFile | None = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Args:
            row: Column -> value; None is left empty.
        """
        text = csv_row(row.values())
        if self._file is None:
            self._file = LineFile(self._path, overwrite=True)
            text = csv_row(row) + text
        self._file.append(text)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def csv_row(values: Iterable[object]) -> str:
    """Return one line of a CSV; floats are written so that they read back exactly.

    Args:
        values: What is in it; None is left empty.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
