"""The four edge sets under both sets of rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from jmp_calc.graph.batch import GRAPHS, EdgeSet
from jmp_calc.graph.build import build_graph, dropped_neighbors
from jmp_calc.graph.rules import GraphRules

SMOOTH = GraphRules(
    cutoff=5.0, atom_edge_cutoff=4.0, quadruplet_cutoff=3.0, atom_atom_cutoff=6.0
)
PUBLISHED = GraphRules(
    rules="published",
    cutoff=12.0,
    max_neighbors=30,
    is_periodic=True,
    radial_cutoff=12.0,
    quadruplet_tags=(1, 2),
)


def _edges(edges: EdgeSet) -> list[tuple[int, ...]]:
    """Return (target, source, shift) of each edge."""
    return list(
        zip(
            edges.target.tolist(),
            edges.source.tolist(),
            *edges.shift.T.tolist(),
            strict=True,
        )
    )


def _reversed(edges: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return sorted((s, t, -x, -y, -z) for t, s, x, y, z in edges)


def _distances(atoms: Atoms, edges: EdgeSet) -> np.ndarray:
    vector = (
        atoms.positions[edges.target]
        - atoms.positions[edges.source]
        - edges.shift.numpy() @ atoms.cell.array
    )
    return np.linalg.norm(vector, axis=1)


@pytest.mark.parametrize("rules", [SMOOTH, PUBLISHED], ids=["smooth", "published"])
@pytest.mark.parametrize("name", ["nacl", "si", "cu_slab_co"])
def test_edges_are_in_canonical_order_without_repeats(
    rules: GraphRules, name: str, request: pytest.FixtureRequest
) -> None:
    graph = build_graph(request.getfixturevalue(name), replace(rules, is_periodic=None))
    for kind in GRAPHS:
        edges = _edges(getattr(graph, kind))
        assert edges == sorted(set(edges))


def test_every_graph_of_the_smooth_rules_is_symmetric_and_has_its_cutoff(
    si: Atoms,
) -> None:
    graph = build_graph(si, SMOOTH)
    longest = graph.atom_atom
    distance = _distances(si, longest)
    for kind, cutoff in SMOOTH.cutoffs.items():
        edges = _edges(getattr(graph, kind))
        inside = distance <= cutoff
        assert edges == [
            e for e, keep in zip(_edges(longest), inside, strict=True) if keep
        ]
        assert _reversed(edges) == edges
    assert len({getattr(graph, kind).n_edges for kind in GRAPHS}) == len(GRAPHS)


def test_a_pair_at_the_cutoff_keeps_both_directions() -> None:
    """Two distances of a pair may differ by rounding, the decision must not."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        atoms = Atoms(
            "H2", rng.uniform(-1, 1, (2, 3)), cell=rng.normal(size=(3, 3)) * 9
        )
        atoms.pbc = True
        rules = GraphRules(cutoff=float(atoms.get_distance(0, 1, mic=True)))
        edges = _edges(build_graph(atoms, rules).main)
        assert _reversed(edges) == edges


def test_the_smooth_rules_do_not_depend_on_the_order_of_atoms(
    cu_slab_co: Atoms,
) -> None:
    order = np.random.default_rng(1).permutation(len(cu_slab_co))
    graph = build_graph(cu_slab_co, SMOOTH)
    permuted = build_graph(cu_slab_co[order], SMOOTH)
    for kind in GRAPHS:
        renamed = [
            (int(order[t]), int(order[s]), *shift)
            for t, s, *shift in _edges(getattr(permuted, kind))
        ]
        assert sorted(renamed) == _edges(getattr(graph, kind))


def test_published_limits_keep_the_nearest_sources_of_each_target(nacl: Atoms) -> None:
    graph = build_graph(nacl, PUBLISHED)
    everything = build_graph(nacl, replace(PUBLISHED, max_neighbors=10**6))
    distance = _distances(nacl, everything.atom_atom)
    for kind, limit in (("atom_edge", 20), ("quadruplet", 8)):
        nearest = []
        for target in range(len(nacl)):
            mine = np.flatnonzero(everything.atom_atom.target == target)
            nearest.extend(mine[np.argsort(distance[mine])[:limit]])
        edges = _edges(everything.atom_atom)
        assert _edges(getattr(graph, kind)) == [edges[i] for i in sorted(nearest)]


def test_the_higher_atom_decides_whether_a_published_pair_survives() -> None:
    """Atom 2 is nearest to 1, but both others are nearer to each other."""
    atoms = Atoms("H3", [[0, 0, 0], [1, 0, 0], [2.5, 0, 0]])
    rules = replace(PUBLISHED, max_neighbors=1, is_periodic=False)
    pairs = {edge[:2] for edge in _edges(build_graph(atoms, rules).main)}
    assert pairs == {(0, 1), (1, 0), (1, 2), (2, 1)}
    pairs = {edge[:2] for edge in _edges(build_graph(atoms[::-1], rules).main)}
    assert pairs == {(1, 2), (2, 1)}


def test_a_published_search_without_periodicity_keeps_the_first_not_the_nearest() -> (
    None
):
    atoms = Atoms("H60", [[1.0 * i, 0, 0] for i in range(60)])
    rules = replace(PUBLISHED, max_neighbors=1, is_periodic=False, cutoff=100.0)
    limits = rules.neighbor_limits(60)
    assert limits is not None
    limit = limits["atom_atom"]
    edges = build_graph(atoms, rules).atom_atom
    assert limit == 33
    assert edges.source[edges.target == 59].tolist() == list(range(limit))


def test_ties_at_a_limit_go_to_the_edge_that_comes_first() -> None:
    atoms = Atoms("H", cell=[3.0] * 3, pbc=True)
    rules = replace(PUBLISHED, max_neighbors=8, cutoff=3.1)
    edges = build_graph(atoms, rules).quadruplet
    assert edges.shift.tolist() == [[-1, 0, 0], [0, -1, 0]]


def test_of_two_tied_self_images_the_negative_one_brings_the_other() -> None:
    atoms = Atoms("H", cell=[3.0] * 3, pbc=True)
    rules = replace(PUBLISHED, max_neighbors=1, cutoff=3.1)
    edges = build_graph(atoms, rules).main
    assert edges.shift.tolist() == [[-1, 0, 0], [1, 0, 0]]


def test_published_periodicity_is_that_of_the_rules_not_of_the_atoms(
    water: Atoms,
) -> None:
    water.cell = np.eye(3) * 5.0
    periodic = build_graph(water, PUBLISHED)
    water.pbc = True
    free = build_graph(water, replace(PUBLISHED, is_periodic=False))
    assert periodic.main.shift.any()
    assert not free.main.shift.any()


def test_smooth_rules_follow_the_periodicity_of_the_atoms(cu_slab_co: Atoms) -> None:
    cu_slab_co.cell[2] = 0
    cu_slab_co.pbc = [True, True, False]
    graph = build_graph(cu_slab_co, replace(SMOOTH, is_periodic=True))
    assert graph.main.shift[:, :2].any()
    assert not graph.main.shift[:, 2].any()


def test_a_quadruplet_edge_needs_one_end_with_a_wanted_tag(cu_slab_co: Atoms) -> None:
    tags = np.array([0] * 4 + [1] * 8 + [2] * 2)
    every = build_graph(cu_slab_co, replace(PUBLISHED, quadruplet_tags=None), tags=tags)
    kept = build_graph(cu_slab_co, PUBLISHED, tags=tags)
    assert _edges(kept.quadruplet) == [
        e for e in _edges(every.quadruplet) if tags[e[0]] > 0 or tags[e[1]] > 0
    ]
    assert 0 < kept.quadruplet.n_edges < every.quadruplet.n_edges
    assert _edges(kept.main) == _edges(every.main)


def test_dropped_neighbors_are_counted_by_graph() -> None:
    """fcc: 12 nearest neighbors, 6 second ones."""
    atoms = bulk("Cu", a=4.0)
    rules = replace(PUBLISHED, cutoff=4.1, max_neighbors=15)
    assert dropped_neighbors(atoms, rules) == {
        "main": 18 - 15,
        "atom_edge": 18 - 10,
        "quadruplet": 18 - 4,
        "atom_atom": 0,
    }


def test_smooth_rules_drop_no_neighbors(nacl: Atoms) -> None:
    assert set(dropped_neighbors(nacl, SMOOTH).values()) == {0}
