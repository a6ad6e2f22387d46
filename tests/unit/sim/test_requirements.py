"""What counts as a crystal."""

from __future__ import annotations

import pytest
from ase.build import bulk, fcc111, graphene, molecule

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.requirements import require_crystal


def test_slabs_and_molecules_in_boxes_are_no_crystals():
    slab = fcc111("Cu", (1, 1, 4), vacuum=8)
    slab.pbc = True
    # the vacuum in the middle of the cell, and atoms outside of it
    slab.positions[:, 2] += 11 + 3 * slab.cell[2, 2]
    with pytest.raises(
        UnsupportedSystemError, match="along cell vector 3 there are 16"
    ):
        require_crystal(slab, "it")
    boxed = molecule("H2O", vacuum=5, pbc=True)
    with pytest.raises(UnsupportedSystemError, match="needs a crystal, and along cell"):
        require_crystal(boxed, "it")


def test_open_and_layered_crystals_are_crystals():
    graphite = graphene(vacuum=3.35 / 2)
    graphite.pbc = True
    # the lattices with the widest gaps for one atom
    for atoms in (graphite, bulk("Xe", "fcc", a=6.2), bulk("Cs", "bcc", a=6.14)):
        require_crystal(atoms, "it")
