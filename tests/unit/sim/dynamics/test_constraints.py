from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.constraints import (
    ExternalForce,
    FixAtoms,
    FixBondLengths,
    FixCartesian,
    FixCom,
    FixedLine,
    FixedPlane,
    FixInternals,
    FixLinearTriatomic,
    FixScaled,
    FixSubsetCom,
    FixSymmetry,
    Hookean,
)

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.dynamics.held import Held
from jmp_calc.sim.dynamics.integrators import build_dynamics, prepare
from jmp_calc.sim.dynamics.meter import Meter
from jmp_calc.sim.dynamics.settings import MDSettings
from jmp_calc.units import KB

BONDS = [[0, 1], [1, 2], [2, 3]]


@pytest.fixture
def prepared(springs):
    def build(constraints, atoms=None):
        atoms = molecule("CH3CH2OH") if atoms is None else atoms
        atoms.set_constraint(constraints)
        atoms.calc = springs(atoms.positions, is_free=False)
        return prepare(atoms, MDSettings(), np.random.default_rng(0))[0]

    return build


GOOD = {
    "atoms": (FixAtoms([0, 1]), 21),
    "cartesian": (FixCartesian([0, 1], (True, False, True)), 23),
    "line": (FixedLine([0, 3], (1, 1, 0)), 23),
    "plane": (FixedPlane([0, 3], (1, 1, 0)), 25),
    "bonds": (FixBondLengths(BONDS), 21),
    "bonds and center": ([FixCom(), FixBondLengths(BONDS)], 21),
    "atoms and bonds": ([FixAtoms([8]), FixBondLengths(BONDS)], 21),
    "spring": (Hookean(0, 1, rt=1.4, k=5.0), 24),
    "spring to a point": (Hookean(0, (0.0, 0.0, 0.0), rt=1.4, k=5.0), 27),
}


@pytest.mark.parametrize("name", GOOD)
def test_langevin_gives_what_a_constraint_leaves_half_kt_each(name, prepared):
    constraints, expected = GOOD[name]
    settings = MDSettings(timestep_fs=1.0, friction_per_fs=0.1)
    system = prepared(constraints)
    dynamics = build_dynamics(system, settings, np.random.default_rng(1))
    kinetic = [system.get_kinetic_energy() for _ in dynamics.irun(2000)]
    assert system.get_number_of_degrees_of_freedom() == expected
    # the standard error is 2 %
    assert np.mean(kinetic) / (0.5 * KB * 300.0) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", GOOD)
def test_total_energy_is_conserved_under_a_constraint(name, prepared):
    settings = MDSettings(ensemble="nve", timestep_fs=0.5)
    system = prepared(GOOD[name][0])
    rng = np.random.default_rng(1)
    system.calc = Held(system.calc, has_stress=False)
    dynamics = build_dynamics(system, settings, rng)
    number = int(system.get_number_of_degrees_of_freedom())
    meter = Meter(dynamics, settings, rng, degrees_of_freedom=number)
    rows = [meter.read(i).observables for i, _ in enumerate(dynamics.irun(200))]
    assert np.ptp([row.total_energy_eV for row in rows]) < 1e-3
    assert [row.conserved_energy_eV for row in rows] == pytest.approx(
        [row.total_energy_eV for row in rows], abs=5e-6
    )


def test_the_center_of_mass_is_fixed_beside_bond_lengths(prepared):
    system = prepared(FixBondLengths(BONDS))
    assert [type(c) for c in system.constraints] == [FixBondLengths, FixCom]
    assert np.abs(system.get_momenta().sum(axis=0)).max() < 1e-10


def test_a_rigid_linear_molecule_keeps_two_rotations(prepared):
    triples = FixLinearTriatomic([(1, 0, 2)])
    system = prepared(triples, molecule("CO2"))
    assert system.get_number_of_degrees_of_freedom() == 2


def test_an_atom_in_two_constraints_is_named(prepared):
    match = "atom 1 is in two constraints, FixAtoms and FixedLine.*put it into one"
    with pytest.raises(ArgumentError, match=match):
        prepared([FixAtoms([0, 1]), FixedLine([1, 2], (1, 0, 0))])


def test_redundant_bond_lengths_are_refused(prepared):
    pairs = [[i, j] for i in range(5) for j in range(i)]
    with pytest.raises(
        ArgumentError, match=r"10 bond lengths.*0, 1, 2, 3, 4 are not in"
    ):
        prepared(FixBondLengths(pairs), molecule("CH4"))


def test_rigid_water_across_the_cell_is_accepted(prepared):
    atoms = molecule("H2O")
    atoms.set_cell([6.0, 6.0, 6.0])
    atoms.pbc = True
    atoms.wrap()
    system = prepared(FixBondLengths([[0, 1], [0, 2], [1, 2]]), atoms)
    assert system.get_number_of_degrees_of_freedom() == 3


ethanol = molecule("CH3CH2OH")


@pytest.mark.parametrize(
    "constraint",
    [
        ExternalForce(0, 1, 0.5),
        FixInternals(bonds=[[ethanol.get_distance(0, 1), [0, 1]]]),
        FixSubsetCom([0, 1, 2]),
    ],
    ids=lambda constraint: type(constraint).__name__,
)
def test_a_constraint_that_ase_applies_wrongly_to_momenta_is_refused(
    constraint, prepared
):
    match = f"constraints {type(constraint).__name__} rightly.*use FixAtoms"
    with pytest.raises(ArgumentError, match=match):
        prepared(constraint)


def test_a_constraint_without_a_count_is_refused(prepared):
    pytest.importorskip("spglib", reason="FixSymmetry needs spglib")
    atoms = bulk("Cu", cubic=True)
    with pytest.raises(ArgumentError, match="FixSymmetry rightly"):
        prepared(FixSymmetry(atoms), atoms)


def test_scaled_coordinates_are_fixed_only_along_a_straight_axis(prepared):
    straight = bulk("Cu", cubic=True)
    assert prepared(FixScaled([0], (True, False, False)), straight)
    skewed = bulk("Cu") * (2, 2, 2)
    with pytest.raises(ArgumentError, match="FixScaled rightly"):
        prepared(FixScaled([0], (True, False, False)), skewed)
