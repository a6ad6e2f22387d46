"""The triangles that the quadruplet sum leaves out, against plain loops."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph import triangles
from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph, graph_from_edges
from jmp_calc.graph.edge_sets import build_edge_sets
from jmp_calc.graph.indices import build_index_lists
from jmp_calc.graph.rules import GraphRules

SMOOTH = GraphRules(cutoff=4.5, atom_edge_cutoff=5.0, quadruplet_cutoff=4.0)
RULES = {
    "smooth": SMOOTH,
    "quadruplet edges longer": GraphRules(cutoff=3.5, quadruplet_cutoff=5.0),
    "published": GraphRules(
        rules="published", cutoff=5.5, max_neighbors=9, radial_cutoff=12.0
    ),
}
LIMITS = {
    "one pair at a time": {"_PAIRS_AT_A_TIME": 1},
    "some pairs at a time": {"_PAIRS_AT_A_TIME": 1000},
    "one target at a time": {"_TABLE_SIZE": 1},
    "without a table": {"_TABLE_SIZE": 1, "_MAX_TABLE_SIZE": 0},
}


def _edges(edges: EdgeSet) -> list[tuple[int, ...]]:
    """Return (source, target, shift) of each edge."""
    return list(
        zip(
            edges.source.tolist(),
            edges.target.tolist(),
            *edges.shift.T.tolist(),
            strict=True,
        )
    )


def looped(graph: AtomGraph) -> list[tuple[int, int, int]]:
    """Return the triangles by trying all edges, in order."""
    main = {edge: place for place, edge in enumerate(_edges(graph.main))}
    return [
        (c_to_a, b_to_a, main[c, b, x - u, y - v, z - w])
        for (c, a, x, y, z), c_to_a in main.items()
        for b_to_a, (b, target, u, v, w) in enumerate(_edges(graph.quadruplet))
        if a == target and (c, b, x - u, y - v, z - w) in main
    ]


def found(graph: AtomGraph) -> list[tuple[int, ...]]:
    return [tuple(column) for column in graph.quadruplet_closure.T.tolist()]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    "name", ["water", "ethanol", "nacl", "si", "cu_slab_co", "isolated_he"]
)
def test_triangles_are_those_of_loops_in_order(
    name: str, rules: str, request: pytest.FixtureRequest
) -> None:
    graph = build_graph(request.getfixturevalue(name), RULES[rules])
    assert found(graph) == looped(graph)
    assert found(graph) or name in ("water", "isolated_he")


@pytest.mark.parametrize("rules", RULES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n_atoms=st.integers(1, 6),
    pbc=st.tuples(*[st.booleans()] * 3),
    stretch=st.tuples(*[st.floats(0.8, 3.0)] * 3),
    cells_away=st.sampled_from([0, 3, 10**4]),
)
def test_triangles_of_random_cells_are_those_of_loops(
    rules: str,
    seed: int,
    n_atoms: int,
    pbc: tuple[bool, bool, bool],
    stretch: tuple[float, float, float],
    cells_away: int,
) -> None:
    """Small cells, in which an atom is bound to several images of another."""
    rng = np.random.default_rng(seed)
    cell = (np.eye(3) + rng.uniform(-0.4, 0.4, (3, 3))) * np.array(stretch)[:, None] * 3
    positions = rng.uniform(0, 1, (n_atoms, 3)) @ cell
    away = rng.integers(-cells_away, cells_away + 1, (n_atoms, 3)) * np.array(pbc)
    atoms = Atoms("Ar" * n_atoms, positions + away @ cell, cell=cell, pbc=pbc)
    graph = build_graph(atoms, RULES[rules])
    assert found(graph) == looped(graph)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("name", ["ethanol", "nacl", "cu_slab_co"])
def test_triangles_do_not_depend_on_the_room_for_them(
    limits: str,
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atoms = request.getfixturevalue(name)
    whole = found(build_graph(atoms, SMOOTH))
    for limit, value in LIMITS[limits].items():
        monkeypatch.setattr(triangles, limit, value)
    assert found(build_graph(atoms, SMOOTH)) == whole


def test_pairs_are_never_in_memory_all_at_once() -> None:
    atoms = bulk("Cu", cubic=True) * 3
    edges = build_edge_sets(
        atoms.positions,
        atoms.cell.array,
        atoms.pbc,
        tags=np.full(len(atoms), 2),
        rules=GraphRules(cutoff=8.0, quadruplet_cutoff=3.0),
    )
    n_pairs = int((np.bincount(edges["main"].target) ** 2).sum())
    tracemalloc.start()
    build_index_lists(edges, atoms.positions, atoms.cell.array)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_pairs > 3_000_000
    assert peak < 4 * n_pairs  # bytes: not even a small integer for each pair


def test_a_table_holds_the_images_around_a_few_atoms_only(
    nacl: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many fit, not how many atoms there are, bounds its size."""
    sizes = []
    empty_table = triangles._Images._empty_table

    def spy(self: triangles._Images, size: int) -> np.ndarray:
        sizes.append(size)
        return empty_table(self, size)

    monkeypatch.setattr(triangles._Images, "_empty_table", spy)
    monkeypatch.setattr(triangles, "_TABLE_SIZE", 40_000)
    build_graph(nacl * (3, 3, 3), SMOOTH)
    assert 20_000 < max(sizes) <= 40_000


def test_atoms_that_left_their_cell_need_no_larger_table(
    nacl: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found(build_graph(nacl, SMOOTH))

    def searched(self: triangles._Images, wanted: np.ndarray) -> np.ndarray:
        raise AssertionError("triangles are searched although the cell is small")

    monkeypatch.setattr(triangles._Images, "_searched", searched)
    nacl.positions[3] += [200, -700, 40] @ nacl.cell.array
    nacl.positions += [10**4, 0, 0] @ nacl.cell.array
    graph = build_graph(nacl, SMOOTH)
    assert found(graph) == looped(graph)
    assert len(found(graph)) == len(expected)


def test_edges_to_images_too_far_away_to_number_are_refused() -> None:
    far = np.full((1, 3), 2**19)
    edges = (np.zeros(2, dtype=int), np.zeros(2, dtype=int), np.vstack([-far, far]))
    with pytest.raises(UnsupportedSystemError, match=r"span \[2097153, .* too many"):
        graph_from_edges(
            np.zeros((1, 3)),
            np.array([1]),
            np.eye(3),
            tags=None,
            edges=dict.fromkeys(GRAPHS, edges),
            rules=SMOOTH,
        )
