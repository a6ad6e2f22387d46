"""Edge dropout: one choice from which all four graphs follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules

SMOOTH = GraphRules(cutoff=5.0, quadruplet_cutoff=3.0, atom_atom_cutoff=6.0)
PUBLISHED = GraphRules(
    rules="published", cutoff=6.0, max_neighbors=120, radial_cutoff=12.0
)
BOTH = pytest.mark.parametrize("rules", [SMOOTH, PUBLISHED], ids=["smooth", "publ."])


def dropped(atoms: Atoms, rules: GraphRules, *, p: float, seed: int = 0) -> AtomGraph:
    generator = np.random.default_rng(seed)
    return build_graph(atoms, rules, edge_dropout=p, generator=generator)


def edges(of: EdgeSet) -> set[tuple[int, ...]]:
    """Target, source and shift of each edge."""
    shift = of.shift.T.tolist()
    return set(zip(of.target.tolist(), of.source.tolist(), *shift, strict=True))


def reverse(of: set[tuple[int, ...]]) -> set[tuple[int, ...]]:
    return {(s, t, -x, -y, -z) for t, s, x, y, z in of}


@BOTH
def test_the_same_seed_drops_the_same_edges(nacl, rules) -> None:
    a, b, c = (dropped(nacl, rules, p=0.3, seed=s) for s in (1, 1, 2))
    assert edges(a.atom_atom) == edges(b.atom_atom)
    assert edges(a.atom_atom) != edges(c.atom_atom)


@BOTH
def test_the_stated_part_of_the_edges_is_dropped(nacl, rules) -> None:
    whole = build_graph(nacl, rules).atom_atom.n_edges
    left = [dropped(nacl, rules, p=0.1, seed=s).atom_atom.n_edges for s in range(20)]
    # 20 draws of at least 300 independent pairs: 5 standard errors of the mean
    tolerance = 5 * np.sqrt(0.1 * 0.9 / (20 * 300))
    assert np.mean(left) / whole == pytest.approx(0.9, abs=tolerance)


@BOTH
def test_the_main_graph_stays_symmetric(nacl, cu_slab_co, rules) -> None:
    for atoms in (nacl, cu_slab_co):
        main = edges(dropped(atoms, rules, p=0.3).main)
        assert main == reverse(main)


def test_by_smooth_rules_every_graph_loses_the_same_pairs(nacl) -> None:
    whole, left = build_graph(nacl, SMOOTH), dropped(nacl, SMOOTH, p=0.3)
    kept = edges(left.atom_atom)
    assert kept == reverse(kept)
    for name in GRAPHS:
        assert edges(getattr(left, name)) == edges(getattr(whole, name)) & kept


def test_by_published_rules_directed_edges_are_dropped(nacl) -> None:
    left = dropped(nacl, PUBLISHED, p=0.3)
    kept = edges(left.atom_atom)
    assert kept != reverse(kept)
    # without active limits the others are what is left of it
    assert edges(left.atom_edge) == edges(left.quadruplet) == kept
    # and of each pair of main edges one decides: that of the higher atom
    decides = {e for e in kept if e[1] < e[0]}
    assert {e for e in edges(left.main) if e[1] < e[0]} == decides


def test_places_of_dropped_edges_go_to_the_next_nearest(nacl) -> None:
    rules = replace(PUBLISHED, max_neighbors=15)
    left = dropped(nacl, rules, p=0.3)
    # ten nearest of about sixty that are left
    assert np.bincount(left.atom_edge.target).tolist() == [10] * len(nacl)


@BOTH
def test_without_dropout_the_generator_is_not_used(nacl, rules) -> None:
    generator = np.random.default_rng(0)
    build_graph(nacl, rules, generator=generator)
    assert generator.random() == np.random.default_rng(0).random()


def test_a_graph_may_lose_all_its_edges(water) -> None:
    graph = dropped(water, SMOOTH, p=0.99999)
    assert [getattr(graph, name).n_edges for name in GRAPHS] == [0] * 4


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_a_probability_that_is_none_is_refused(water, p) -> None:
    with pytest.raises(ArgumentError, match=f"edge_dropout is {p}; it must be"):
        dropped(water, SMOOTH, p=p)


def test_dropout_needs_a_generator(water) -> None:
    with pytest.raises(ArgumentError, match=r"no generator; give a numpy\.random\.Gen"):
        build_graph(water, SMOOTH, edge_dropout=0.1)
