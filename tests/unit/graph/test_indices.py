"""The index lists between edge sets, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph, graph_from_edges
from jmp_calc.graph.rules import GraphRules
from oracle.enumerated import enumerate_lists

SMOOTH = GraphRules(cutoff=4.5, atom_edge_cutoff=5.0, quadruplet_cutoff=4.0)
PUBLISHED = GraphRules(
    rules="published", cutoff=8.0, max_neighbors=12, radial_cutoff=12.0
)
SYSTEMS = ["water", "ethanol", "nacl", "si", "cu_slab_co", "isolated_he"]


@pytest.fixture(params=[SMOOTH, PUBLISHED], ids=["smooth", "published"])
def rules(request: pytest.FixtureRequest) -> GraphRules:
    return request.param


@pytest.fixture(params=SYSTEMS)
def graph(request: pytest.FixtureRequest, rules: GraphRules) -> AtomGraph:
    return build_graph(request.getfixturevalue(request.param), rules)


def _places(edges: EdgeSet) -> dict[tuple[int, ...], int]:
    """Return where the edge (source, target, shift) is."""
    keys = zip(
        edges.source.tolist(),
        edges.target.tolist(),
        *edges.shift.T.tolist(),
        strict=True,
    )
    return {key: place for place, key in enumerate(keys)}


def _columns(index: np.ndarray) -> list[tuple[int, ...]]:
    return sorted(zip(*np.asarray(index).tolist(), strict=True))


def test_swap_leads_to_the_counter_edge_and_back(graph: AtomGraph) -> None:
    main, swap = graph.main, graph.swap
    assert (swap[swap] == np.arange(main.n_edges)).all()
    assert (main.source[swap] == main.target).all()
    assert (main.target[swap] == main.source).all()
    assert (main.shift[swap] == -main.shift).all()


def test_shared_edges_are_found_in_both_graphs(graph: AtomGraph) -> None:
    main = _places(graph.main)
    for name in ("atom_edge", "quadruplet"):
        other = _places(getattr(graph, name))
        expected = sorted((main[key], other[key]) for key in main.keys() & other.keys())
        assert _columns(getattr(graph, f"main_is_{name}")) == expected


def test_quadruplet_edges_find_their_main_counter_edge(graph: AtomGraph) -> None:
    main = _places(graph.main)
    expected = [
        (place, main[t, s, -x, -y, -z])
        for (s, t, x, y, z), place in _places(graph.quadruplet).items()
        if (t, s, -x, -y, -z) in main
    ]
    assert _columns(graph.quadruplet_reverse) == sorted(expected)


def test_the_lists_account_for_every_excluded_triplet_and_quadruplet(
    graph: AtomGraph,
) -> None:
    """What the network subtracts is what an enumeration leaves out."""
    lists = enumerate_lists(graph)
    n = np.arange(graph.n_atoms)
    degree = {
        name: np.bincount(getattr(graph, name).target, minlength=len(n))
        for name in ("main", "atom_edge", "quadruplet")
    }
    at_target = degree["main"][graph.quadruplet.target]
    at_source = degree["main"][graph.quadruplet.source]
    n_in, n_out = at_source.sum(), at_target.sum()
    assert lists.e2e.shape[1] == (degree["main"] * (degree["main"] - 1)).sum()
    same = graph.main_is_atom_edge.shape[1]
    pairs = (degree["main"] * degree["atom_edge"]).sum()
    assert lists.a2e.shape[1] == lists.e2a.shape[1] == pairs - same
    assert lists.triplet_in.shape[1] == n_in - graph.quadruplet_reverse.shape[1]
    assert lists.triplet_out.shape[1] == n_out - graph.main_is_quadruplet.shape[1]
    inputs = np.bincount(lists.triplet_in[1], minlength=graph.quadruplet.n_edges)
    # d == c cannot be one of them where d == a or b == c was excluded already.
    paired = inputs[lists.triplet_out[0]].sum()
    assert lists.quadruplets.shape[1] == paired - graph.quadruplet_closure.shape[1]


def test_lists_do_not_depend_on_the_cell_that_atoms_are_stored_in(nacl: Atoms) -> None:
    before = build_graph(nacl, SMOOTH)
    nacl.positions[3] += [2, -700, 40] @ nacl.cell.array
    after = build_graph(nacl, SMOOTH)
    assert (after.swap[after.swap] == np.arange(after.main.n_edges)).all()
    assert after.quadruplet_closure.shape == before.quadruplet_closure.shape


def test_atoms_too_many_cells_apart_are_refused() -> None:
    positions = np.array([[0.0, 0, 0], [3.1e7, 3.1e7, 3.1e7]])
    atoms = Atoms("H2", positions, cell=[3.0] * 3, pbc=True)
    with pytest.raises(UnsupportedSystemError, match="wrap the atoms into the cell"):
        build_graph(atoms, SMOOTH)


def test_a_main_graph_that_is_not_symmetric_is_refused() -> None:
    one_way = (np.array([0]), np.array([1]), np.zeros((1, 3), dtype=int))
    edges = dict.fromkeys(("main", "atom_edge", "quadruplet", "atom_atom"), one_way)
    with pytest.raises(ArgumentError, match=r"main edge 0 -> 1 .* has no counter-edge"):
        graph_from_edges(
            np.eye(3)[:2],
            np.array([1, 1]),
            np.zeros((3, 3)),
            tags=None,
            edges=edges,
            rules=SMOOTH,
        )


def test_a_main_edge_that_is_given_twice_is_refused() -> None:
    twice = (np.array([0, 0, 1]), np.array([1, 1, 0]), np.zeros((3, 3), dtype=int))
    edges = dict.fromkeys(("main", "atom_edge", "quadruplet", "atom_atom"), twice)
    with pytest.raises(ArgumentError, match="given twice; give each of them once"):
        graph_from_edges(
            np.eye(3)[:2],
            np.array([1, 1]),
            np.zeros((3, 3)),
            tags=None,
            edges=edges,
            rules=SMOOTH,
        )
