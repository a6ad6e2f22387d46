"""Ensembles: their names, and what each of them holds and needs."""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.sim.dynamics.settings import MDSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """One way to move atoms."""

    has_thermostat: bool = False
    """Whether a temperature is held."""
    has_barostat: bool = False
    """Whether the cell moves."""
    needs_heat: bool = False
    """Whether it works only at temperatures above 0."""


ENSEMBLES: dict[str, Ensemble] = {
    "nve": Ensemble(),
    "nvt": Ensemble(has_thermostat=True),
    "nvt-bussi": Ensemble(has_thermostat=True, needs_heat=True),
    "nvt-nhc": Ensemble(has_thermostat=True, needs_heat=True),
    "npt": Ensemble(has_thermostat=True, has_barostat=True, needs_heat=True),
    "npt-full": Ensemble(has_thermostat=True, has_barostat=True, needs_heat=True),
    "nph": Ensemble(has_barostat=True, needs_heat=True),
    "nph-full": Ensemble(has_barostat=True, needs_heat=True),
}
"""Ensembles by the name that ``MDSettings.ensemble`` takes."""


def find_ensemble(settings: MDSettings) -> Ensemble:
    """Return the ensemble that settings ask for.

    Args:
        settings: Of the run.

    Raises:
        ArgumentError: If it is unknown, or settings do not go with it.
    """
    name = settings.ensemble
    if name not in ENSEMBLES:
        raise ArgumentError(
            f"unknown ensemble {name!r}; choose one of "
            f"{', '.join(ENSEMBLES)}{did_you_mean(name, ENSEMBLES)}"
        )
    ensemble = ENSEMBLES[name]
    if settings.temperature_end_K is not None and not ensemble.has_thermostat:
        raise ArgumentError(
            f"temperature_end_K is given, but {name} has no thermostat; choose one of "
            f"{', '.join(n for n, e in ENSEMBLES.items() if e.has_thermostat)}"
        )
    has_pressure = settings.pressure_GPa != 0 or settings.pressure_end_GPa is not None
    if has_pressure and not ensemble.has_barostat:
        raise ArgumentError(
            f"a pressure is given, but {name} has no barostat; choose one of "
            f"{', '.join(n for n, e in ENSEMBLES.items() if e.has_barostat)}"
        )
    temperatures_K = (settings.temperature_at(0), settings.temperature_at(10**15))
    if ensemble.needs_heat and min(temperatures_K) <= 0:
        raise ArgumentError(
            f"the temperature is 0 K, which {name} cannot hold; give one above 0, or "
            "use nvt"
        )
    return ensemble
