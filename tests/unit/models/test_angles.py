"""Factorised sums against the enumerated ones, with two derivatives."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.graph.build import build_graph
from jmp_calc.models.angles import quadruplet_weights, triplet_weights
from jmp_calc.models.config import NANO, GraphRules
from jmp_calc.models.harmonics import legendre, legendre_to_cosines
from jmp_calc.models.interaction import sum_quadruplets
from jmp_calc.models.layout import JoinedEdges, Layout
from oracle.enumerated import enumerate_lists

RULES = GraphRules(cutoff=3.2, atom_edge_cutoff=3.0, quadruplet_cutoff=2.8)
N = 4
CHANNELS = 3
EXACT = 1e-10
"""Relative to the largest magnitude."""
TOLERANCE = {"nearly linear part": 1e-6}
"""A sine of 3e-9 is itself known to 1e-7 only."""
SKEWED = [[2.5, 0, 0], [0.4, 2.6, 0], [0.2, 0.5, 2.4]]


def rattled(atoms: Atoms) -> Atoms:
    atoms.rattle(0.1, seed=3)
    return atoms


def linear_part(offset: float = 0.0) -> Atoms:
    """Propyne without its symmetry: H-C-C-C on a line, other atoms beside it."""
    atoms = molecule("C3H4_C3v")
    atoms.rotate(40, (1, 2, 3))
    atoms.positions[-1] += [0.1, 0.05, -0.05]
    atoms.positions[3, 0] += offset
    return atoms


def systems() -> dict[str, Atoms]:
    slab = fcc111("Cu", (1, 2, 2), vacuum=5.0, periodic=True)
    skewed = bulk("Si")
    skewed.set_cell(skewed.cell.array + np.diag([0.3, 0.4], -1))
    return {
        "molecule": rattled(molecule("CH3CH2OH")),
        "slab": rattled(slab),
        "skewed": rattled(skewed),
        "own images": Atoms("Cu", cell=SKEWED, pbc=True),
        "linear part": linear_part(),
        "nearly linear part": linear_part(offset=3e-9),
        "diatomic": molecule("CO"),
        "lone atom": Atoms("He"),
    }


def unit_vectors(graph: AtomGraph) -> SimpleNamespace:
    edges = JoinedEdges.of(graph)
    vector = edges.vectors(graph)
    unit = vector / torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    units = edges.split(unit)
    return SimpleNamespace(**{"atom_edge": units["main"], **units})


def factorised(graph: AtomGraph, x: Tensor, rules: Any) -> Tensor:
    """Sum over b, d for each c -> a: (edges, l, m, channels)."""
    v = unit_vectors(graph)
    weights = quadruplet_weights(
        graph,
        Layout.of(graph, torch.float64),
        main=v.main,
        quadruplet=v.quadruplet,
        n_spherical=N,
        rules=rules,
    )
    per_edge = weights.layout.main.pad(x)[weights.source]
    total = sum_quadruplets(per_edge, weights)
    total = total.view(-1, N, N, CHANNELS)
    series = torch.from_numpy(legendre_to_cosines(N))
    return torch.einsum("mj,ejlc->elmc", series, total)


def enumerated(graph: AtomGraph, x: Tensor, rules: Any) -> Tensor:
    """The same from the list of quadruplets."""
    v = unit_vectors(graph)
    d, b, c = (torch.from_numpy(row) for row in enumerate_lists(graph).quadruplets)
    p = torch.linalg.cross(v.main[c], v.quadruplet[b])
    q = torch.linalg.cross(v.main[d], v.quadruplet[b])
    angle = legendre((v.main[c] * v.quadruplet[b]).sum(-1), N)
    dot = (p * q).sum(-1)
    if rules == "published":
        square = (torch.linalg.cross(p, q) ** 2).sum(-1)
        is_floored = square < 1e-18  # both branches safe, for second derivatives
        sine = torch.where(is_floored, torch.ones_like(square), square).sqrt()
        sine = torch.where(is_floored, 1e-9, sine)
        norms = (torch.linalg.vector_norm(w.detach(), dim=-1) for w in (p, q))
        is_collinear = torch.minimum(*norms) < 1e-9
        dot = torch.where(is_collinear, dot - dot.detach(), dot)  # no rounding
        cosine = torch.cos(torch.atan2(sine, dot))
        dihedral = legendre(cosine, N)
    else:  # cos(j theta) times (sin sin)^j is a polynomial of the vectors
        square = (p * p).sum(-1) * (q * q).sum(-1)
        t = [torch.ones_like(dot), dot]
        while len(t) < N:
            t.append(2 * dot * t[-1] - square * t[-2])
        series = torch.from_numpy(legendre_to_cosines(N))
        dihedral = torch.stack(t, -1) @ series.T
    term = angle[:, :, None, None] * dihedral[:, None, :, None] * x[d][:, None, None]
    return term.new_zeros((graph.main.n_edges, N, N, CHANNELS)).index_add(0, c, term)


@pytest.mark.parametrize("rules", ["smooth", "published"])
@pytest.mark.parametrize("name", systems())
def test_factorised_quadruplets_equal_the_enumerated_ones(
    name: str, rules: Any
) -> None:
    graph = build_graph(systems()[name], RULES)
    generator = torch.Generator().manual_seed(0)
    shape = (graph.main.n_edges, CHANNELS)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    y = torch.randn(
        (shape[0], N, N, CHANNELS), generator=generator, dtype=torch.float64
    )
    z = torch.randn(graph.positions.shape, generator=generator, dtype=torch.float64)

    def value_and_derivatives(function: Any) -> list[Tensor]:
        positions = graph.positions.clone().requires_grad_()
        moved = graph.with_positions(positions, graph.cell)
        value = function(moved, x, rules)
        first = torch.zeros_like(positions)
        second = torch.zeros_like(positions)
        if value.requires_grad:
            (first,) = torch.autograd.grad(
                (value * y).sum(), positions, create_graph=True
            )
            (second,) = torch.autograd.grad(
                (first * z).sum(), positions, allow_unused=True, materialize_grads=True
            )
        return [value, first, second]

    ours, oracle = value_and_derivatives(factorised), value_and_derivatives(enumerated)
    for mine, theirs in zip(ours, oracle, strict=True):
        scale = theirs.abs().max().item() if theirs.numel() else 1.0
        worst = (mine - theirs).abs().max().item() if mine.numel() else 0.0
        assert worst <= TOLERANCE.get(name, EXACT) * scale


@pytest.mark.parametrize("name", systems())
def test_triplet_weights_equal_the_enumerated_harmonics(name: str) -> None:
    graph = build_graph(systems()[name], RULES)
    v, lists = unit_vectors(graph), enumerate_lists(graph)
    weights = triplet_weights(
        Layout.of(graph, torch.float64),
        main=v.main,
        atom_edge=v.atom_edge,
        n_spherical=N,
        rules="smooth",
    )
    for items, table, rows, columns, out, inner in (
        (lists.e2e, weights.edge_to_edge, weights.main, weights.main, v.main, v.main),
        (
            lists.a2e,
            weights.atom_to_edge,
            weights.main,
            weights.atom_edge,
            v.main,
            v.atom_edge,
        ),
        (
            lists.e2a,
            weights.edge_to_atom,
            weights.atom_edge,
            weights.main,
            v.atom_edge,
            v.main,
        ),
    ):
        expected = torch.zeros(
            (graph.n_atoms * rows.width, N, columns.width), dtype=torch.float64
        )
        i, o = (torch.from_numpy(row) for row in items)
        column = columns.position[i] % columns.width
        harmonics = legendre((out[o] * inner[i]).sum(-1), N)
        expected[rows.position[o], :, column] = harmonics
        torch.testing.assert_close(table.reshape(expected.shape), expected)


def test_collinear_atoms_have_a_zero_cosine_under_the_published_rules() -> None:
    """C2H2 on a line: every dihedral is undefined, its cosine is taken as 0."""
    atoms = Atoms("HCCH", positions=[[0, 0, z] for z in (-1.66, -0.6, 0.6, 1.66)])
    rules = replace(RULES, cutoff=1.5, atom_edge_cutoff=1.5, quadruplet_cutoff=1.5)
    graph = build_graph(atoms, rules)
    x = torch.ones((graph.main.n_edges, CHANNELS), dtype=torch.float64)
    total = factorised(graph, x, "published")
    at_zero = legendre(torch.zeros(1, dtype=torch.float64), N)[0]
    straight = legendre(-torch.ones(1, dtype=torch.float64), N)[0]
    # H-C...C-H: only the C-H edge into C ends a chain H -> C -> C <- H
    hydrogen = (graph.main.source == 3) & (graph.main.target == 2)
    expected = straight[:, None] * at_zero[None]
    torch.testing.assert_close(total[hydrogen][0, :, :, 0], expected)
    assert math.isclose(total[hydrogen][0, 0, 1, 0].item(), 0.0, abs_tol=1e-12)


def test_nano_has_the_smooth_rules() -> None:
    assert NANO.rules == "smooth"
