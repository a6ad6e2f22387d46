"""Systems by material name, shared by all tests."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule


def _rattled(atoms: Atoms, *, stdev: float = 0.05, seed: int = 0) -> Atoms:
    """Move atoms off their symmetric places, so that no distances are tied."""
    atoms.positions += np.random.default_rng(seed).normal(0, stdev, (len(atoms), 3))
    return atoms


@pytest.fixture
def water() -> Atoms:
    """One molecule, no cell."""
    return _rattled(molecule("H2O"))


@pytest.fixture
def ethanol() -> Atoms:
    """Nine atoms, no cell."""
    return _rattled(molecule("CH3CH2OH"))


@pytest.fixture
def nacl() -> Atoms:
    """Eight ions in a cubic cell."""
    return _rattled(bulk("NaCl", "rocksalt", a=5.64, cubic=True))


@pytest.fixture
def si() -> Atoms:
    """Two atoms in a skewed cell, smaller than most cutoffs."""
    return _rattled(bulk("Si", "diamond", a=5.43))


@pytest.fixture
def cu_slab_co() -> Atoms:
    """Cu(111) with CO, periodic in the plane, ASE's tags (layers from the top)."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    add_adsorbate(slab, molecule("CO"), height=1.9, position="ontop", mol_index=1)
    return _rattled(slab)


@pytest.fixture
def isolated_he() -> Atoms:
    """One atom, no cell."""
    return Atoms("He", positions=[[0.0, 0.0, 0.0]])
