"""Relaxations as a part of other work."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import LBFGS

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import hold_all, relax_together


def rattled(seed):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def test_each_ends_where_it_would_alone():
    systems = [rattled(0), rattled(1)]
    rounds = []
    found = relax_together(
        systems,
        RelaxSettings(fmax_eV_per_A=0.005),
        EMT(),
        names=["a", "b"],
        progress=lambda done, count: rounds.append((done, count)),
    )
    for system, relaxed in zip(systems, found, strict=True):
        alone = system.copy()
        alone.calc = EMT()
        LBFGS(alone, logfile=None).run(fmax=0.005)
        assert relaxed.energy == pytest.approx(alone.get_potential_energy(), abs=1e-6)
        assert relaxed.is_converged
        assert relaxed.max_force_eV_per_A <= 0.005
    assert rounds[-1] == (2, max(relaxed.n_steps for relaxed in found) + 1)


def test_what_is_held_is_computed_and_stays():
    atoms = rattled(0)
    (found,) = relax_together([hold_all(atoms)], RelaxSettings(), EMT(), names=["a"])
    assert found.n_steps == 0
    assert found.is_converged
    np.testing.assert_array_equal(found.atoms.positions, atoms.positions)
    assert found.max_force_eV_per_A > 0.1


def test_fixed_atoms_stay():
    atoms = rattled(0)
    atoms.set_constraint(FixAtoms([0, 2]))
    (found,) = relax_together([atoms], RelaxSettings(), EMT(), names=["a"])
    np.testing.assert_array_equal(found.atoms.positions[::2], atoms.positions[::2])


def test_an_error_names_the_structure():
    with pytest.raises(UnsupportedSystemError, match="second: No EMT-potential for Cl"):
        relax_together(
            [molecule("CO"), molecule("CH3Cl")],
            RelaxSettings(),
            EMT(),
            names=["first", "second"],
        )
