"""Graphs of a structure in motion equal fresh ones, bit for bit."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.graph.rules import GraphRules

SMOOTH = GraphRules(
    cutoff=4.0, atom_edge_cutoff=3.6, quadruplet_cutoff=3.0, atom_atom_cutoff=4.5
)
RULES = {
    "smooth": SMOOTH,
    "published, limits active": GraphRules(
        rules="published", cutoff=4.5, max_neighbors=8, radial_cutoff=12.0
    ),
    "published, limits far": GraphRules(
        rules="published", cutoff=4.0, max_neighbors=900, radial_cutoff=12.0
    ),
}


def systems() -> dict[str, Atoms]:
    skewed = bulk("Si") * (2, 1, 1)
    skewed.set_cell(skewed.cell.array + np.diag([0.3, 0.4], -1), scale_atoms=True)
    slab = fcc111("Cu", (1, 2, 2), vacuum=4.0)
    slab.pbc = True, True, False
    return {"molecule": molecule("CH3CH2OH"), "crystal": skewed, "slab": slab}


def assert_equal(one: AtomGraph | EdgeSet, other: AtomGraph | EdgeSet) -> None:
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, EdgeSet):
            assert_equal(left, right)
        else:
            assert torch.equal(left, right), field.name


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", systems())
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.sampled_from([0.003, 0.03, 0.15]))
def test_every_graph_of_a_walk_equals_a_fresh_one(name, rules, seed, step) -> None:
    atoms, random = systems()[name], np.random.default_rng(seed)
    motion = GraphInMotion(RULES[rules])
    for turn in range(8):
        assert_equal(motion.build(atoms), build_graph(atoms, RULES[rules]))
        atoms.positions += step * random.standard_normal(atoms.positions.shape)
        if turn % 3 == 1 and atoms.pbc.any():
            strain = np.eye(3) + 0.1 * step * random.standard_normal((3, 3))
            atoms.set_cell(atoms.cell.array @ strain, scale_atoms=bool(turn % 2))
        if turn == 4:
            atoms.wrap()


def test_a_vibrating_molecule_is_searched_once_and_its_topology_built_once() -> None:
    atoms, random = molecule("CH3CH2OH"), np.random.default_rng(0)
    start, motion = atoms.positions.copy(), GraphInMotion(GraphRules(cutoff=8.0))
    for _ in range(20):
        atoms.positions = start + 0.05 * random.standard_normal(start.shape)
        motion.build(atoms)
    assert (motion.n_searches, motion.n_topologies) == (1, 1)


def test_an_edge_that_comes_is_found_without_a_search() -> None:
    atoms = Atoms("He2", positions=[[0, 0, 0], [0, 0, 4.2]])
    motion = GraphInMotion(GraphRules(cutoff=4.0))
    assert motion.build(atoms).main.n_edges == 0
    atoms.positions[1, 2] = 3.9
    assert motion.build(atoms).main.n_edges == 2
    assert (motion.n_searches, motion.n_topologies) == (1, 2)


@pytest.mark.parametrize("how", ["far", "cell", "element", "boundary"])
def test_what_the_skin_does_not_cover_is_searched_anew(how: str) -> None:
    atoms = bulk("Si") * (2, 1, 1)
    motion = GraphInMotion(SMOOTH)
    motion.build(atoms)
    if how == "far":
        atoms.positions[0] += [0.6, 0, 0]
    elif how == "cell":
        atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)
    elif how == "element":
        atoms.numbers[0] = 6
    else:
        atoms.pbc = True, True, False
    assert_equal(motion.build(atoms), build_graph(atoms, SMOOTH))
    assert motion.n_searches == 2


def test_tags_that_are_changed_in_place_are_other_tags() -> None:
    tags = np.array([0, 1, 2])
    motion = GraphInMotion(SMOOTH, tags)
    tags[0] = 2
    assert not motion.is_for(SMOOTH, tags)


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_a_copy_has_the_rules_and_tags_and_searches_anew(how) -> None:
    atoms, tags = molecule("H2O"), np.array([0, 1, 2])
    motion = GraphInMotion(SMOOTH, tags, skin=0.5)
    motion.build(atoms)
    twin = copy.deepcopy(motion)
    if how == "pickle":
        twin = pickle.loads(pickle.dumps(motion))
    assert twin.is_for(SMOOTH, tags)
    atoms.positions[0, 0] += 0.3  # beyond half of this skin
    for one in (twin, twin, motion):
        assert_equal(one.build(atoms), build_graph(atoms, SMOOTH, tags=tags))
    assert (twin.n_searches, motion.n_searches) == (1, 2)


def test_atoms_that_fall_onto_each_other_are_found() -> None:
    atoms = Atoms("He2", positions=[[0, 0, 0], [0, 0, 0.3]])
    motion = GraphInMotion(SMOOTH)
    motion.build(atoms)
    atoms.positions[1] = 0
    with pytest.raises(UnsupportedSystemError, match="overlap"):
        motion.build(atoms)


def test_positions_that_are_not_finite_are_refused() -> None:
    atoms = molecule("H2O")
    motion = GraphInMotion(SMOOTH)
    motion.build(atoms)
    atoms.positions[0, 0] = np.nan
    with pytest.raises(UnsupportedSystemError, match="finite"):
        motion.build(atoms)
