"""Does a trajectory at constant energy keep its energy?"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jmp_calc.sim.check.measurement import Measurement, failed, judged, not_applicable
from jmp_calc.sim.check.probe import Probe
from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md
from jmp_calc.sim.dynamics.velocities import usual_timestep_fs

DRIFT_LIMIT_meV_PER_ATOM_PER_PS = 1.0
DRIFT_RATIO_LIMIT = 0.1
SCATTER_RATIO_LIMIT = 0.05
"""The integrator's part falls as the square of the time step; of the stiffest bond, H2,
it is 0.03 at the default. Forces that have nothing to do with the energy give 1."""
STEPS_PER_USUAL = 4
"""Steps in the longest time that is usual for one."""


def check_nve(probe: Probe) -> list[Measurement]:
    """Run velocity Verlet, and compare drift and fluctuation of the energies.

    The drift is the slope of the total energy by least squares. The drift over the
    whole run, and the scatter of the total energy about it, are also told as parts of
    the standard deviation of the kinetic energy, which is what the total energy would
    have if forces and energy had nothing to do with each other.

    Args:
        probe: The system.
    """
    settings = probe.settings
    atoms = probe.given.copy()
    if len(atoms) < 2:
        return [not_applicable("drift", "one atom only")]
    atoms.calc = probe.calculator
    timestep_fs = settings.timestep_fs or usual_timestep_fs(atoms) / STEPS_PER_USUAL
    run = MDSettings(
        ensemble="nve",
        temperature_K=settings.temperature_K,
        timestep_fs=timestep_fs,
        steps=settings.n_nve_steps,
        seed=settings.seed,
    )
    n_steps = run.n_steps
    with tempfile.TemporaryDirectory() as folder:
        result = run_md(
            atoms,
            run,
            record=RecordSettings(log_stride=2, trajectory_stride=n_steps),
            out=folder,
            progress=lambda _: probe.count(1),
        )
        columns = _columns(result.files.observables)
    if result.status == "interrupted":
        # the user, not the calculator
        raise KeyboardInterrupt(result.reason)
    drift = result.energy_drift_meV_per_atom_per_ps
    if result.status != "completed" or drift is None:
        return [failed("drift", f"{result.status}: {result.reason}")]
    # (rows) of one atom each, meV
    total, kinetic = (
        1000 * columns[f"{name}_energy_eV"] / len(atoms)
        for name in ("conserved", "kinetic")
    )
    time_ps = columns["time_ps"]
    scatter = (total - np.polyval(np.polyfit(time_ps, total, 1), time_ps)).std()
    return [
        judged(
            "drift",
            drift,
            # in a short run even a periodic error has a slope
            DRIFT_LIMIT_meV_PER_ATOM_PER_PS + 2 * scatter / run.duration_ps,
            "meV/atom/ps",
            f"{n_steps} steps of {timestep_fs:.2g} fs",
        ),
        judged(
            "drift in the run",
            abs(drift) * run.duration_ps / kinetic.std(),
            DRIFT_RATIO_LIMIT,
            "of the scatter of kinetic energy",
        ),
        judged(
            "scatter",
            scatter / kinetic.std(),
            SCATTER_RATIO_LIMIT,
            "of the scatter of kinetic energy",
        ),
    ]


def _columns(path: Path) -> dict[str, Float[np.ndarray, " rows"]]:
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
