"""Edges and index lists of stored cases of the published implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import graph_from_arrays
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.layout import JoinedEdges
from oracle.enumerated import EnumeratedLists, enumerate_lists

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "parity"
STORED = ROOT / "tests" / "golden" / "cases"
FOLDER = SHARED if SHARED.is_dir() else STORED
# Exact ties at the limits: which neighbors survive there is not defined.
CASES = [
    path
    for path in sorted(FOLDER.glob("*__*.npz"))
    if not path.name.startswith("weights__") and "cu_fcc_tied" not in path.name
]
NAMES = {
    "main": "main",
    "atom_atom": "a2a",
    "atom_edge": "a2ee2a",
    "quadruplet": "qint",
}
DISTANCE_TOLERANCE = 1e-12
"""Angstrom; rounding of shift @ cell, summed in another order."""
MAX_ENUMERATED = 150_000


class Case:
    """A stored case, our batch of it, and the canonical order of its edges."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as data:
            self.data = {
                key: data[key]
                for key in data.files
                if key.startswith(("graph", "count", "idx", "id_swap"))
                or key in ("pos", "atomic_numbers", "tags", "cell", "pbc", "batch")
            }
        self.graph = _build(self.data)
        self.order = {ours: self._order(theirs) for ours, theirs in NAMES.items()}

    def _order(self, name: str) -> np.ndarray:
        source, target = self.data[f"graph.{name}.edge_index"]
        shift = np.rint(self.data[f"graph.{name}.cell_offset"])
        return np.lexsort((*shift.T[::-1], source, target))

    def renumbered(self, index: str, graph: str) -> np.ndarray:
        """Return a stored index list in terms of canonical places."""
        place = np.empty_like(self.order[graph])
        place[self.order[graph]] = np.arange(len(place))
        return place[self.data[index]]


def _build(data: dict[str, np.ndarray]) -> AtomGraph:
    settings = json.loads(str(data["graph_settings"]))
    rules = GraphRules(
        rules="published",
        cutoff=settings["cutoff"],
        max_neighbors=settings["max_neighbors"],
        is_periodic=settings["pbc"],
        radial_cutoff=12.0,
        quadruplet_tags=tuple(settings["qint_tags"]),
    )
    graphs = []
    for system, cell in enumerate(data["cell"]):
        atoms = data["batch"] == system
        graphs.append(
            graph_from_arrays(
                data["pos"][atoms],
                data["atomic_numbers"][atoms],
                cell,
                pbc=data["pbc"][system],
                tags=data["tags"][atoms],
                rules=rules,
            )
        )
    return collate(graphs)


@pytest.fixture(scope="module", params=CASES, ids=lambda path: path.stem)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_edges_equal_the_stored_ones(case: Case, name: str) -> None:
    edges, theirs, order = getattr(case.graph, name), NAMES[name], case.order[name]
    found = np.stack([edges.source, edges.target])
    np.testing.assert_array_equal(
        found, case.data[f"graph.{theirs}.edge_index"][:, order]
    )
    shift = np.rint(case.data[f"graph.{theirs}.cell_offset"])[order]
    np.testing.assert_array_equal(edges.shift, shift)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_equal_the_stored_ones(case: Case, name: str) -> None:
    theirs, order = NAMES[name], case.order[name]
    edges = JoinedEdges.of(case.graph)
    vectors = edges.split(edges.vectors(case.graph))
    # the atom_edge edges may be the main ones
    vector = vectors.get(name, vectors["main"]).numpy()
    distance = case.data[f"graph.{theirs}.distance"][order]
    unit = case.data[f"graph.{theirs}.vector"][order]
    np.testing.assert_allclose(
        np.linalg.norm(vector, axis=1), distance, rtol=0, atol=DISTANCE_TOLERANCE
    )
    np.testing.assert_allclose(
        vector, unit * distance[:, None], rtol=0, atol=DISTANCE_TOLERANCE
    )


def test_counter_edges_equal_the_stored_ones(case: Case) -> None:
    swap = case.renumbered("id_swap", "main")[case.order["main"]]
    np.testing.assert_array_equal(case.graph.swap, swap)


def test_enumerated_lists_equal_the_stored_ones(case: Case) -> None:
    """Shows that the oracle of the network's sums is itself right."""
    if case.data["count.quadruplets"] > MAX_ENUMERATED:
        pytest.skip("too many quadruplets to list one by one")
    lists = enumerate_lists(case.graph)
    counts = {
        "triplets_e2e": lists.e2e,
        "triplets_a2e": lists.a2e,
        "triplets_e2a": lists.e2a,
        "quad_triplets_in": lists.triplet_in,
        "quad_triplets_out": lists.triplet_out,
        "quadruplets": lists.quadruplets,
    }
    assert {name: index.shape[1] for name, index in counts.items()} == {
        name: int(case.data[f"count.{name}"]) for name in counts
    }
    if "idx.e2e.in" in case.data:
        _compare_lists(case, lists)


def _compare_lists(case: Case, lists: EnumeratedLists) -> None:
    main, atom_edge, quadruplet = "main", "atom_edge", "quadruplet"
    ends = {
        "e2e": (lists.e2e, main, main),
        "a2e": (lists.a2e, atom_edge, main),
        "e2a": (lists.e2a, main, atom_edge),
        "quad.triplet_in": (lists.triplet_in, main, quadruplet),
        "quad.triplet_out": (lists.triplet_out, quadruplet, main),
    }
    stored = {
        name: np.stack(
            [
                case.renumbered(f"idx.{name}.in", graph_in),
                case.renumbered(f"idx.{name}.out", graph_out),
            ]
        )
        for name, (_, graph_in, graph_out) in ends.items()
    }
    for name, (ours, _, _) in ends.items():
        np.testing.assert_array_equal(_sorted(ours), _sorted(stored[name]), name)
    first = stored["quad.triplet_in"][:, case.data["idx.quad.trip_in_to_quad"]]
    last = stored["quad.triplet_out"][:, case.data["idx.quad.trip_out_to_quad"]]
    np.testing.assert_array_equal(first[1], last[0])
    np.testing.assert_array_equal(
        _sorted(lists.quadruplets), _sorted(np.stack([*first, last[1]]))
    )


def _sorted(index: np.ndarray) -> np.ndarray:
    return index[:, np.lexsort(index[::-1])]
