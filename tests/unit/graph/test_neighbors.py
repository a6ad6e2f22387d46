"""Neighbor lists of every kind of cell, against trying all images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule, nanotube
from hypothesis import given, settings
from hypothesis import strategies as st

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.graph import images, neighbors
from jmp_calc.graph.neighbors import neighbor_list
from oracle.neighbors import brute_force_neighbors
from toys.random_cells import random_cells

FCC = np.array([[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]])
TILTED = np.array([[2.5, 0, 0], [7.0, 2.6, 0], [-5.0, 4.0, 2.7]])


def _random(
    n: int, *, low: float = 0.0, high: float = 1.0, seed: int = 0
) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (n, 3))


def _slab(*, with_zero_vector: bool) -> Atoms:
    slab = fcc111("Cu", (2, 2, 2), vacuum=None if with_zero_vector else 6.0)
    if with_zero_vector:
        slab.cell[2] = 0
    return slab


def _outside() -> Atoms:
    """Five atoms, most of them several cells away from the cell."""
    return Atoms("Ar5", _random(5, low=-11, high=11), cell=TILTED * 1.5, pbc=True)


def _gap_in_the_middle() -> Atoms:
    """Layers at both ends of a tall skewed cell, which touch across its border."""
    positions = _random(6) * [5, 5, 3] + [0, 0, 38.5]
    return Atoms("Ar6", positions, cell=[[5, 0, 0], [2, 5, 0], [3, 4, 40]], pbc=True)


ZOO: dict[str, Atoms] = {
    "single atom": Atoms("He"),
    "dimer": Atoms("N2", [[0, 0, 0], [0, 0, 1.1]]),
    "molecule": molecule("CH3CH2OH"),
    "molecule far from the origin": Atoms("H3", _random(3) * 3 + 4e5),
    "clusters far apart": Atoms("H4", [[0, 0, 0], [0, 0, 1], [1e9, 0, 0], [1e9, 1, 2]]),
    "collinear molecule": Atoms("H4", [[0, 0, z] for z in range(4)]),
    "slab with a zero vector": Atoms(_slab(with_zero_vector=True), pbc=[1, 1, 0]),
    "slab with vacuum": Atoms(_slab(with_zero_vector=False), pbc=True),
    "slab periodic in another plane": Atoms(
        "Ar3", _random(3) * 4, cell=[[4, 0, 0], [0, 0, 0], [1, 1, 5]], pbc=[1, 0, 1]
    ),
    "wire": Atoms(nanotube(3, 0, length=1), pbc=[0, 0, 1]),
    "wire along a skewed vector": Atoms(
        "Ar3", _random(3) * 3, cell=[[0, 0, 0], [3, 2, 1], [0, 0, 0]], pbc=[0, 1, 0]
    ),
    "mixed pbc in a skewed cell": Atoms(
        "Ar4", _random(4, low=-5, high=5), cell=TILTED * 1.5, pbc=[1, 0, 1]
    ),
    "one atom in a skewed cell": Atoms("Ar", cell=TILTED, pbc=True),
    "one atom in a primitive cell": Atoms("Cu", [[9, -7, 3]], cell=FCC, pbc=True),
    "left-handed cell": Atoms("Ar2", _random(2) * 3, cell=FCC[::-1] * 2, pbc=True),
    "atoms outside the cell": _outside(),
    "touching across the border": _gap_in_the_middle(),
    "atom on the border": Atoms(
        "Ar2", [[0, 0, 0], [3, 3, -1e-17]], cell=[4] * 3, pbc=True
    ),
    "crystal": bulk("NaCl", "rocksalt", a=5.64),
}


def _check_against_brute_force(atoms: Atoms, cutoff: float) -> int:
    positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    source, target, shift, distance = neighbor_list(positions, cell, pbc, cutoff=cutoff)
    found = list(zip(target.tolist(), source.tolist(), *shift.T.tolist(), strict=True))
    assert found == brute_force_neighbors(positions, cell, pbc, cutoff)
    vector = positions[target] - positions[source] - shift @ cell
    np.testing.assert_allclose(distance, np.linalg.norm(vector, axis=1), rtol=1e-14)
    return len(found)


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every grid search."""
    calls: list[dict[str, Any]] = []
    search = neighbors.neighbour_list

    def spy(quantities: str, **arguments: Any) -> Any:
        calls.append(arguments)
        return search(quantities, **arguments)

    monkeypatch.setattr(neighbors, "neighbour_list", spy)
    return calls


@pytest.fixture
def without_trying_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_MAX_ATOMS_OF_ALL_PAIRS", 0)


@pytest.fixture
def on_grid(monkeypatch: pytest.MonkeyPatch, without_trying_all_pairs: None) -> None:
    monkeypatch.setattr(images, "_MAX_IMAGES", 0)


@pytest.fixture(params=["images", "grid"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images are tried whatever the cell, or none are."""
    if request.param == "grid":
        request.getfixturevalue("on_grid")
    else:
        request.getfixturevalue("without_trying_all_pairs")
        monkeypatch.setattr(images, "_COST_ON_GRID", 1e99)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("cutoff", [1.3, 6.2])
def test_every_image_within_the_cutoff_is_found(name: str, cutoff: float) -> None:
    n_edges = _check_against_brute_force(ZOO[name], cutoff)
    assert n_edges > 0 or cutoff < 6 or name == "single atom"


@pytest.mark.parametrize("name", [name for name in ZOO if not ZOO[name].pbc.any()])
@pytest.mark.parametrize("cutoff", [1.3, 6.2])
def test_trying_all_pairs_of_a_molecule_is_a_search(
    name: str, cutoff: float, searches: list[dict[str, Any]]
) -> None:
    _check_against_brute_force(ZOO[name], cutoff)
    assert searches == []


@pytest.mark.usefixtures("way")
def test_edges_that_cannot_be_numbered_are_in_order() -> None:
    """Atoms so many cells apart that no key of 64 bits holds their shifts."""
    home = np.array([[0, 0, 0], [10**7, -(10**7), 10**7], [1, 2, 3]])
    positions, cell, pbc = _random(3) * 3, np.eye(3) * 3.0, np.ones(3, dtype=bool)
    expected = sorted(
        (t, s, *(np.array(shift) + home[t] - home[s]).tolist())
        for t, s, *shift in brute_force_neighbors(positions, cell, pbc, 4.0)
    )
    source, target, shift, _ = neighbor_list(
        positions + home @ cell, cell, pbc, cutoff=4.0
    )
    assert [*zip(target, source, *shift.T, strict=True)] == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    is_grid=st.booleans(),
    n_at_a_time=st.sampled_from([1, images._PAIRS_AT_A_TIME]),
    atoms=random_cells(most_atoms=5, longest=4.0),
    cutoff=st.floats(0.5, 6.0),
)
def test_random_cells_equal_brute_force(
    is_grid: bool, n_at_a_time: int, atoms: Atoms, cutoff: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbors, "_MAX_ATOMS_OF_ALL_PAIRS", 0)
        patch.setattr(images, "_COST_ON_GRID", 0 if is_grid else 1e99)
        patch.setattr(images, "_PAIRS_AT_A_TIME", n_at_a_time)
        _check_against_brute_force(atoms, cutoff)


@pytest.mark.parametrize(
    ("n_cells", "is_on_grid"),
    [((2, 2, 2), False), ((9, 9, 9), True), ((40, 1, 1), True)],
)
def test_a_grid_is_laid_over_large_cells_only(
    n_cells: tuple[int, int, int], is_on_grid: bool, searches: list[dict[str, Any]]
) -> None:
    atoms = bulk("Cu", cubic=True) * n_cells
    neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff=4.0)
    assert len(searches) == is_on_grid


@pytest.mark.parametrize("name", ["crystal", "touching across the border"])
def test_another_library_finds_the_same_edges(name: str) -> None:
    vesin = pytest.importorskip("vesin", reason="vesin is not installed")
    atoms = ZOO[name]
    found = vesin.NeighborList(cutoff=6.2, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijS"
    )
    # vesin: vector from i to j = position[j] - position[i] + S @ cell
    theirs = sorted(
        (int(i), int(j), *map(int, s)) for i, j, s in zip(*found, strict=True)
    )
    source, target, shift, _ = neighbor_list(
        atoms.positions, atoms.cell.array, atoms.pbc, cutoff=6.2
    )
    ours = list(zip(target.tolist(), source.tolist(), *shift.T.tolist(), strict=True))
    assert ours == theirs


def test_the_cutoff_counts_as_inside_only_if_something_is_periodic() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 2]])
    cell = np.eye(3) * 20
    free = neighbor_list(positions, cell, np.zeros(3, dtype=bool), cutoff=2.0)
    periodic = neighbor_list(positions, cell, np.ones(3, dtype=bool), cutoff=2.0)
    assert len(free[0]) == 0
    assert len(periodic[0]) == 2


def test_the_shift_of_directions_that_do_not_repeat_is_zero() -> None:
    atoms = ZOO["mixed pbc in a skewed cell"]
    _, _, shift, _ = neighbor_list(
        atoms.positions, atoms.cell.array, atoms.pbc, cutoff=6.0
    )
    assert shift[:, 1].tolist() == [0] * len(shift)
    assert shift[:, 0].any()


def test_an_empty_system_has_no_edges() -> None:
    source, _, shift, distance = neighbor_list(
        np.zeros((0, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), cutoff=3.0
    )
    assert len(source) == len(distance) == 0
    assert shift.shape == (0, 3)


def test_a_huge_sparse_cell_needs_no_huge_grid(searches: list[dict[str, Any]]) -> None:
    """A chain along the diagonal has no direction without atoms to leave out."""
    along = np.arange(0.0, 9000, 4.5)
    positions = np.stack([along, along, along], axis=1)
    source, *_ = neighbor_list(
        positions, np.eye(3) * 9000, np.ones(3, dtype=bool), cutoff=8.0
    )
    assert len(source) == 2 * len(along)
    volume = np.linalg.det(searches[0]["cell"])
    assert volume / searches[0]["cutoff"] ** 3 < 1.1e7


@pytest.mark.usefixtures("on_grid")
@pytest.mark.parametrize("is_periodic", [False, True])
def test_an_atom_that_left_does_not_widen_the_search(
    is_periodic: bool, searches: list[dict[str, Any]]
) -> None:
    positions = np.array([*_random(20) * 8, [3e5, 4e5, 5e5]])
    neighbor_list(positions, np.eye(3) * 1e6, np.full(3, is_periodic), cutoff=5.0)
    assert searches[0]["cutoff"] < 5.01
    assert np.linalg.det(searches[0]["cell"]) < 30**3


def test_coordinates_that_are_not_finite_are_refused() -> None:
    atoms = molecule("H2O")
    atoms.positions[1, 2] = np.nan
    with pytest.raises(UnsupportedSystemError, match=r"position of atom 1 is .*nan"):
        neighbor_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff=3.0)


def test_a_cell_that_is_not_finite_is_refused() -> None:
    cell = np.diag([3.0, np.inf, 3.0])
    with pytest.raises(UnsupportedSystemError, match="cell vectors must be finite"):
        neighbor_list(np.zeros((1, 3)), cell, np.ones(3, dtype=bool), cutoff=3.0)


@pytest.mark.parametrize(
    "cell", [np.diag([4.0, 4, 0]), [[4.0, 0, 0], [0, 4, 0], [4, 4, 0]]]
)
def test_a_periodic_cell_without_volume_is_refused(cell: np.ndarray) -> None:
    with pytest.raises(UnsupportedSystemError, match="span no volume; give every"):
        neighbor_list(
            np.zeros((1, 3)), np.array(cell), np.ones(3, dtype=bool), cutoff=3.0
        )


def test_overlapping_atoms_are_refused() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 1.005]])
    with pytest.raises(UnsupportedSystemError, match=r"atoms 1 and 2 overlap.*0\.0050"):
        neighbor_list(positions, np.eye(3), np.zeros(3, dtype=bool), cutoff=3.0)


def test_atoms_that_overlap_across_the_border_are_refused() -> None:
    positions = np.array([[0.0, 0, 0], [0, 0, 5.0]])
    with pytest.raises(
        UnsupportedSystemError, match=r"atoms 0 and 1 \(image .*overlap"
    ):
        neighbor_list(positions, np.eye(3) * 5, np.ones(3, dtype=bool), cutoff=3.0)
