"""What energies must not depend on, for any weights: place, frame, order, batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.build import build_graph
from jmp_calc.models.jmp import JMPModel
from physics.networks import PUBLISHED, SMOOTH, difference, evaluate, tiny_model

EXACT = 1e-12
"""Relative; what differs is the order of a few hundred float64 additions."""
SYSTEMS = ["ethanol", "si", "cu_slab_co"]


@pytest.fixture(params=SYSTEMS)
def atoms(request: pytest.FixtureRequest) -> Atoms:
    """A molecule, a crystal smaller than the cutoff and a slab, in general position."""
    found: Atoms = request.getfixturevalue(request.param)
    return found


def random_rotation(seed: int, *, mirrored: bool) -> np.ndarray:
    """A proper or improper rotation matrix."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q)) * (-1 if mirrored else 1)


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    """The same system in another frame."""
    other = atoms.copy()
    other.set_cell(atoms.cell.array @ rotation.T)
    other.positions = atoms.positions @ rotation.T
    return other


@pytest.mark.parametrize("mirrored", [False, True], ids=["rotated", "mirrored"])
@pytest.mark.parametrize("kind", ["gradient", "direct"])
def test_a_rotation_turns_forces_and_virial_and_leaves_the_energy(
    model: JMPModel, atoms: Atoms, kind: str, mirrored: bool
) -> None:
    r = random_rotation(1, mirrored=mirrored)
    before = evaluate(model, atoms, kind=kind)
    after = evaluate(model, turned(atoms, r), kind=kind)
    assert difference(after.energy, before.energy) < EXACT
    assert difference(after.forces, before.forces @ r.T) < 10 * EXACT
    virial = r @ before.virial @ r.T
    assert difference(after.virial, virial) < 10 * EXACT


def test_a_translation_changes_nothing(model: JMPModel, atoms: Atoms) -> None:
    before = evaluate(model, atoms)
    atoms.positions += [0.3, -7.1, 2.2]
    after = evaluate(model, atoms)
    assert difference(after.energy, before.energy) < EXACT
    assert difference(after.forces, before.forces) < 10 * EXACT


def test_no_force_and_no_torque_acts_on_a_whole_molecule(
    model: JMPModel, ethanol: Atoms
) -> None:
    forces = evaluate(model, ethanol).forces
    scale = np.abs(forces).max()
    assert np.abs(forces.sum(0)).max() < EXACT * scale
    assert np.abs(np.cross(ethanol.positions, forces).sum(0)).max() < 10 * EXACT * scale


def test_an_atom_moved_by_lattice_vectors_is_the_same_atom(
    model: JMPModel, nacl: Atoms, cu_slab_co: Atoms
) -> None:
    rng = np.random.default_rng(0)
    for system in (nacl, cu_slab_co):
        before = evaluate(model, system)
        steps = rng.integers(-3, 4, (len(system), 3)) * system.pbc
        system.positions += steps @ system.cell.array
        after = evaluate(model, system)
        assert difference(after.energy, before.energy) < EXACT
        assert difference(after.forces, before.forces) < 10 * EXACT


def test_the_order_of_atoms_only_orders_the_forces(
    model: JMPModel, atoms: Atoms
) -> None:
    order = np.random.default_rng(2).permutation(len(atoms))
    before, after = evaluate(model, atoms), evaluate(model, atoms[order])
    assert difference(after.energy, before.energy) < EXACT
    forces = before.forces[order]
    assert difference(after.forces, forces) < 10 * EXACT


def test_the_order_of_atoms_matters_where_published_limits_bite(
    published: JMPModel, nacl: Atoms
) -> None:
    rules = replace(PUBLISHED, max_neighbors=5)
    order = np.arange(len(nacl))[::-1]
    before = evaluate(published, nacl, rules=rules)
    after = evaluate(published, nacl[order], rules=rules)
    assert difference(after.energy, before.energy) > 1e-4


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n_atoms=st.integers(1, 5),
    is_periodic=st.booleans(),
    mirrored=st.booleans(),
)
def test_random_systems_have_all_symmetries_at_once(
    seed: int, n_atoms: int, is_periodic: bool, mirrored: bool
) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3.0, 6.0, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
    # Places on a grid, and off it, so that no two atoms overlap.
    places = rng.permutation(27)[:n_atoms]
    grid = np.stack(np.unravel_index(places, (3, 3, 3)), axis=1) / 3
    positions = (grid + rng.uniform(0, 0.1, grid.shape)) @ cell
    atoms = Atoms(rng.integers(1, 20, n_atoms), positions, cell=cell, pbc=is_periodic)
    order, r = rng.permutation(n_atoms), random_rotation(seed, mirrored=mirrored)
    other = turned(atoms[order], r)
    other.positions += rng.normal(size=3)
    model = tiny_model("smooth")
    before, after = evaluate(model, atoms), evaluate(model, other)
    scale = np.abs(before.energy).max()
    assert np.abs(after.energy - before.energy).max() < EXACT * scale
    forces = before.forces[order] @ r.T
    assert np.abs(after.forces - forces).max() < 10 * EXACT * max(
        scale, np.abs(forces).max()
    )


def test_a_batch_equals_its_systems_one_by_one(
    model: JMPModel,
    ethanol: Atoms,
    isolated_he: Atoms,
    si: Atoms,
    cu_slab_co: Atoms,
    water: Atoms,
) -> None:
    systems = [ethanol, isolated_he, si, cu_slab_co, water, ethanol]
    alone = [evaluate(model, atoms) for atoms in systems]
    batch = evaluate(model, systems)
    for name in ("energy", "forces", "virial"):
        expected = np.concatenate([getattr(result, name) for result in alone])
        assert difference(getattr(batch, name), expected) < EXACT


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 2)])
def test_a_supercell_has_the_energy_of_its_cells(
    model: JMPModel, si: Atoms, repeats: tuple[int, int, int]
) -> None:
    one, many = evaluate(model, si), evaluate(model, si.repeat(repeats))
    n = np.prod(repeats)
    assert difference(many.energy, n * one.energy) < EXACT
    assert difference(many.forces, np.tile(one.forces, (n, 1))) < 10 * EXACT
    assert difference(many.virial, n * one.virial) < 10 * EXACT


def test_systems_beyond_the_cutoff_do_not_interact(
    model: JMPModel, ethanol: Atoms, water: Atoms
) -> None:
    water.positions += [40.0, 0.0, 0.0]
    parts, whole = evaluate(model, [ethanol, water]), evaluate(model, ethanol + water)
    assert difference(whole.energy, parts.energy.sum()) < EXACT
    assert difference(whole.forces, parts.forces) < EXACT


def test_atoms_just_beyond_the_longest_cutoff_do_not_interact(
    smooth: JMPModel,
) -> None:
    alone = evaluate(smooth, [Atoms("C"), Atoms("O")]).energy.sum()

    def pair(distance: float) -> float:
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, distance]])
        return float(evaluate(smooth, atoms).energy[0])

    assert pair(4.5 + 1e-9) == pytest.approx(alone, rel=1e-14)
    assert pair(4.0) != pytest.approx(alone, rel=1e-8)


def test_a_lone_atom_has_an_energy_of_its_own_and_no_force(
    model: JMPModel, isolated_he: Atoms
) -> None:
    result = evaluate(model, isolated_he)
    neon = evaluate(model, Atoms("Ne", [[5.0, 1.0, 2.0]]))
    assert np.isfinite(result.energy).all()
    assert result.energy != neon.energy
    assert result.forces.tolist() == [[0.0, 0.0, 0.0]]
    assert np.abs(result.virial).max() == 0.0


def test_the_energy_of_a_lone_atom_in_a_wide_cell_is_that_without_one(
    model: JMPModel, isolated_he: Atoms
) -> None:
    free = evaluate(model, isolated_he)
    isolated_he.cell, isolated_he.pbc = np.eye(3) * 30, True
    assert evaluate(model, isolated_he).energy == free.energy


def test_an_atom_among_its_own_images_feels_no_force(model: JMPModel) -> None:
    crystal = Atoms("Fe", cell=[[2.5, 0, 0], [0.4, 2.6, 0], [0.2, 0.5, 2.4]], pbc=True)
    result = evaluate(model, crystal)
    assert result.forces.tolist() == [[0.0, 0.0, 0.0]]
    assert np.abs(result.virial).max() > 0


@pytest.mark.parametrize("name", ["N2", "H2O", "CO2", "C2H2", "HCN", "CH4"])
def test_sums_over_no_triplets_or_quadruplets_are_defined(
    model: JMPModel, name: str
) -> None:
    result = evaluate(model, molecule(name))
    assert np.isfinite(result.energy).all()
    assert np.isfinite(result.forces).all()


def test_graphs_without_some_of_their_edges_are_defined(smooth: JMPModel) -> None:
    """Distance 3.8: main and atom-atom edges only."""
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 3.8]])
    edges = build_graph(atoms, SMOOTH)
    assert {name: getattr(edges, name).n_edges for name in GRAPHS} == {
        "main": 2,
        "atom_edge": 0,
        "quadruplet": 0,
        "atom_atom": 2,
    }
    forces = evaluate(smooth, atoms).forces
    assert np.isfinite(forces).all()
    assert np.abs(forces[:, 2]).min() > 0


def test_a_perfect_crystal_has_no_forces(smooth: JMPModel) -> None:
    """Every neighbour has an opposite one; no tie can break that without limits."""
    result = evaluate(smooth, bulk("Cu", cubic=True))
    assert np.abs(result.forces).max() < 1e-10 * np.abs(result.virial).max()
