"""Temperature and energy of a run: means, fluctuations, drift."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCom

from jmp_calc.errors import DataError
from jmp_calc.sim.analysis.sections import Fact, Section
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.analysis.statistics import mean_error, slope
from jmp_calc.units import G_PER_CM3, KB

AT_REST = 1e-4
"""Momenta that add up to less than this fraction of what they would by chance are
taken to be at rest as a whole."""
SAME_ENERGY_EV = 1e-3
"""A CSV belongs to a trajectory if energies at equal steps differ by less."""
MOST_POINTS = 5000
"""Most rows of the curve that is drawn and written."""

Series = dict[str, np.ndarray]


class Energies:
    """Collector of energies.

    Args:
        path: The trajectory.
        settings: Of the analysis.
    """

    def __init__(self, path: Path, settings: AnalysisSettings) -> None:
        self._path = path
        self._settings = settings
        self._rows: list[tuple[int, float, float, float, float]] = []
        self._momentum = self._spin = 0.0
        self._first: Atoms
        self._averaged_from = -np.inf

    def add(self, atoms: Atoms, time_ps: float | None, *, is_averaged: bool) -> None:
        """Take in one frame.

        Args:
            atoms: The frame.
            time_ps: Its time, if known.
            is_averaged: Whether averages use it.
        """
        if not self._rows:
            self._first = atoms
        number = len(self._rows)
        results = getattr(atoms.calc, "results", {})
        kinetic = atoms.get_kinetic_energy() if atoms.has("momenta") else np.nan
        time = float(number) if time_ps is None else time_ps
        if is_averaged and not np.isfinite(self._averaged_from):
            self._averaged_from = time
        step = int(atoms.info.get("step", -1))
        energy = float(results.get("energy", np.nan))
        volume = atoms.cell.volume if atoms.pbc.all() else np.nan
        self._rows.append((step, time, energy, float(kinetic), float(volume)))
        if kinetic > 0:
            self._momentum = max(self._momentum, _share(atoms.get_momenta()))
            arms = atoms.positions - atoms.get_center_of_mass()
            self._spin = max(self._spin, _share(np.cross(arms, atoms.get_momenta())))

    def sections(self, unit: str) -> list[Section]:
        """Return temperature and drift.

        Args:
            unit: Of the times given, ``ps`` or ``frame``.
        """
        series, origin, notes = self._series()
        facts = [Fact(name="from", value=origin)]
        time = series.pop("time")
        is_averaged = time >= self._averaged_from - 1e-9
        if "temperature_K" in series:
            facts += self._temperature(series["temperature_K"][is_averaged])
        n_atoms = len(self._first)
        for name, label in _ENERGIES.items():
            if name not in series or len(time) < 3 or unit != "ps":
                continue
            value, error = slope(time, series[name])
            facts.append(
                Fact(
                    name=f"drift of the {label}",
                    value=1000.0 * value / n_atoms,
                    error=None if error is None else 1000.0 * error / n_atoms,
                    unit="meV/atom/ps",
                )
            )
        for name, curve in series.items():
            if name in ("pressure_GPa", "volume_A3", "potential_energy_eV"):
                part = curve[is_averaged]
                label, scale, what = _MEANS[name]
                error = mean_error(part)
                facts.append(
                    Fact(
                        name=f"mean {label}",
                        value=float(part.mean()) * scale,
                        error=None if error is None else error * scale,
                        unit=what,
                    )
                )
        facts += self._density(series.get("volume_A3"), is_averaged)
        if not series:
            notes.append("left out: neither energies nor velocities are in the frames")
            return [
                Section(
                    key="energy",
                    title=_TITLE,
                    about=_ABOUT,
                    facts=tuple(facts[1:]),
                    notes=tuple(notes),
                )
            ]
        abscissa = "time_ps" if unit == "ps" else "frame"
        every = max(1, -(-len(time) // MOST_POINTS))
        columns = {abscissa: time[::every]}
        columns |= {name: curve[::every] for name, curve in series.items()}
        return [
            Section(
                key="energy",
                title=_TITLE,
                about=_ABOUT,
                facts=tuple(facts),
                columns=columns,
                notes=tuple(notes),
                marks={}
                if self._averaged_from <= time[0]
                else {"averages from": float(self._averaged_from)},
            )
        ]

    def _density(
        self, volume: np.ndarray | None, is_averaged: np.ndarray
    ) -> list[Fact]:
        atoms = self._first
        if not (atoms.pbc.all() and atoms.cell.rank == 3):
            return []
        if volume is None:
            volume = np.full(1, atoms.cell.volume)
            is_averaged = np.ones(1, dtype=bool)
        values = atoms.get_masses().sum() / volume[is_averaged] / G_PER_CM3
        return [
            Fact(
                name="density",
                value=float(values.mean()),
                error=mean_error(values),
                unit="g/cm³",
            )
        ]

    def _temperature(self, values: np.ndarray) -> list[Fact]:
        error = mean_error(values) if len(values) > 1 else None
        facts = [
            Fact(name="temperature", value=float(values.mean()), error=error, unit="K")
        ]
        if len(values) > 1:
            facts.append(
                Fact(
                    name="fluctuation of the temperature",
                    value=float(values.std(ddof=1)),
                    unit="K",
                )
            )
        return facts

    def _series(self) -> tuple[Series, str, list[str]]:
        """Return the series, where it is from, and what is wrong with it."""
        path = self._settings.log
        if path is None:
            beside = self._path.with_name(
                self._path.stem.removesuffix("-traj") + "-md.csv"
            )
            if beside == self._path or not beside.is_file():
                return self._of_frames(), "the frames", []
            rows = read_log(beside)
            if not self._belongs(rows):
                note = f"{beside.name} is of another run than this trajectory; not used"
                return self._of_frames(), "the frames", [note]
            return self._cut(rows), beside.name, []
        rows = read_log(path)
        if not self._belongs(rows):
            raise DataError(
                f"--log {path} does not belong to {self._path}: at equal steps the "
                "energies differ, or no step is in both"
            )
        return self._cut(rows), path.name, []

    def _belongs(self, rows: Series) -> bool:
        if not {"step", "potential_energy_eV", "time_ps"} <= set(rows):
            return False
        energy_at = dict(
            zip(rows["step"].astype(int), rows["potential_energy_eV"], strict=True)
        )
        gaps = [
            abs(energy_at[step] - energy)
            for step, _, energy, *_ in self._rows
            if step in energy_at and np.isfinite(energy)
        ]
        return bool(gaps) and bool(max(gaps) < SAME_ENERGY_EV)

    def _cut(self, rows: Series) -> Series:
        """Keep the time of the frames that were read, and what is of use."""
        steps = [step for step, *_ in self._rows]
        is_in = (rows["step"] >= steps[0]) & (rows["step"] <= steps[-1])
        names = ("temperature_K", *_ENERGIES, "potential_energy_eV", *_MEANS)
        found = {"time": rows["time_ps"][is_in]}
        for name in names:
            if name in rows and np.isfinite(rows[name]).all():
                found[name] = rows[name][is_in]
        return found

    def _of_frames(self) -> Series:
        _, time, potential, kinetic, volume = np.array(self._rows, dtype=float).T
        found = {"time": time}
        if np.isfinite(kinetic).all():
            freedom = self._degrees_of_freedom()
            if freedom > 0:
                found["temperature_K"] = 2.0 * kinetic / (freedom * KB)
        if np.isfinite(potential).all():
            if "temperature_K" in found:
                found["total_energy_eV"] = potential + kinetic
            found["potential_energy_eV"] = potential
        if np.isfinite(volume).all() and np.ptp(volume) > 0:
            found["volume_A3"] = volume
        return found

    def _degrees_of_freedom(self) -> int:
        atoms = self._first
        fixed = [c.index for c in atoms.constraints if isinstance(c, FixAtoms)]
        n_fixed = len(np.unique(np.concatenate(fixed))) if fixed else 0
        freedom = 3 * (len(atoms) - n_fixed)
        # a centre of mass at rest is seen in the momenta
        others = [c for c in atoms.constraints if not isinstance(c, (FixAtoms, FixCom))]
        freedom -= sum(int(c.get_removed_dof(atoms)) for c in others)
        if n_fixed == 0 and self._momentum < AT_REST:
            freedom -= 3
            if not atoms.pbc.any() and self._spin < AT_REST:
                arms = atoms.positions - atoms.positions.mean(axis=0)
                freedom -= min(3, int(np.linalg.matrix_rank(arms, tol=1e-3)) + 1)
        return freedom


def read_log(path: Path) -> Series:
    """Read the CSV of a run.

    Args:
        path: With names in the first line and numbers below.

    Raises:
        DataError: If it is not such a file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        if not rows:
            raise DataError(f"{path} has no rows; give the -md.csv of the run")
        return {
            name: np.array([float(row[name] or "nan") for row in rows])
            for name in rows[0]
            if name
        }
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"cannot read {path} as the CSV of a run ({error}); give the -md.csv that "
            "'jmp-md run' wrote"
        ) from error


def _share(vectors: np.ndarray) -> float:
    """Return how much of vectors is left when they are added up."""
    size = float(np.sqrt(np.sum(vectors**2)))
    return float(np.linalg.norm(vectors.sum(axis=0))) / size if size > 0 else 0.0


_ENERGIES = {
    "total_energy_eV": "total energy",
    "conserved_energy_eV": "conserved energy",
}
_MEANS = {
    "potential_energy_eV": ("potential energy", 1.0, "eV"),
    "pressure_GPa": ("pressure", 1.0, "GPa"),
    "volume_A3": ("volume", 1.0, "Å³"),
}
_TITLE = "Temperature and energy"
_ABOUT = (
    "Drift: slope of a straight line by least squares over all frames read, with the "
    "correlation of the deviations in its error. With a thermostat the total energy "
    "moves; only the conserved energy judges the integration."
)
