"""Graphs of a structure in motion equal fresh ones, bit for bit."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph import indices
from jmp_calc.graph.batch import GRAPHS, INDEX_LISTS, AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.edge_sets import Edges
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


DISTANCES = {
    # graphs that lose or gain the edge between two atoms, cutoff between both distances
    "atom_atom": (4.3, 4.7),
    "main": (3.8, 4.2),
    "atom_edge": (3.4, 3.7),
    "quadruplet": (2.8, 3.2),
}
LISTS_OF = {
    "atom_atom": set(),
    "main": set(INDEX_LISTS),
    "atom_edge": {"main_is_atom_edge"},
    "quadruplet": {"main_is_quadruplet", "quadruplet_reverse", "quadruplet_closure"},
}


@pytest.mark.parametrize("changed", DISTANCES)
def test_what_other_edges_decide_is_kept_when_an_edge_crosses_a_cutoff(
    changed: str,
) -> None:
    here, there = DISTANCES[changed]
    atoms = Atoms("H4", [[0, 0, 0], [50, 0, 0], [50, 1, 0], [here, 0, 0]])
    motion = GraphInMotion(SMOOTH)
    before = motion.build(atoms)
    atoms.positions[3, 0] = there
    after = motion.build(atoms)
    assert_equal(after, build_graph(atoms, SMOOTH))
    made = {
        name for name in GRAPHS if getattr(after, name) is not getattr(before, name)
    }
    assert made == {changed}
    made = {
        name
        for name in INDEX_LISTS
        if getattr(after, name) is not getattr(before, name)
    }
    assert made == LISTS_OF[changed]
    assert after.derived is not before.derived
    assert (motion.n_searches, motion.n_topologies) == (1, 2)


@pytest.fixture
def triangle_searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of main edges of each search for triangles."""
    calls: list[int] = []
    search = indices.find_triangles

    def spy(main: Edges, *arguments: Any, **options: Any) -> Any:
        calls.append(main.n_edges)
        return search(main, *arguments, **options)

    monkeypatch.setattr(indices, "find_triangles", spy)
    return calls


def test_a_walk_in_which_only_outer_edges_cross_finds_triangles_once(
    triangle_searches: list[int],
) -> None:
    rules = GraphRules(cutoff=2.5, atom_atom_cutoff=6.0)
    atoms, random = bulk("Si", cubic=True) * 2, np.random.default_rng(0)
    start, motion = atoms.positions.copy(), GraphInMotion(rules)
    for _ in range(8):
        atoms.positions = start + 0.02 * random.standard_normal(start.shape)
        graph = motion.build(atoms)
    assert motion.n_topologies == 8
    assert triangle_searches == [graph.main.n_edges]


def test_neighbors_that_keep_their_rank_keep_the_topology(
    triangle_searches: list[int],
) -> None:
    """Where limits cut edges off, they are ranked in every step, and no more."""
    rules = RULES["published, limits active"]
    atoms, random = systems()["slab"], np.random.default_rng(0)
    atoms.rattle(0.05, seed=1)
    start, motion = atoms.positions.copy(), GraphInMotion(rules)
    graphs = []
    for _ in range(5):
        atoms.positions = start + 1e-6 * random.standard_normal(start.shape)
        graphs.append(motion.build(atoms))
        assert_equal(graphs[-1], build_graph(atoms, rules))
    assert motion.n_topologies == 1
    assert all(graph.derived is graphs[0].derived for graph in graphs)
    assert len(triangle_searches) == 1 + 5


def test_a_new_search_that_finds_the_same_edges_keeps_the_topology() -> None:
    atoms = molecule("CH3CH2OH")
    motion = GraphInMotion(SMOOTH)
    before = motion.build(atoms)
    atoms.positions += [3.0, 0, 0]
    after = motion.build(atoms)
    assert (motion.n_searches, motion.n_topologies) == (2, 1)
    assert after.derived is before.derived
    assert_equal(after, build_graph(atoms, SMOOTH))


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
