"""OpenMM gets a calculator's energies and forces through openmmml, in its units."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from openmm import Context, Platform, Vec3, VerletIntegrator, unit
from openmm.app import Element, Topology
from openmmml import MLPotential

from jmp_calc.calculator import JMPCalculator

pytestmark = pytest.mark.slow

KJ_PER_MOL = 96.48533212
"""One eV in kJ/mol, CODATA 2018; ASE's and OpenMM's constants are a little older."""


def topology_of(atoms: Atoms) -> Topology:
    topology = Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for symbol in atoms.get_chemical_symbols():
        topology.addAtom(symbol, Element.getBySymbol(symbol), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors([Vec3(*row) for row in atoms.cell.array / 10])
    return topology


def context_of(atoms: Atoms, step_fs: float = 0.1, **route) -> Context:
    system = MLPotential("ase").createSystem(topology_of(atoms), **route)
    reference = Platform.getPlatformByName("Reference")
    context = Context(system, VerletIntegrator(step_fs * unit.femtosecond), reference)
    context.setPositions(atoms.positions * unit.angstrom)
    return context


def results(context: Context) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å, converted here and not by openmmml."""
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(
        unit.kilojoule_per_mole / unit.nanometer
    )
    return energy / KJ_PER_MOL, np.array(forces) / KJ_PER_MOL / 10


@pytest.mark.parametrize("route", ["aseAtoms", "calculator"])
@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_energies_and_forces_are_those_of_the_calculator(kind, route):
    atoms = molecule("CH3OH") if kind == "molecule" else bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    calculator = JMPCalculator("jmp-nano", dtype="float64")
    atoms.calc = calculator
    given = {"aseAtoms": atoms.copy()} if route == "aseAtoms" else {}
    if given:
        given["aseAtoms"].calc = JMPCalculator("jmp-nano", dtype="float64")
    else:
        given["calculator"] = JMPCalculator("jmp-nano", dtype="float64")
    context = context_of(atoms, **given)
    for scale in (1.0, 1.02):  # moved, and with another box
        atoms.set_cell(atoms.cell.array * scale, scale_atoms=True)
        atoms.positions[0] += 0.01
        if atoms.pbc.all():
            context.setPeriodicBoxVectors(*(atoms.cell.array * unit.angstrom))
        context.setPositions(atoms.positions * unit.angstrom)
        energy, forces = results(context)
        # the constants differ by 2e-9, positions go through nm
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-8)
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-7)


def test_constant_energy_is_constant():
    atoms = molecule("CH3OH")
    atoms.calc = JMPCalculator("jmp-nano", dtype="float64")
    context = context_of(atoms, step_fs=0.2, aseAtoms=atoms)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    potential, total = [], []
    for _ in range(10):
        context.getIntegrator().step(5)
        state = context.getState(energy=True)
        potential.append(state.getPotentialEnergy() / unit.kilojoule_per_mole)
        total.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    assert np.ptp(potential) > 3.0
    assert np.ptp(total) < 0.02 * np.ptp(potential)
