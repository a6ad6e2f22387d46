"""Files of a phonon calculation: tables for people, and a folder for phonopy."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_CONSTANTS, write_FORCE_SETS

from jmp_calc.sim.output import save_text, writing
from jmp_calc.sim.phonons.analysis import Analysis, Bands, States, Thermal
from jmp_calc.sim.phonons.convergence import ConvergenceRow

PHONOPY_FILES = (
    "phonopy_params.yaml",
    "FORCE_SETS",
    "FORCE_CONSTANTS",
    "BORN",
    "band.yaml",
    "total_dos.dat",
    "projected_dos.dat",
    "thermal_properties.yaml",
)
"""What the folder for phonopy can hold, by phonopy's own names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhononFiles:
    """Where the results of one crystal are."""

    bands: Path
    """CSV of frequencies along the path."""
    dos: Path
    """CSV of densities of states."""
    thermal: Path
    """CSV of thermal properties."""
    convergence: Path
    """CSV of meshes and supercells."""
    relaxed: Path
    """Relaxed crystal, extended XYZ."""
    summary: Path
    """YAML summary."""
    phonopy: Path
    """Folder that phonopy can go on in."""

    @classmethod
    def under(cls, folder: Path, stem: str) -> PhononFiles:
        """Return the files of one crystal.

        Args:
            folder: Where they are.
            stem: First part of their names.
        """
        return cls(
            bands=folder / f"{stem}-bands.csv",
            dos=folder / f"{stem}-dos.csv",
            thermal=folder / f"{stem}-thermal.csv",
            convergence=folder / f"{stem}-convergence.csv",
            relaxed=folder / f"{stem}-relaxed.xyz",
            summary=folder / f"{stem}-summary.yml",
            phonopy=folder / f"{stem}-phonopy",
        )

    def all(self) -> list[Path]:
        """Return every file and folder that may be made."""
        return [getattr(self, field.name) for field in fields(self)]

    def remove_stale(self) -> None:
        """Remove what an earlier calculation left, so that all files belong together.

        Raises:
            DataError: If something cannot be removed.
        """
        for path in self.all():
            with writing(path):
                if path == self.phonopy:
                    for name in PHONOPY_FILES:
                        (path / name).unlink(missing_ok=True)
                else:
                    path.unlink(missing_ok=True)


def save_bands(bands: Bands, path: Path) -> None:
    """Write frequencies along the path as CSV.

    Args:
        bands: Frequencies.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    n_bands = bands.stacked.shape[1]
    head = ["line", "point", "distance_per_A", "q_a", "q_b", "q_c"]
    rows: list[Sequence[object]] = [
        [*head, *(f"band_{n + 1}_THz" for n in range(n_bands))]
    ]
    for number, line in enumerate(bands.path.lines):
        names = {
            0: bands.path.ends[number][0],
            len(line) - 1: bands.path.ends[number][1],
        }
        for place, q in enumerate(line):
            frequencies = bands.frequencies_THz[number][place]
            rows.append(
                [
                    number + 1,
                    names.get(place, ""),
                    f"{bands.distances[number][place]:.6f}",
                    *(f"{x:.6f}" for x in q),
                    *(f"{x:.6f}" for x in frequencies),
                ]
            )
    save_text(path, _csv(rows))


def save_states(states: States, path: Path) -> None:
    """Write densities of states as CSV.

    Args:
        states: Densities.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    columns = {
        "frequency_THz": states.frequency_THz,
        "total_per_THz": states.total,
        **{f"{s}_per_THz": values for s, values in states.by_element.items()},
    }
    save_text(path, _table(columns))


def save_thermal(thermal: Thermal, path: Path) -> None:
    """Write thermal properties as CSV.

    Args:
        thermal: Properties.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    columns = asdict(thermal)
    del columns["zero_point_energy"]
    save_text(path, _table(columns))


def save_convergence(rows: Sequence[ConvergenceRow], path: Path) -> None:
    """Write results of meshes and supercells as CSV.

    Args:
        rows: One per mesh or supercell.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    names = [field.name for field in fields(ConvergenceRow)]
    values = [[getattr(row, name) for name in names] for row in rows]
    save_text(path, _csv([names, *values]))


def save_phonopy(
    phonon: Phonopy, analysis: Analysis, folder: Path, born: Path | None
) -> None:
    """Write the folder that phonopy can go on in, whole or not at all.

    ``phonopy-load phonopy_params.yaml`` works there, as do ``phonopy.load`` and the
    plotting commands.

    Args:
        phonon: phonopy's object with forces, force constants and all results.
        analysis: Which results there are.
        folder: Folder to replace, or to fill.
        born: Born charges that were used; copied.

    Raises:
        DataError: If it cannot be written.
    """
    with writing(folder), _filled(folder) as new:
        phonon.save(new / "phonopy_params.yaml")
        if phonon.dataset is not None:
            write_FORCE_SETS(phonon.dataset, filename=new / "FORCE_SETS")
        constants = phonon.force_constants
        assert constants is not None
        write_FORCE_CONSTANTS(
            constants,
            filename=new / "FORCE_CONSTANTS",
            p2s_map=np.asarray(phonon.primitive.p2s_map),
        )
        if born is not None:
            shutil.copyfile(born, new / "BORN")
        phonon.write_yaml_band_structure(filename=new / "band.yaml")
        phonon.write_total_dos(filename=new / "total_dos.dat")
        phonon.write_projected_dos(filename=new / "projected_dos.dat")
        if analysis.thermal is not None:
            phonon.write_yaml_thermal_properties(
                filename=new / "thermal_properties.yaml"
            )


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Give a folder whose files move to another one at the end, or nowhere."""
    new = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        folder.mkdir(exist_ok=True)
        for path in sorted(new.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _table(columns: dict[str, np.ndarray]) -> str:
    rows = zip(*columns.values(), strict=True)
    return _csv([list(columns), *([f"{x:.8g}" for x in row] for row in rows)])


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
