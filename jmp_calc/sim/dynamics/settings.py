"""What a simulation is asked to do: settings with their units, defaults and checks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from jmp_calc.errors import ArgumentError, did_you_mean

TRAJECTORY_FORMATS: dict[str, str] = {"traj": ".traj", "xyz": ".xyz"}
"""Trajectory formats and their file endings: ASE's own (exact), extended XYZ (text)."""

TEMPERATURE_FLOOR_K = 3000.0
"""A run is never called unstable below this temperature unless the user says so."""
RARE_CHI_SQUARED = 60.0
"""Twice the kinetic energy over k T is beyond this once in 1e12 samples if there are
three degrees of freedom, and less often if there are fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MDSettings:
    """Settings of a molecular dynamics run."""

    ensemble: str = "nvt"
    """nve (velocity Verlet) or nvt (Langevin thermostat)."""
    temperature_K: float = 300.0
    """Temperature of the thermostat and of new velocities, K."""
    timestep_fs: float = 0.5
    """Time step, fs; 0.5 suits hydrogen, 1 to 2 systems without it."""
    steps: int = 4000
    """Number of time steps."""
    friction_per_fs: float = 0.01
    """Friction of the Langevin thermostat, 1/fs (nvt only)."""
    seed: int = 0
    """Seed of the initial velocities and of the thermostat."""
    trajectory_format: str = "traj"
    """traj (exact) or xyz (extended XYZ, 8 decimals)."""
    trajectory_stride: int = 10
    """Steps between frames of the trajectory."""
    log_stride: int = 10
    """Steps between rows of the CSV."""
    max_temperature_K: float | None = None
    """Stop as unstable above this temperature, K; by default 10 times the target or
    the initial temperature (more if few atoms move), and at least 3000."""
    max_energy_change_eV_per_atom: float = 2.0
    """Stop as unstable if the potential energy has changed by more since the start,
    eV/atom."""

    def __post_init__(self) -> None:
        """Check every number and name once."""
        self._check_numbers()
        if self.ensemble == "nvt" and self.friction_per_fs * self.timestep_fs > 1.0:
            raise ArgumentError(
                f"friction_per_fs {self.friction_per_fs:g} times timestep_fs "
                f"{self.timestep_fs:g} is above 1, where the Langevin integrator gives "
                "a wrong temperature; lower one of them"
            )
        if self.trajectory_format not in TRAJECTORY_FORMATS:
            raise ArgumentError(
                f"unknown trajectory format {self.trajectory_format!r}; choose one of "
                f"{', '.join(TRAJECTORY_FORMATS)}"
                f"{did_you_mean(self.trajectory_format, TRAJECTORY_FORMATS)}"
            )

    def _check_numbers(self) -> None:
        for name in ("timestep_fs", "friction_per_fs", "max_energy_change_eV_per_atom"):
            _require(name, getattr(self, name), lambda x: x > 0, "above 0")
        _require("temperature_K", self.temperature_K, lambda x: x >= 0, "0 or more")
        if self.max_temperature_K is not None:
            limit = self.max_temperature_K
            _require("max_temperature_K", limit, lambda x: x > 0, "above 0")
        for name in ("steps", "seed"):
            _require(name, getattr(self, name), lambda x: x >= 0, "0 or more")
        for name in ("trajectory_stride", "log_stride"):
            _require(name, getattr(self, name), lambda x: x >= 1, "1 or more")

    @property
    def duration_ps(self) -> float:
        """Simulated time of the whole run, ps."""
        return self.steps * self.timestep_fs / 1000.0

    def temperature_limit(self, initial_K: float, degrees_of_freedom: int) -> float:
        """Return the temperature above which the run counts as unstable, K.

        The kinetic temperature of few degrees of freedom swings far without anything
        being wrong, so the limit is wider for them.

        Args:
            initial_K: Temperature of the velocities at the start, K.
            degrees_of_freedom: Number that temperatures refer to, at least 1.
        """
        if self.max_temperature_K is not None:
            return self.max_temperature_K
        expected_K = max(self.temperature_K, initial_K)
        factor = max(10.0, RARE_CHI_SQUARED / degrees_of_freedom)
        return max(factor * expected_K, TEMPERATURE_FLOOR_K)


def _require(
    name: str, value: float | int, is_ok: Callable[[float], bool], rule: str
) -> None:
    if not (math.isfinite(value) and is_ok(value)):
        raise ArgumentError(f"{name} is {value}; it must be {rule}")
