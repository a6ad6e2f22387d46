"""Slabs with an adsorbate."""

from __future__ import annotations

from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule


def slab_with_co() -> Atoms:
    """CO on Cu(111), periodic in three directions, off the symmetric places."""
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop", mol_index=1)
    slab.rattle(0.02, seed=3)
    return slab
