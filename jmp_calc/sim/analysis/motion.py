"""Collects frames for diffusion and vibrations, which need all of them at once."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.analysis.clock import even_part
from jmp_calc.sim.analysis.diffusion import fit_diffusion, mean_squared_displacement
from jmp_calc.sim.analysis.sections import Fact, Section
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.analysis.unwrap import Unwrapper
from jmp_calc.sim.analysis.vibrations import (
    internal_velocities,
    peaks_of,
    velocity_spectrum,
)
from jmp_calc.units import PER_CM_PER_THZ

MOST_BYTES = 2 * 10**9
"""Memory for positions and velocities of all frames."""
CM2_PER_S = 1e-4
"""One square angstrom per picosecond in square centimetres per second."""
AMBIGUOUS = 0.4
"""Steps longer than this fraction of a period may have been longer or shorter."""
TOLERATED = 0.35
"""Displacements that grow with a power of time further from 1 are no diffusion."""
LEAST_WAY_A = 1.0
"""Shorter ways within the range of the fit may be those of vibrations, angstrom."""
NOTHING_A = 1e-6
"""Shorter ways of all atoms are rounding, angstrom."""
MSD_POINTS = 1000
"""Most points of the curve that is written."""
HIGHEST_THZ = ((1, 120.0), (10, 75.0), (18, 25.0), (118, 15.0))
"""Highest frequency of the vibrations of atoms up to an atomic number, about, THz."""


class Motion:
    """Collector of positions and velocities.

    Args:
        first: First frame that averages use.
        settings: Of the analysis.
    """

    def __init__(self, first: Atoms, settings: AnalysisSettings) -> None:
        self._first = first
        self._settings = settings
        self._wants_paths = settings.wants("msd") and bool(first.pbc.any())
        self._wants_velocities = settings.wants("vdos") and first.has("momenta")
        self._unwrapper = Unwrapper()
        self._times: list[float] = []
        self._paths: list[np.ndarray] = []
        self._velocities: list[np.ndarray] = []
        fixed = [c.index for c in first.constraints if isinstance(c, FixAtoms)]
        self._is_free = np.ones(len(first), dtype=bool)
        if fixed:
            self._is_free[np.concatenate(fixed)] = False

    def add(self, atoms: Atoms, time_ps: float | None) -> None:
        """Take in one frame.

        Args:
            atoms: The frame.
            time_ps: Its time; without times nothing is kept.
        """
        if time_ps is None:
            return
        self._times.append(time_ps)
        if self._wants_paths:
            self._paths.append(self._unwrapper.follow(atoms))
        if self._wants_velocities and atoms.has("momenta"):
            self._velocities.append(internal_velocities(atoms))
        stored = len(self._paths) + len(self._velocities)
        if stored * self._first.positions.nbytes > MOST_BYTES:
            raise ArgumentError(
                f"diffusion and vibrations need all frames in memory, more than "
                f"{MOST_BYTES / 1e9:g} GB for this trajectory; use --stride, --stop, "
                "or --only structure --only bonds --only energy"
            )

    def sections(self) -> list[Section]:
        """Return diffusion, velocity autocorrelation and vibrational spectrum."""
        found = []
        n_even, interval = even_part(self._times)
        notes = []
        left_out = len(self._times) - n_even
        # a run ends with its last step, so that one frame more is usual
        if interval is not None and left_out > 1:
            notes.append(
                f"the last {left_out} of {len(self._times)} frames are left out: they "
                f"do not follow each other by {1000 * interval:g} fs"
            )
        if self._settings.wants("msd"):
            found.append(self._diffusion(n_even, interval, notes))
        if self._settings.wants("vdos"):
            found += self._vibrations(n_even, interval, notes)
        return found

    def _diffusion(
        self, n_even: int, interval: float | None, notes: list[str]
    ) -> Section:
        def empty(reason: str) -> Section:
            return Section(
                key="msd", title=_TITLE_MSD, about=_ABOUT_MSD, notes=(reason,)
            )

        if not self._first.pbc.any():
            return empty("left out: a molecule without cell does not diffuse")
        if interval is None:
            return empty(_NO_TIMES)
        paths = self._drift_free(np.array(self._paths[:n_even]))
        notes = list(notes)
        step = self._unwrapper.largest_step
        if step > AMBIGUOUS:
            notes.append(
                f"an atom moved by {step:.2f} of the cell between two frames, where "
                "its way cannot be told for certain: write frames more often"
            )
        if np.ptp(paths, axis=0).max() < NOTHING_A:
            return empty("left out: no atom moves with respect to the whole")
        duration = interval * (n_even - 1)
        given = self._settings
        start = 0.02 * duration if given.fit_start_ps is None else given.fit_start_ps
        stop = 0.10 * duration if given.fit_stop_ps is None else given.fit_stop_ps
        columns = {"time_ps": interval * np.arange(n_even)}
        facts = [
            Fact(name="time analysed", value=duration, unit="ps"),
            Fact(name="range of the fit", value=f"{start:.3g} to {stop:.3g} ps"),
        ]
        for element, atoms in self._elements().items():
            part = paths[:, atoms]
            columns[f"msd_{element}_A2"] = mean_squared_displacement(part)
            facts += _diffusion_facts(element, part, interval, start, stop)
        ways = [float(f.value) for f in facts if f.name.startswith("way of")]
        if ways and min(ways) < LEAST_WAY_A:
            notes.append(
                f"atoms move by less than {LEAST_WAY_A:g} Å in the range of the fit, "
                "where rattling and diffusion cannot be told apart: analyse a longer "
                "trajectory or fit longer times (--fit-start-ps, --fit-stop-ps)"
            )
        if len(facts) == 2:
            notes.append(
                "too short for a diffusion coefficient: the fit needs six frames "
                "within its range"
            )
        # longer times have next to no independent pairs of frames
        kept = _thinned(max(2, n_even // 2), MSD_POINTS)
        return Section(
            key="msd",
            title=_TITLE_MSD,
            about=_ABOUT_MSD,
            facts=tuple(facts),
            columns={name: curve[kept] for name, curve in columns.items()},
            notes=tuple(notes),
            marks={"fit from": start, "fit to": stop},
        )

    def _drift_free(self, paths: np.ndarray) -> np.ndarray:
        if self._is_free.all():
            masses = self._first.get_masses()
            paths = paths - (masses @ paths / masses.sum())[:, None]
        periods = np.array(self._first.cell)[self._first.pbc]
        if len(periods) == 3:
            return paths
        # only motion along the periodic directions is diffusion
        along, _ = np.linalg.qr(periods.T)
        return np.asarray(paths @ along)

    def _elements(self) -> dict[str, np.ndarray]:
        symbols = np.array(self._first.get_chemical_symbols())
        names = list(dict.fromkeys(symbols[self._is_free]))
        found = {"all": np.flatnonzero(self._is_free)} if len(names) > 1 else {}
        for name in names:
            found[str(name)] = np.flatnonzero(self._is_free & (symbols == name))
        return found

    def _vibrations(
        self, n_even: int, interval: float | None, notes: list[str]
    ) -> list[Section]:
        def empty(reason: str) -> list[Section]:
            return [
                Section(
                    key="vdos", title=_TITLE_VDOS, about=_ABOUT_VDOS, notes=(reason,)
                )
            ]

        if len(self._velocities) < len(self._times) or not self._wants_velocities:
            return empty("left out: the frames have no velocities")
        if interval is None:
            return empty(_NO_TIMES)
        free = np.flatnonzero(self._is_free)
        symbols = [self._first.symbols[int(k)] for k in free]
        spectrum = velocity_spectrum(
            np.array(self._velocities[:n_even])[:, free],
            symbols,
            self._first.get_masses()[free],
            timestep=interval,
            resolution=self._settings.vdos_resolution_THz,
        )
        if spectrum is None:
            return empty("left out: fewer than 32 frames, or nothing moves")
        elements = list(dict.fromkeys(symbols))
        # of one element the total says it all
        named = ["total", *(elements if len(elements) > 1 else [])]
        width = 1.0 / (len(spectrum.time) * interval)
        facts = [
            Fact(
                name="resolution",
                value=_both(width),
            ),
            Fact(
                name="highest frequency seen",
                value=_both(0.5 / interval),
            ),
        ]
        for frequency, height in peaks_of(spectrum):
            facts.append(
                Fact(
                    name=f"peak at {frequency:.2f} THz",
                    value=f"{frequency * PER_CM_PER_THZ:.0f} cm⁻¹, height {height:.3g}",
                )
            )
        density = {
            "frequency_THz": spectrum.frequency,
            "frequency_per_cm": spectrum.frequency * PER_CM_PER_THZ,
            **{f"vdos_{name}_per_THz": spectrum.density[name] for name in named},
        }
        correlation = {
            "time_ps": spectrum.time,
            **{f"vacf_{name}": spectrum.correlation[name] for name in named},
        }
        notes = [*notes, *self._aliases(0.5 / interval)]
        return [
            Section(
                key="vacf",
                title="Velocity autocorrelation",
                about="Autocorrelation of the velocities, weighted with the masses, "
                "1 at time 0; centre of mass (and rotation of a molecule) at rest.",
                columns=correlation,
            ),
            Section(
                key="vdos",
                title=_TITLE_VDOS,
                about=_ABOUT_VDOS,
                facts=tuple(facts),
                columns=density,
                notes=tuple(notes),
            ),
        ]

    def _aliases(self, nyquist: float) -> list[str]:
        lightest = int(self._first.numbers.min())
        element = chemical_symbols[lightest]
        highest = next(top for number, top in HIGHEST_THZ if lightest <= number)
        if nyquist >= highest:
            return []
        return [
            f"frames every {500 / nyquist:.3g} fs show frequencies up to {nyquist:.3g} "
            f"THz ({nyquist * PER_CM_PER_THZ:.0f} cm⁻¹); {element} "
            f"may vibrate up to about {highest:g} THz, and faster vibrations appear at "
            f"wrong, lower frequencies: write frames every {500 / highest:.2g} fs"
        ]


def _diffusion_facts(
    element: str, paths: np.ndarray, interval: float, start: float, stop: float
) -> list[Fact]:
    fit = fit_diffusion(paths, interval, start, stop)
    if fit is None:
        return []
    if abs(fit.exponent - 1.0) > TOLERATED:
        text = (
            f"none: in the range of the fit displacements grow with the power "
            f"{fit.exponent:.2f} of time (diffusion: 1)"
        )
        return [Fact(name=f"D of {element}", value=text)]
    error = None if fit.error is None else fit.error * CM2_PER_S
    return [
        Fact(
            name=f"D of {element}", value=fit.coefficient, error=fit.error, unit="Å²/ps"
        ),
        Fact(
            name=f"D of {element} in cm²/s",
            value=fit.coefficient * CM2_PER_S,
            error=error,
            unit="cm²/s",
        ),
        Fact(
            name=f"way of {element} within the range of the fit",
            value=fit.reach,
            unit="Å",
        ),
        Fact(name=f"power of time, {element} (diffusion: 1)", value=fit.exponent),
    ]


def _both(frequency: float) -> str:
    return f"{frequency:.4g} THz ({frequency * PER_CM_PER_THZ:.4g} cm⁻¹)"


def _thinned(number: int, most: int) -> np.ndarray:
    """Return at most about so many places, denser at the start."""
    if number <= most:
        return np.arange(number)
    spaced = np.geomspace(1, number - 1, most)
    return np.unique(np.concatenate([[0], np.round(spaced)]).astype(int))


_NO_TIMES = (
    "left out: the frames tell no time, or are not equally far apart; give "
    "--frame-interval-fs"
)
_TITLE_MSD = "Mean squared displacement and diffusion"
_ABOUT_MSD = (
    "Displacement of atoms by time, averaged over atoms and origins, through periodic "
    "boundaries, without the motion of the centre of mass and of the cell. D: slope "
    "over twice the number of periodic directions; its error from five parts of the "
    "trajectory. Not corrected for the size of the cell: a liquid of "
    "viscosity η in a cubic cell of edge L lacks 2.837 kT/(6πηL) (Yeh and Hummer, J. "
    "Phys. Chem. B 108, 15873, 2004)."
)
_TITLE_VDOS = "Vibrational density of states"
_ABOUT_VDOS = (
    "Fourier transform of the velocity autocorrelation, weighted with the masses (Hann "
    "window); the total has the integral 1, and the elements add up to it."
)
