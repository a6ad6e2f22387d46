"""Graph rules: limits by size, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.build import build_graph, dropped_neighbors
from jmp_calc.graph.rules import GraphRules

QMOF = GraphRules(
    rules="published",
    cutoff=19.0,
    max_neighbors=30,
    max_neighbors_by_size=((300, 5), (200, 10)),
    radial_cutoff=12.0,
)


@pytest.mark.parametrize(
    ("n_atoms", "main", "quadruplet"),
    [(1, 30, 8), (200, 30, 8), (201, 10, 2), (300, 10, 2), (301, 5, 1), (9999, 5, 1)],
)
def test_the_limit_is_that_of_the_largest_size_exceeded(
    n_atoms, main, quadruplet
) -> None:
    limits = QMOF.neighbor_limits(n_atoms)
    assert (limits["main"], limits["quadruplet"]) == (main, quadruplet)


def test_a_graph_has_the_limit_of_its_size() -> None:
    rules = replace(QMOF, cutoff=6.0, max_neighbors_by_size=((7, 12), (8, 9)))
    for n_atoms, limit in ((1, 30), (8, 12), (27, 9)):
        size = round(n_atoms ** (1 / 3))
        cell = bulk("Cu") * (size, size, size)
        cell.rattle(0.05, seed=1)
        # of atom-edge edges there are two thirds of M
        count = np.bincount(build_graph(cell, rules).atom_edge.target)
        assert count.tolist() == [limit * 20 // 30] * n_atoms


def test_dropped_neighbors_are_counted_at_the_limit_of_the_size() -> None:
    cell = bulk("Cu") * (2, 2, 2)
    few = replace(QMOF, cutoff=5.0, max_neighbors_by_size=((7, 6),))
    many = replace(few, max_neighbors_by_size=())
    of_few, of_many = (dropped_neighbors(cell, rules) for rules in (few, many))
    assert of_few["main"] == of_many["main"] + 8 * (30 - 6)


def test_smooth_rules_have_no_limits_whatever_the_size() -> None:
    assert GraphRules(cutoff=5.0).neighbor_limits(1000) is None


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (((200, 0),), "numbers of at least 1"),
        (((0, 5),), "numbers of at least 1"),
        (((200, 5), (200, 10)), "give each number of atoms once"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits, message) -> None:
    with pytest.raises(ArgumentError, match=rf"max_neighbors_by_size is.*{message}"):
        replace(QMOF, max_neighbors_by_size=limits)


def test_a_limit_of_zero_is_refused() -> None:
    with pytest.raises(ArgumentError, match="max_neighbors is 0; it must be at least"):
        replace(QMOF, max_neighbors=0)


def test_smooth_rules_refuse_limits_by_size() -> None:
    with pytest.raises(ArgumentError, match="smooth graph rules have no max_neighbors"):
        GraphRules(cutoff=5.0, max_neighbors_by_size=((200, 5),))
