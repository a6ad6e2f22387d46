"""The limits of the published rules, against loops over every target."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.graph import edge_sets
from jmp_calc.graph.batch import GRAPHS
from jmp_calc.graph.edge_sets import Edges, build_edge_sets, search_cutoff
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules

Edge = tuple[int, ...]
"""Target, source and shift."""


def systems(seed: int) -> dict[str, Atoms]:
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3, 6, 3))
    return {
        "disordered": Atoms("Ar4", rng.uniform(0, 1, (4, 3)) @ cell, cell=cell, pbc=1),
        "crystal": bulk("NaCl", "rocksalt", a=5.64) * (2, 1, 1),
        "wire": Atoms("Ar2", [[0, 0, 0], [0, 0, 1.5]], cell=[0, 0, 3], pbc=[0, 0, 1]),
        "molecule": molecule("C6H6"),
    }


def searched(atoms: Atoms, rules: GraphRules) -> Edges:
    source, target, shift, distance = neighbor_list(
        atoms.positions, atoms.cell.array, atoms.pbc, cutoff=search_cutoff(rules)
    )
    return Edges(source=source, target=target, shift=shift, distance=distance)


def by_loops(
    found: Edges, rules: GraphRules, *, n_atoms: int, by_distance: bool
) -> dict[str, list[Edge]]:
    """Return the edges of each graph: sort what comes to each target, and cut."""
    limits = rules.neighbor_limits(n_atoms)
    assert limits is not None
    columns = (found.target, found.source, *found.shift.T, found.distance)
    edges = list(zip(*(column.tolist() for column in columns), strict=True))
    chosen: dict[str, list[Edge]] = {name: [] for name in GRAPHS}
    for target in range(n_atoms):
        here = [edge for edge in edges if edge[0] == target]
        if by_distance:
            here.sort(key=lambda edge: edge[-1])  # stable: ties stay in order
        here = here[: limits["atom_atom"]]
        chosen["atom_atom"] += [edge[:-1] for edge in here]
        here.sort()
        here.sort(key=lambda edge: edge[-1])
        for name in ("main", "atom_edge", "quadruplet"):
            within = [edge for edge in here if edge[-1] <= rules.cutoffs[name]]
            chosen[name] += [edge[:-1] for edge in within[: limits[name]]]
    half = {(t, s, *r) for t, s, *r in chosen["main"] if (s, r) < (t, [0, 0, 0])}
    other = {(s, t, -x, -y, -z) for t, s, x, y, z in half}
    chosen["main"] = [*half, *other]
    return {name: sorted(edges) for name, edges in chosen.items()}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n_at_a_time=st.sampled_from([1, edge_sets._SORTED_AT_A_TIME]),
    seed=st.integers(0, 10**6),
    name=st.sampled_from(sorted(systems(0))),
    cutoffs=st.tuples(*[st.sampled_from([2.0, 3.0, 4.0, 5.64, 6.0])] * 4),
    max_neighbors=st.integers(1, 40),
)
def test_limits_keep_what_loops_keep(
    n_at_a_time: int,
    seed: int,
    name: str,
    cutoffs: tuple[float, float, float, float],
    max_neighbors: int,
) -> None:
    atoms = systems(seed)[name]
    rules = GraphRules(
        rules="published",
        cutoff=cutoffs[0],
        atom_edge_cutoff=cutoffs[1],
        quadruplet_cutoff=cutoffs[2],
        atom_atom_cutoff=cutoffs[3],
        max_neighbors=max_neighbors,
    )
    found = searched(atoms, rules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_sets, "_SORTED_AT_A_TIME", n_at_a_time)
        chosen = build_edge_sets(
            atoms.positions,
            atoms.cell.array,
            atoms.pbc,
            tags=np.full(len(atoms), 2),
            rules=rules,
            found=found,
        )
    expected = by_loops(
        found, rules, n_atoms=len(atoms), by_distance=bool(atoms.pbc.any())
    )
    for graph, edges in chosen.items():
        columns = (edges.target, edges.source, *edges.shift.T)
        listed = list(zip(*(column.tolist() for column in columns), strict=True))
        assert listed == expected[graph], graph


def test_distances_are_sorted_for_a_few_targets_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One atom in a crowd does not make the rows of all others as long as its own."""
    shapes = []
    full = np.full

    def spy(shape, *arguments, **options):
        shapes.append(shape)
        return full(shape, *arguments, **options)

    rng = np.random.default_rng(0)
    crowd = rng.uniform(0, 4, (30, 3))
    chain = np.array([[20.0 + 2 * i, 0, 0] for i in range(1000)])
    atoms = Atoms("H1030", [*crowd, *chain], cell=[3000, 50, 50], pbc=True)
    rules = GraphRules(rules="published", cutoff=6.0, max_neighbors=5)
    found = searched(atoms, rules)
    monkeypatch.setattr(edge_sets, "_SORTED_AT_A_TIME", 2000)
    monkeypatch.setattr(np, "full", spy)
    edge_sets._are_nearest(found, [5])
    rows = [shape for shape in shapes if isinstance(shape, tuple) and shape[0] > 1]
    assert len(rows) > 10
    assert max(np.prod(shape) for shape in rows) <= 2000
    assert min(shape[1] for shape in rows) == 6


@pytest.mark.parametrize("pbc", [False, True])
def test_an_edge_and_its_counter_edge_have_the_same_length(pbc: bool) -> None:
    """To the last bit: a cutoff that falls on one of them falls on both."""
    rng = np.random.default_rng(3)
    cell = rng.normal(size=(3, 3)) * 4
    atoms = Atoms("H40", rng.uniform(-3, 3, (40, 3)) @ cell, cell=cell, pbc=pbc)
    found = searched(atoms, GraphRules(cutoff=9.0))
    columns = (found.target, found.source, *found.shift.T)
    edges = list(zip(*(column.tolist() for column in columns), strict=True))
    lengths = dict(zip(edges, found.distance.tolist(), strict=True))
    assert len(lengths) > 100
    for (t, s, x, y, z), length in lengths.items():
        assert lengths[s, t, -x, -y, -z] == length
