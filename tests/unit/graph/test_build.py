"""Graphs of single systems, given edges, and batches."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.batch import GRAPHS, AtomGraph, EdgeSet, collate
from jmp_calc.graph.build import build_graph, graph_from_edges
from jmp_calc.graph.rules import GraphRules

SMOOTH = GraphRules(cutoff=5.0, quadruplet_cutoff=4.0)
PUBLISHED = GraphRules(
    rules="published", cutoff=8.0, max_neighbors=12, radial_cutoff=12.0
)
LISTS = {
    "swap": ("main",),
    "main_is_atom_edge": ("main", "atom_edge"),
    "main_is_quadruplet": ("main", "quadruplet"),
    "quadruplet_reverse": ("quadruplet", "main"),
    "quadruplet_closure": ("main", "quadruplet", "main"),
}


def _assert_equal(first: AtomGraph, second: AtomGraph) -> None:
    for field in fields(AtomGraph):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, EdgeSet):
            for part in fields(EdgeSet):
                torch.testing.assert_close(
                    getattr(one, part.name), getattr(other, part.name), rtol=0, atol=0
                )
        else:
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def vectors_of(graph: AtomGraph, name: str) -> torch.Tensor:
    """From the source image to the target, angstrom."""
    edges = getattr(graph, name)
    cell = graph.cell[graph.system_index[edges.target]]
    shift = (edges.shift.to(cell.dtype)[:, None] @ cell)[:, 0]
    return graph.positions[edges.target] - graph.positions[edges.source] - shift


def test_a_lone_atom_has_a_graph_without_edges(isolated_he: Atoms) -> None:
    graph = build_graph(isolated_he, SMOOTH)
    for name in GRAPHS:
        assert getattr(graph, name).shift.shape == (0, 3)
    assert graph.swap.shape == (0,)
    assert graph.main_is_atom_edge.shape == (2, 0)
    assert graph.quadruplet_closure.shape == (3, 0)
    assert {getattr(graph, name).dtype for name in LISTS} == {torch.int64}


def test_every_envelope_ends_at_the_cutoff_of_its_smooth_graph(water: Atoms) -> None:
    graph = build_graph(water, SMOOTH)
    assert graph.main.envelope_cutoff.tolist() == [5.0]
    assert graph.quadruplet.envelope_cutoff.tolist() == [4.0]
    assert graph.main.envelope_cutoff.dtype == torch.float64


def test_every_published_envelope_ends_at_the_radial_cutoff(water: Atoms) -> None:
    graph = build_graph(water, PUBLISHED)
    assert {getattr(graph, n).envelope_cutoff.item() for n in GRAPHS} == {12.0}


def test_inputs_are_kept_in_double_precision(nacl: Atoms) -> None:
    graph = build_graph(nacl, SMOOTH)
    assert graph.positions.numpy().tolist() == nacl.positions.tolist()
    assert graph.cell[0].numpy().tolist() == nacl.cell.array.tolist()
    assert graph.numbers.tolist() == nacl.numbers.tolist()


def test_edge_vectors_are_no_longer_than_the_cutoff(nacl: Atoms) -> None:
    graph = build_graph(nacl, SMOOTH)
    length = vectors_of(graph, "main").norm(dim=1)
    assert 4.5 < length.max() <= 5.0


def test_a_graph_does_not_change_with_the_atoms_it_was_made_of(water: Atoms) -> None:
    graph = build_graph(water, SMOOTH)
    before = graph.positions.clone()
    water.positions += 1.0
    assert graph.positions.equal(before)


def test_atoms_have_tag_2_whatever_ase_says(cu_slab_co: Atoms) -> None:
    assert set(cu_slab_co.get_tags()) == {0, 1, 2, 3}
    assert build_graph(cu_slab_co, SMOOTH).tags.tolist() == [2] * len(cu_slab_co)


def test_tags_for_another_number_of_atoms_are_refused(water: Atoms) -> None:
    with pytest.raises(ArgumentError, match=r"shape \(2,\) for 3 atoms; give one tag"):
        build_graph(water, SMOOTH, tags=[0, 1])


@pytest.mark.parametrize("name", ["ethanol", "si", "cu_slab_co"])
def test_given_edges_in_any_order_make_the_same_graph(
    name: str, request: pytest.FixtureRequest
) -> None:
    atoms = request.getfixturevalue(name)
    graph = build_graph(atoms, PUBLISHED)
    rng, edges = np.random.default_rng(0), {}
    for kind in GRAPHS:
        edge: EdgeSet = getattr(graph, kind)
        order = rng.permutation(edge.n_edges)
        edges[kind] = tuple(
            x.numpy()[order] for x in (edge.source, edge.target, edge.shift)
        )
    again = graph_from_edges(
        atoms.positions,
        atoms.numbers,
        atoms.cell.array,
        tags=None,
        edges=edges,
        rules=PUBLISHED,
    )
    _assert_equal(graph, again)


def test_given_edges_must_be_those_of_all_graphs(water: Atoms) -> None:
    with pytest.raises(ArgumentError, match="given for no graph; they are needed for"):
        graph_from_edges(
            water.positions,
            water.numbers,
            water.cell.array,
            tags=None,
            edges={},
            rules=SMOOTH,
        )


@pytest.mark.parametrize("rules", [SMOOTH, PUBLISHED], ids=["smooth", "published"])
def test_a_batch_is_its_systems_side_by_side(
    ethanol: Atoms, isolated_he: Atoms, si: Atoms, nacl: Atoms, rules: GraphRules
) -> None:
    graphs = [
        build_graph(ethanol, replace(rules, cutoff=6.0)),
        build_graph(isolated_he, rules),
        build_graph(si, rules),
        build_graph(nacl, rules),
    ]
    batch = collate(graphs)
    assert batch.n_systems == 4
    assert batch.system_index.tolist() == [
        i for i, graph in enumerate(graphs) for _ in range(graph.n_atoms)
    ]
    # Vectors need positions, cells, shifts and system_index, and thus check all.
    for name in GRAPHS:
        vectors = torch.cat([vectors_of(graph, name) for graph in graphs])
        assert vectors_of(batch, name).equal(vectors)
    for name, of in LISTS.items():
        start = [np.cumsum([0] + [getattr(g, k).n_edges for g in graphs]) for k in of]
        expected = [
            getattr(graph, name).reshape(len(of), -1).numpy()
            + np.array([[s[i]] for s in start])
            for i, graph in enumerate(graphs)
        ]
        found = getattr(batch, name).reshape(len(of), -1)
        assert found.tolist() == np.concatenate(expected, axis=1).tolist()


def test_batching_batches_is_batching_systems(
    water: Atoms, si: Atoms, nacl: Atoms
) -> None:
    first, second, third = (build_graph(a, SMOOTH) for a in (water, si, nacl))
    nested = collate([collate([first, second]), third])
    _assert_equal(nested, collate([first, second, third]))
