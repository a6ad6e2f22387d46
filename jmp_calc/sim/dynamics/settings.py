"""What a simulation is asked to do: settings with their units, defaults and checks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.sim.requirements import require

TRAJECTORY_FORMATS: dict[str, str] = {"traj": ".traj", "xyz": ".xyz", "h5md": ".h5"}
"""Trajectory formats and their endings: ASE's own, extended XYZ (text), H5MD (HDF5)."""

DEFAULT_STEPS = 4000
"""Length of a run if neither steps nor a time are asked for."""
TEMPERATURE_FLOOR_K = 3000.0
"""A run is never called unstable below this temperature unless the user says so."""
RARE_CHI_SQUARED = 60.0
"""Twice the kinetic energy over k T is beyond this once in 1e12 samples if there are
three degrees of freedom, and less often if there are fewer."""
SHORTEST_BOND = 0.5
"""No bond is as short, in units of the sum of covalent radii. Near it come Cr-Cr in its
dimer (0.60, 1.68 angstrom), U-O of uranyl (0.67), and N-N (0.77)."""


def seed_of_input(seed: int, number: int) -> int:
    """Return the seed of one of several inputs, so that none repeats another's noise.

    Args:
        seed: That of all.
        number: Place of the input; the first, 0, has the seed itself.
    """
    if number == 0:
        return seed
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class MDSettings:
    """Physics of a molecular dynamics run."""

    ensemble: str = "nvt"
    """nve; nvt (Langevin), nvt-bussi, nvt-nhc; npt, npt-full (Martyna-Tobias-Klein);
    nph, nph-full. The -full ones let the shape of the cell change as well."""
    temperature_K: float = 300.0
    """Temperature of the thermostat and of new velocities, K."""
    temperature_end_K: float | None = None
    """Temperature at the end, K: the thermostat goes there linearly over the run."""
    pressure_GPa: float = 0.0
    """Pressure of the barostat, GPa (npt and nph only)."""
    pressure_end_GPa: float | None = None
    """Pressure at the end, GPa: the barostat goes there linearly over the run."""
    timestep_fs: float = 0.5
    """Time step, fs; 0.5 suits hydrogen, 1 to 2 systems without it."""
    steps: int | None = None
    """Time steps in total, those before a resume included; 4000 unless --time-ps."""
    time_ps: float | None = None
    """Simulated time in total, ps, in place of --steps; rounded to whole steps."""
    friction_per_fs: float = 0.01
    """Friction of the Langevin thermostat, 1/fs (nvt only)."""
    thermostat_time_fs: float = 100.0
    """Time constant of the Bussi and Nose-Hoover thermostats, fs."""
    barostat_time_fs: float = 1000.0
    """Time constant of the barostat, fs (npt and nph only)."""
    fix_rotation: bool = False
    """Keep an isolated molecule from turning (nve, nvt-bussi, nvt-nhc), which then has
    three degrees of freedom less; these ensembles never bring its rotation to the
    temperature."""
    hydrogen_mass_amu: float | None = None
    """Mass of hydrogen, amu; what is added is taken from the atom it is bonded to."""
    seed: int = 0
    """Seed of the initial velocities and of the thermostat; of several inputs each but
    the first gets one of its own, made from it."""

    def __post_init__(self) -> None:
        """Check every number and name once."""
        for name in (
            "timestep_fs",
            "friction_per_fs",
            "thermostat_time_fs",
            "barostat_time_fs",
        ):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        for name in ("temperature_K", "temperature_end_K", "seed"):
            require(name, getattr(self, name), lambda x: x >= 0, "0 or more")
        require("steps", self.steps, lambda x: x >= 1, "1 or more")
        for name in ("time_ps", "hydrogen_mass_amu"):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        for name in ("pressure_GPa", "pressure_end_GPa"):
            require(name, getattr(self, name), lambda _: True, "a number")
        if self.steps is not None and self.time_ps is not None:
            raise ArgumentError(
                f"both steps ({self.steps}) and time_ps ({self.time_ps:g}) are given; "
                "give the length of the run in one of them"
            )
        if self.time_ps is not None and self.n_steps == 0:
            raise ArgumentError(
                f"time_ps {self.time_ps:g} is less than half a time step "
                f"(timestep_fs {self.timestep_fs:g}), so there would be no step; give "
                "a longer time or a shorter step"
            )
        if self.ensemble == "nvt" and self.friction_per_fs * self.timestep_fs > 1.0:
            raise ArgumentError(
                f"friction_per_fs {self.friction_per_fs:g} times timestep_fs "
                f"{self.timestep_fs:g} is above 1, where the Langevin integrator gives "
                "a wrong temperature; lower one of them"
            )

    @property
    def n_steps(self) -> int:
        """Number of time steps in total."""
        if self.time_ps is not None:
            return round(1000.0 * self.time_ps / self.timestep_fs)
        return DEFAULT_STEPS if self.steps is None else self.steps

    @property
    def duration_ps(self) -> float:
        """Simulated time of the whole run, ps."""
        return self.n_steps * self.timestep_fs / 1000.0

    @property
    def is_ramp(self) -> bool:
        """Whether temperature or pressure change during the run."""
        return self.temperature_end_K is not None or self.pressure_end_GPa is not None

    def temperature_at(self, step: int) -> float:
        """Return the temperature that the thermostat has at a step, K.

        Args:
            step: Number of steps done.
        """
        return self._at(step, self.temperature_K, self.temperature_end_K)

    def pressure_at(self, step: int) -> float:
        """Return the pressure that the barostat has at a step, GPa.

        Args:
            step: Number of steps done.
        """
        return self._at(step, self.pressure_GPa, self.pressure_end_GPa)

    def _at(self, step: int, start: float, end: float | None) -> float:
        if end is None or self.n_steps == 0:
            return start
        return start + (end - start) * min(step / self.n_steps, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordSettings:
    """What a run writes, and how often."""

    trajectory_format: str = "traj"
    """traj (exact), h5md (HDF5, for other programs) or xyz (text, 8 decimals)."""
    trajectory_stride: int = 10
    """Steps between frames of the trajectory."""
    log_stride: int = 10
    """Steps between rows of the CSV."""
    checkpoint_stride: int = 1000
    """Steps between checkpoints, from which --resume goes on; one is always written at
    the start and at the end."""

    def __post_init__(self) -> None:
        """Check every number and name once."""
        for name in ("trajectory_stride", "log_stride", "checkpoint_stride"):
            require(name, getattr(self, name), lambda x: x >= 1, "1 or more")
        if self.trajectory_format not in TRAJECTORY_FORMATS:
            raise ArgumentError(
                f"unknown trajectory format {self.trajectory_format!r}; choose one of "
                f"{', '.join(TRAJECTORY_FORMATS)}"
                f"{did_you_mean(self.trajectory_format, TRAJECTORY_FORMATS)}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSettings:
    """When a run is stopped before its last step."""

    max_temperature_K: float | None = None
    """Stop as unstable above this temperature, K; by default 10 times the target or
    the initial temperature (more if few atoms move), and at least 3000."""
    max_energy_change_eV_per_atom: float = 2.0
    """Stop as unstable if the potential energy has changed by more since the start,
    eV/atom."""
    max_bond_stretch: float | None = None
    """Stop as unstable if a bond of the input becomes longer than this factor times its
    length there; 1.5 is usual. By default bonds are watched but may break."""
    min_contact: float = SHORTEST_BOND
    """Stop as unstable if two atoms that were apart at the start come closer than this
    factor times the sum of their covalent radii; no bond is as short as 0.5. Where no
    new bonds are expected, as in liquids of molecules, 1.3 tells much earlier."""
    max_force_spread_eV_per_A: float | None = None
    """Stop as unstable if the models of a committee (--committee) spread by more about
    the force on any atom, eV/angstrom: they have left what they know."""
    max_minutes: float | None = None
    """Stop after this time, minutes, with a checkpoint for --resume."""

    def __post_init__(self) -> None:
        """Check every number once."""
        for name in ("max_temperature_K", "max_energy_change_eV_per_atom"):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        spread = self.max_force_spread_eV_per_A
        require("max_force_spread_eV_per_A", spread, lambda x: x > 0, "above 0")
        require("max_minutes", self.max_minutes, lambda x: x > 0, "above 0")
        require("max_bond_stretch", self.max_bond_stretch, lambda x: x > 1, "above 1")
        require("min_contact", self.min_contact, lambda x: x >= 0, "0 or more")

    def temperature_limit(self, expected_K: float, degrees_of_freedom: int) -> float:
        """Return the temperature above which the run counts as unstable, K.

        The kinetic temperature of few degrees of freedom swings far without anything
        being wrong, so the limit is wider for them.

        Args:
            expected_K: Highest temperature that the run may rightly have, K.
            degrees_of_freedom: Number that temperatures refer to, at least 1.
        """
        if self.max_temperature_K is not None:
            return self.max_temperature_K
        factor = max(10.0, RARE_CHI_SQUARED / degrees_of_freedom)
        return max(factor * expected_K, TEMPERATURE_FLOOR_K)
