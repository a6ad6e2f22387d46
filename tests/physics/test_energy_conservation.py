"""Energy along NVE trajectories of a random network: bounded, and second order in time.

Velocity Verlet keeps a shadow energy that differs from the true one by a term in the
square of the time step, if the potential has two continuous derivatives. So halving the
step divides the fluctuation by four, unless the potential jumps on the way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.md.verlet import VelocityVerlet

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import GraphRules
from jmp_calc.models.jmp import JMPModel
from physics.networks import PUBLISHED, evaluate

ENERGY_SCALE = -4.0
"""eV per network unit; atoms then repel each other, with some 2 eV/angstrom."""
LENGTH_FS = 30.0
STEP_FS = 1.0
LIMITED = replace(PUBLISHED, max_neighbors=5)
"""Published rules with limits that bite in eight atoms."""


class NetworkCalculator(Calculator):
    """As little of an ASE calculator as dynamics needs."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def __init__(self, model: JMPModel, rules: GraphRules | None) -> None:
        super().__init__()
        self.model, self.rules = model, rules

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        result = evaluate(self.model, self.atoms, rules=self.rules)
        energy = ENERGY_SCALE * float(result.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": ENERGY_SCALE * result.forces,
        }


def trajectory(
    model: JMPModel, start: Atoms, step_fs: float, rules: GraphRules | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Total and kinetic energy at every step, eV."""
    atoms = start.copy()
    atoms.calc = NetworkCalculator(model, rules)
    found = []

    def record() -> None:
        kinetic = atoms.get_kinetic_energy()
        found.append((atoms.get_potential_energy() + kinetic, kinetic))

    dynamics = VelocityVerlet(atoms, timestep=step_fs * units.fs)
    dynamics.attach(record)
    dynamics.run(round(LENGTH_FS / step_fs))
    total, kinetic = np.array(found).T
    return total, kinetic


@pytest.fixture
def hot(nacl: Atoms) -> Atoms:
    """Eight ions in a small periodic cell, fast enough to cross the cutoffs."""
    nacl.set_cell(nacl.cell * 0.9, scale_atoms=True)
    velocity = np.random.default_rng(5).normal(size=(len(nacl), 3)) * 0.04
    nacl.set_velocities(velocity - velocity.mean(axis=0))
    return nacl


def spread(total: np.ndarray) -> float:
    return float(np.abs(total - total[0]).max())


def test_atoms_cross_the_cutoffs_on_the_way(smooth: JMPModel, hot: Atoms) -> None:
    """Otherwise the tests below would show little."""
    counts = set()

    def count() -> None:
        graph = build_graph(hot, smooth.heads["task"].graph)
        counts.add(tuple(getattr(graph, name).n_edges for name in GRAPHS))

    hot.calc = NetworkCalculator(smooth, None)
    dynamics = VelocityVerlet(hot, timestep=STEP_FS * units.fs)
    dynamics.attach(count)
    dynamics.run(round(LENGTH_FS / STEP_FS))
    assert len(counts) > 5


def test_the_energy_error_falls_with_the_square_of_the_time_step(
    smooth: JMPModel, hot: Atoms
) -> None:
    coarse, kinetic = trajectory(smooth, hot, STEP_FS)
    fine, _ = trajectory(smooth, hot, STEP_FS / 2)
    assert np.ptp(kinetic) > 0.1
    assert spread(coarse) < 0.02 * np.ptp(kinetic)
    assert spread(coarse) / spread(fine) == pytest.approx(4, rel=0.15)


def test_the_energy_error_does_not_fall_where_published_limits_bite(
    published: JMPModel, hot: Atoms
) -> None:
    coarse, _ = trajectory(published, hot, STEP_FS, LIMITED)
    fine, _ = trajectory(published, hot, STEP_FS / 2, LIMITED)
    assert spread(coarse) / spread(fine) < 2


@pytest.mark.slow
def test_the_energy_does_not_drift_over_half_a_picosecond(
    smooth: JMPModel, hot: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("physics.test_energy_conservation.LENGTH_FS", 500.0)
    total, kinetic = trajectory(smooth, hot, STEP_FS)
    drift = np.polyfit(np.arange(len(total)), total, 1)[0] * len(total)
    assert abs(drift) < 0.01 * kinetic.std()
