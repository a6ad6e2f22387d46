"""The neighbor search in torch finds what the other ones find, in bounded memory.

There is no GPU here: the device is the CPU.
"""

from __future__ import annotations

import copy
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule, nanotube
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.graph import device_search, neighbors
from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.graph.rules import GraphRules
from toys.memory import Arrays
from toys.random_cells import random_cells

CPU = torch.device("cpu")
GAS = np.random.default_rng(0).uniform(0, 40, (300, 3))

ZOO: dict[str, Atoms] = {
    "single atom": Atoms("He"),
    "one atom in a tiny skewed cell": Atoms(
        "He", cell=[[2.5, 0, 0], [7, 2.6, 0], [-5, 4, 2.7]], pbc=True
    ),
    "molecule": molecule("CH3CH2OH"),
    "crystal": bulk("NaCl", "rocksalt", a=5.64) * (3, 1, 2),
    "slab": Atoms(fcc111("Cu", (2, 2, 2), vacuum=6.0), pbc=[1, 1, 0]),
    "slab with vacuum": Atoms(fcc111("Cu", (2, 2, 2), vacuum=9.0), pbc=True),
    "wire": Atoms(nanotube(3, 0, length=2), pbc=[0, 0, 1]),
    "gas": Atoms("H300", GAS, cell=[40, 41, 42], pbc=True),
    "atoms far from the cell": Atoms(
        "H300", GAS * 9 - 111, cell=[[40, 0, 0], [9, 41, 0], [5, 7, 42]], pbc=True
    ),
    "layers touching across the border of a tall skewed cell": Atoms(
        "H60",
        GAS[:60] / 8 * [1, 1, 0.6] + [0, 0, 38.5],
        cell=[[5, 0, 0], [2, 5, 0], [3, 4, 40]],
        pbc=True,
    ),
    "no edges": Atoms("He3", [[0, 0, 0], [50, 0, 0], [0, 0, 70]]),
}


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What has a device is searched in torch, however small; how many atoms it had."""
    searched: list[int] = []

    def is_for(device: torch.device | None, n_atoms: int) -> bool:
        if device is not None:
            searched.append(n_atoms)
        return device is not None

    monkeypatch.setattr(device_search, "is_for", is_for)
    monkeypatch.setattr(neighbors, "_MAX_ATOMS_OF_ALL_PAIRS", 0)
    return searched


def assert_same_edges(atoms: Atoms, cutoff: float) -> int:
    arguments = (atoms.positions, atoms.cell.array, atoms.pbc)
    expected = neighbor_list(*arguments, cutoff=cutoff)
    found = neighbor_list(*arguments, cutoff=cutoff, device=CPU)
    for ours, other in zip(found, expected, strict=True):
        assert ours.dtype == other.dtype
        np.testing.assert_array_equal(ours, other)
    return len(found[0])


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("cutoff", [1.3, 6.2])
def test_edges_are_the_same_bit_for_bit(
    name: str, cutoff: float, in_torch: list[int]
) -> None:
    n_edges = assert_same_edges(ZOO[name], cutoff)
    assert in_torch == [len(ZOO[name])]
    assert n_edges > 0 or cutoff < 6 or name in ("single atom", "no edges")


def test_images_of_a_long_cell_are_where_they_are_to_the_last_digit(
    in_torch: list[int],
) -> None:
    """The third neighbor of each atom of a ring is just as far as the cutoff."""
    n_atoms = 1600
    along = 5 / 3 * np.arange(n_atoms)
    positions = np.stack([along, 0 * along, 0 * along], axis=1)
    ring = Atoms(numbers=[2] * n_atoms, positions=positions, pbc=[1, 0, 0])
    ring.cell[0, 0] = 5 / 3 * n_atoms
    assert np.float32(ring.cell[0, 0]) > ring.cell[0, 0] + 1e-5
    assert assert_same_edges(ring, 5.0 + 1e-9) == 6 * n_atoms


def test_no_atoms_have_no_edges(in_torch: list[int]) -> None:
    assert assert_same_edges(Atoms(cell=[3, 3, 3], pbc=True), 4.0) == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n_at_a_time=st.sampled_from([7, 1000, device_search._AT_A_TIME]),
    atoms=random_cells(most_atoms=12, longest=6.0),
    cutoff=st.floats(0.5, 6.0),
)
def test_edges_of_random_cells_are_the_same(
    n_at_a_time: int, atoms: Atoms, cutoff: float
) -> None:
    if n_at_a_time == 7:
        cutoff = min(cutoff, 2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_MAX_ATOMS_OF_ALL_PAIRS", 0)
        patch.setattr(device_search, "is_for", lambda device, _: device is not None)
        patch.setattr(device_search, "_AT_A_TIME", n_at_a_time)
        assert_same_edges(atoms, cutoff)


def search(positions: np.ndarray, length: float, reach: float) -> int:
    target, _, _ = device_search.search_on_device(
        positions, np.eye(3) * length, np.ones(3, bool), reach=reach, device=CPU
    )
    return len(target)


def test_there_are_no_images_where_nothing_repeats() -> None:
    """Atoms at both ends of a frame, which would be near across its border."""
    target, source, shift = device_search.search_on_device(
        np.array([[0.0, 0, 0], [9, 0, 0]]),
        np.eye(3) * 10,
        np.array([False, True, True]),
        reach=2.0,
        device=CPU,
    )
    assert target.tolist() == source.tolist() == [0, 1]
    assert not shift.any()


def test_no_array_is_longer_than_what_is_tried_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """600 atoms, 729 bins: more than 12 000 pairs are tried, and few are near."""
    monkeypatch.setattr(device_search, "_AT_A_TIME", 2000)
    positions = np.random.default_rng(0).uniform(0, 60, (600, 3))
    with Arrays() as seen:
        n_found = search(positions, 60.0, reach=6.0)
    assert n_found < 3000
    assert seen.largest <= max(2000, n_found)
    monkeypatch.undo()
    with Arrays() as together:
        search(positions, 60.0, reach=6.0)
    assert together.largest > 12000


def test_the_work_grows_as_the_atoms_do() -> None:
    """As many operations whatever the size, on arrays as long as there are atoms."""
    seen = []
    for n_cells in (5, 10):
        atoms = bulk("Cu", cubic=True) * n_cells
        with Arrays() as arrays:
            search(atoms.positions, float(atoms.cell[0, 0]), reach=3.0)
        seen.append(arrays)
    assert seen[1].n_operations == seen[0].n_operations
    assert seen[1].largest < 10 * seen[0].largest


def test_bins_without_atoms_take_no_memory() -> None:
    """A chain along the diagonal of a cell of 10^9 bins."""
    along = np.arange(0.0, 9000, 4.5)
    with Arrays() as seen:
        n_found = search(np.stack([along] * 3, axis=1), 9000.0, reach=8.0)
    assert n_found == 3 * len(along)
    assert seen.largest < 30 * len(along)


def assert_equal(one: AtomGraph | EdgeSet, other: AtomGraph | EdgeSet) -> None:
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, EdgeSet):
            assert_equal(left, right)
        else:
            assert torch.equal(left, right), field.name


RULES = {
    "smooth": GraphRules(
        cutoff=4.0, atom_edge_cutoff=3.6, quadruplet_cutoff=3.0, atom_atom_cutoff=4.5
    ),
    "published": GraphRules(
        rules="published", cutoff=4.5, max_neighbors=8, radial_cutoff=12.0
    ),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", ["molecule", "crystal", "slab"])
def test_graphs_of_a_walk_are_those_of_the_cpu(
    name: str, rules: str, in_torch: list[int]
) -> None:
    atoms, random = ZOO[name].copy(), np.random.default_rng(0)
    motion = GraphInMotion(RULES[rules], device=CPU)
    for turn in range(6):
        expected = build_graph(atoms, RULES[rules])
        assert_equal(motion.build(atoms), expected)
        assert_equal(build_graph(atoms, RULES[rules], device=CPU), expected)
        atoms.positions += 0.15 * random.standard_normal(atoms.positions.shape)
        if turn == 2:
            before, motion = motion, copy.deepcopy(motion)
    assert motion.n_searches > 0
    assert len(in_torch) == 6 + before.n_searches + motion.n_searches


@pytest.mark.parametrize(
    ("device", "n_atoms", "expected"),
    [
        (None, 10**6, False),
        ("cpu", 10**6, False),
        ("cuda", device_search.MIN_ATOMS - 1, False),
        ("cuda:1", device_search.MIN_ATOMS, True),
    ],
)
def test_large_systems_are_for_a_gpu(
    device: str | None, n_atoms: int, expected: bool
) -> None:
    of_network = None if device is None else torch.device(device)
    assert device_search.is_for(of_network, n_atoms) is expected
