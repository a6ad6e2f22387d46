"""Small systems for those who give none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from scipy.spatial.transform import Rotation

WATER_SPACING_A = 3.105
"""Distance of molecules on a grid that has the density of water, angstrom."""
WATER_SEED = 0
"""Orientations of the molecules without close contacts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltIn:
    """A system that comes with the check."""

    name: str
    """What it is called."""
    domain: str
    """Kind of structure: molecule, surface or bulk."""
    build: Callable[[], Atoms]
    """Makes it."""
    is_quick: bool = True
    """Whether a quick check includes it."""


def water_box() -> Atoms:
    """Return eight molecules of water in a periodic box at their density."""
    rng = np.random.default_rng(WATER_SEED)
    box = Atoms(cell=[2 * WATER_SPACING_A] * 3, pbc=True)
    for place in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        turn = Rotation.from_quat(rng.standard_normal(4)).as_matrix()
        water.positions = water.positions @ turn.T
        water.translate(WATER_SPACING_A * np.array(place))
        box += water
    return box


def covered_slab() -> Atoms:
    """Return three layers of copper (111) with carbon monoxide, carbon down."""
    slab: Atoms = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    add_adsorbate(slab, molecule("CO"), 1.9, "ontop", mol_index=1)
    return slab


SYSTEMS = (
    BuiltIn(name="ethanol", domain="molecule", build=lambda: molecule("CH3CH2OH")),
    BuiltIn(name="water-box", domain="molecule", build=water_box, is_quick=False),
    BuiltIn(name="Cu-slab-CO", domain="surface", build=covered_slab),
    BuiltIn(name="Cu", domain="bulk", build=lambda: bulk("Cu", cubic=True)),
    BuiltIn(name="Si", domain="bulk", build=lambda: bulk("Si", cubic=True)),
    BuiltIn(name="NaCl", domain="bulk", build=lambda: bulk("NaCl", "rocksalt", 5.64)),
)
"""Systems to choose from; of each domain but molecules the first that is covered."""

FOREIGN = {"emt": ("Cu",), "tblite": ("ethanol",)}
"""Systems for calculators that cannot be asked what they cover."""


def choose_systems(
    covers: Callable[[BuiltIn, Atoms], bool], *, is_quick: bool
) -> dict[str, Atoms]:
    """Return the systems that a model covers, by name.

    Args:
        covers: Whether it does.
        is_quick: Leave out those that take long.
    """
    found: dict[str, Atoms] = {}
    domains: set[str] = set()
    for system in SYSTEMS:
        if system.domain in domains or (is_quick and not system.is_quick):
            continue
        atoms = system.build()
        if covers(system, atoms):
            found[system.name] = atoms
            if system.domain != "molecule":
                domains.add(system.domain)
    return found
