"""Analyses trajectories and writes tables, pictures and a report."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.pictures import require_matplotlib, save_figure
from jmp_calc.sim.analysis.bonding import Bonding
from jmp_calc.sim.analysis.clock import Clock
from jmp_calc.sim.analysis.drawing import draw_section
from jmp_calc.sim.analysis.energies import Energies
from jmp_calc.sim.analysis.motion import Motion
from jmp_calc.sim.analysis.report import ReportPart, report_html
from jmp_calc.sim.analysis.sections import Fact, Section
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.analysis.structure import Structure
from jmp_calc.sim.output import check_new, save_summary, save_text, versions
from jmp_calc.sim.trajectories.frames import FrameFile

KEYS = (
    *("rdf", "distances", "msd", "vacf", "vdos"),
    *("energy", "stability", "bonds", "angles"),
)
"""Last parts of the names of files that may be made."""

Progress = Callable[[int, int], None]
"""Gets the frames done and their number, 0 if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrajectoryResult:
    """What one trajectory says."""

    path: Path
    """Its file."""
    name: str
    """First part of the names of its files."""
    facts: tuple[Fact, ...]
    """File, atoms, frames and time."""
    sections: tuple[Section, ...]
    """Results."""
    notes: tuple[str, ...]
    """What was wrong with the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisResult:
    """What was found and written."""

    trajectories: tuple[TrajectoryResult, ...]
    """In the order given."""
    report: Path
    """HTML."""
    summary: Path
    """YAML."""
    tables: tuple[Path, ...]
    """CSV files."""
    pictures: tuple[Path, ...]
    """Pictures; empty unless asked for."""


def analyze_trajectory(
    path: Path,
    settings: AnalysisSettings,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> TrajectoryResult:
    """Analyse one trajectory, frame by frame.

    Only diffusion and vibrations keep frames in memory (24 bytes per atom and frame
    each).

    Args:
        path: The file.
        settings: What and how.
        name: What it is called; by default the name of the file.
        progress: Called after each frame.

    Raises:
        ArgumentError: If settings do not fit the trajectory.
        DataError: If it cannot be read.
    """
    frames = FrameFile(
        path=path, start=settings.start, stop=settings.stop, stride=settings.stride
    )
    total = frames.n_frames
    collectors: _Collectors | None = None
    for done, (number, atoms) in enumerate(frames, 1):
        if collectors is None:
            collectors = _Collectors(path, atoms, number, settings)
        collectors.add(atoms, number)
        if progress is not None:
            progress(done, total)
    # a file without frames has raised an error by now
    assert collectors is not None
    return TrajectoryResult(
        path=path,
        name=path.stem if name is None else name,
        facts=tuple(collectors.facts()),
        sections=tuple(collectors.sections()),
        notes=(*frames.notes, *collectors.notes()),
    )


class _Collectors:
    """Hands the frames of one trajectory to the analyses that are asked for."""

    def __init__(
        self, path: Path, first: Atoms, number: int, settings: AnalysisSettings
    ) -> None:
        self._path = path
        self._first = first
        self._settings = settings
        self._clock = Clock(path, settings, first, number)
        self._unit = "ps" if self._clock.is_known else "frame"
        self._times: list[float] = []
        self._n_averaged = self._n_repeated = 0
        wants = settings.wants
        self._structure = Structure(first, settings) if wants("structure") else None
        self._energies = Energies(path, settings) if wants("energy") else None
        self._bonding = Bonding(first, settings) if wants("bonds") else None
        self._wants_motion = wants("msd") or wants("vdos")
        self._motion: Motion | None = None

    def add(self, atoms: Atoms, number: int) -> None:
        if self._clock.is_repeated(atoms, number):
            self._n_repeated += 1
            return
        time = self._clock.time(atoms, number)
        is_averaged = self._clock.is_equilibrated(time)
        when = float(number) if time is None else time
        self._times.append(when)
        if self._energies is not None:
            self._energies.add(atoms, time, is_averaged=is_averaged)
        if self._bonding is not None:
            self._bonding.add(atoms, when, self._unit, is_averaged=is_averaged)
        if not is_averaged:
            return
        self._n_averaged += 1
        if self._structure is not None:
            self._structure.add(atoms)
        if self._wants_motion:
            if self._motion is None:
                self._motion = Motion(atoms, self._settings)
            self._motion.add(atoms, time)

    def facts(self) -> list[Fact]:
        atoms = self._first
        axes = "".join(a for a, is_on in zip("xyz", atoms.pbc, strict=True) if is_on)
        facts = [
            Fact(name="file", value=str(self._path)),
            Fact(name="formula", value=atoms.get_chemical_formula()),
            Fact(name="atoms", value=len(atoms)),
            Fact(name="periodic", value=f"in {axes}" if axes else "no"),
            Fact(name="frames read", value=len(self._times)),
            Fact(name="frames averaged", value=self._n_averaged),
        ]
        if self._unit == "ps":
            duration = f"{self._times[0]:g} to {self._times[-1]:g} ps"
            facts.append(Fact(name="time", value=duration))
        return facts

    def notes(self) -> list[str]:
        if not self._n_repeated:
            return []
        return [
            f"{self._n_repeated} of the frames repeat the frame before, as where a run "
            "was resumed; they are left out"
        ]

    def sections(self) -> list[Section]:
        if self._n_averaged == 0:
            raise ArgumentError(
                f"equilibration_ps is {self._settings.equilibration_ps:g}, but the "
                f"frames of {self._path} end after "
                f"{self._times[-1] - self._times[0]:g} ps; give less"
            )
        found: list[Section] = []
        if self._energies is not None:
            found += self._energies.sections(self._unit)
        if self._bonding is not None:
            found += self._bonding.sections(self._unit)
        if self._structure is not None:
            found += self._structure.sections()
        if self._motion is not None:
            found += self._motion.sections()
        return found


def analysis_files(
    folder: Path, names: Sequence[str], picture_format: str
) -> list[Path]:
    """Return all files that an analysis may make.

    Args:
        folder: Where.
        names: Names of the trajectories.
        picture_format: Ending of pictures, without dot.
    """
    endings = ("csv", picture_format)
    found = [folder / f"{n}-{k}.{e}" for n in names for k in KEYS for e in endings]
    return [*_common_files(folder, names), *found]


def _common_files(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Return report and summary."""
    if len(names) > 1:
        return folder / "analysis-report.html", folder / "analysis-summary.yml"
    # NAME-summary.yml is that of the run, which may be in the same folder
    return (
        folder / f"{names[0]}-report.html",
        folder / f"{names[0]}-analysis-summary.yml",
    )


def run_analysis(
    paths: Sequence[Path],
    settings: AnalysisSettings,
    *,
    out: Path,
    names: Sequence[str],
    overwrite: bool = False,
    picture_format: Literal["png", "svg"] | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[Path, int, int], None] | None = None,
) -> AnalysisResult:
    """Analyse trajectories, each on its own, and write one report on all.

    Args:
        paths: The files.
        settings: What and how.
        out: Folder for the results; made if need be.
        names: First part of the file names of each trajectory.
        overwrite: Whether existing files may be replaced.
        picture_format: Also write each picture to a file of this format.
        provenance: Sections for the head of the summary.
        progress: Called after each frame with the file, the frames done and their
            number (0: unknown).

    Raises:
        ArgumentError: If a file would be replaced, or settings do not fit.
        DataError: If a trajectory cannot be read, or a file not be written.
    """
    require_matplotlib()
    check_new(analysis_files(out, names, picture_format or "png"), overwrite=overwrite)
    report, summary = _common_files(out, names)
    results = []
    for path, name in zip(paths, names, strict=True):

        def tell(done: int, total: int, path: Path = path) -> None:
            if progress is not None:
                progress(path, done, total)

        results.append(analyze_trajectory(path, settings, name=name, progress=tell))
    out.mkdir(parents=True, exist_ok=True)
    tables, pictures = [], []
    for result in results:
        for section in result.sections:
            if not section.columns:
                continue
            table = out / f"{result.name}-{section.key}.csv"
            save_text(table, csv_text(section.columns))
            tables.append(table)
            if picture_format is not None:
                picture = table.with_suffix(f".{picture_format}")
                pictures.append(save_figure(draw_section(section), picture))
    parts = [
        ReportPart(name=r.name, facts=r.facts, sections=r.sections, notes=r.notes)
        for r in results
    ]
    given = asdict(settings)
    save_text(report, report_html(parts, given, versions()))
    save_summary(
        {
            **(provenance or {}),
            "settings": given,
            "versions": versions(),
            "results": {r.name: _plain_result(r) for r in results},
            "files": {"report": report, "tables": tables, "pictures": pictures},
        },
        summary,
    )
    return AnalysisResult(
        trajectories=tuple(results),
        report=report,
        summary=summary,
        tables=tuple(tables),
        pictures=tuple(pictures),
    )


def csv_text(columns: Mapping[str, np.ndarray]) -> str:
    """Return curves as CSV with eight digits.

    Args:
        columns: Names with units -> values, of one length.
    """
    text = io.StringIO()
    np.savetxt(
        text,
        np.column_stack(list(columns.values())),
        fmt="%.8g",
        delimiter=",",
        header=",".join(columns),
        comments="",
    )
    return text.getvalue()


def _plain_result(result: TrajectoryResult) -> dict[str, Any]:
    found: dict[str, Any] = {fact.name: fact.value for fact in result.facts}
    if result.notes:
        found["notes"] = list(result.notes)
    for section in result.sections:
        numbers: dict[str, Any] = {}
        for fact in section.facts:
            label = f"{fact.name} ({fact.unit})" if fact.unit else fact.name
            numbers[label] = fact.value
            if fact.error is not None:
                numbers[f"{label}, error"] = fact.error
        if section.notes:
            numbers["notes"] = list(section.notes)
        found[section.key] = numbers
    return found
