"""What kind of structure this is, found from its bonds and their periodic images."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from jaxtyping import Bool, Float, Int

from jmp_calc.graph.neighbors import neighbor_list

Kind = Literal["molecule", "wire", "surface", "bulk"]
"""Bonded in no, one, two or three periodic directions; wires in touch count as one."""

BOND_TOLERANCE = 1.25
"""Atoms are bonded up to this multiple of the sum of their covalent radii: above the
1.18 of fcc aluminium, below the 1.26 between molecules of solid iodine."""

MIN_VACUUM = 5.0
"""A layer whose next image is at least this far away is a surface, angstrom; the gaps
of layered crystals (graphite 3.4, MoS2 3.0) are narrower. Likewise for wires."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BondNetwork:
    """Bonds of a structure, its fragments, and along which vectors they are endless."""

    source: Int[np.ndarray, " bonds"]
    target: Int[np.ndarray, " bonds"]
    vector: Float[np.ndarray, "bonds 3"]
    """From target to source, angstrom."""
    fragment: Int[np.ndarray, " atoms"]
    """Number of the bonded fragment of each atom."""
    translations: Int[np.ndarray, "loops 3"]
    """Cell translations that lead from an atom along bonds to its own image."""
    endless: Int[np.ndarray, " loops"]
    """Fragment of each translation."""

    @property
    def rank(self) -> int:
        """Number of independent directions in which fragments are endless."""
        # numpy before 2.3 refuses a matrix without rows
        if len(self.translations) == 0:
            return 0
        return int(np.linalg.matrix_rank(self.translations))

    @property
    def is_endless(self) -> Bool[np.ndarray, " atoms"]:
        """Whether each atom is in a fragment that repeats without end."""
        return np.isin(self.fragment, self.endless)


def find_bonds(atoms: Atoms) -> BondNetwork:
    """Return the bonds between atoms and their images, by covalent radii.

    Wires closer than ``MIN_VACUUM`` are endless along all directions in which they
    follow each other: chains of selenium make a crystal, and ribbons, into which a slab
    cuts the layers of gallium telluride, a slab.

    Args:
        atoms: The structure.

    Raises:
        UnsupportedSystemError: If a coordinate is not finite, periodic cell vectors
            span no volume, or atoms overlap.

    Source:
        Covalent radii of Cordero et al., Dalton Trans. 2008, 2832, as in ASE.
    """
    radius = covalent_radii[atoms.numbers]
    reach = 2 * BOND_TOLERANCE * float(radius.max(initial=0.1))
    source, target, shift, distance = neighbor_list(
        atoms.positions, atoms.cell.array, atoms.pbc, cutoff=reach
    )
    keep = distance <= BOND_TOLERANCE * (radius[source] + radius[target])
    source, target, shift = source[keep], target[keep], shift[keep]
    fragment, offset = _walk(source, target, shift, len(atoms))
    # Along a bond the image must fit; where it does not, a walk came back to an image.
    loops = offset[target] + shift - offset[source]
    found = _distinct(fragment[target], loops)
    positions, cell = atoms.positions, np.where(atoms.pbc[:, None], atoms.cell.array, 0)
    network = BondNetwork(
        source=source,
        target=target,
        vector=positions[source] + shift @ cell - positions[target],
        fragment=fragment,
        translations=found[:, 1:],
        endless=found[:, 0],
    )
    return _join_wires(atoms, network) if network.rank == 1 else network


def _join_wires(atoms: Atoms, network: BondNetwork) -> BondNetwork:
    """Return the network with the translations of wires that touch each other."""
    members = np.flatnonzero(network.is_endless)
    source, target, shift, _ = neighbor_list(
        atoms.positions[members], atoms.cell.array, atoms.pbc, cutoff=MIN_VACUUM
    )
    _, offset = _walk(source, target, shift, len(members))
    loops = offset[target] + shift - offset[source]
    found = _distinct(network.fragment[members][target], loops)
    return replace(network, translations=found[:, 1:], endless=found[:, 0])


def _distinct(
    fragment: Int[np.ndarray, " bonds"], loops: Int[np.ndarray, "bonds 3"]
) -> Int[np.ndarray, "loops 4"]:
    """Return every pair of a fragment and a translation that is not zero."""
    is_loop = loops.any(axis=1)
    pairs = np.column_stack([fragment[is_loop], loops[is_loop]])
    return np.unique(pairs.reshape(-1, 4), axis=0)


def _walk(
    source: Int[np.ndarray, " bonds"],
    target: Int[np.ndarray, " bonds"],
    shift: Int[np.ndarray, "bonds 3"],
    n_atoms: int,
) -> tuple[Int[np.ndarray, " atoms"], Int[np.ndarray, "atoms 3"]]:
    """Return the fragment of each atom and the image at which a walk reached it."""
    fragment = np.full(n_atoms, -1, dtype=np.int64)
    offset = np.zeros((n_atoms, 3), dtype=np.int64)
    start = np.searchsorted(target, np.arange(n_atoms + 1))
    count = 0
    for seed in range(n_atoms):
        if fragment[seed] >= 0:
            continue
        fragment[seed] = count
        queue = deque([seed])
        while queue:
            atom = queue.popleft()
            for bond in range(start[atom], start[atom + 1]):
                other = source[bond]
                if fragment[other] < 0:
                    fragment[other] = count
                    offset[other] = offset[atom] + shift[bond]
                    queue.append(int(other))
        count += 1
    return fragment, offset


def classify(atoms: Atoms, network: BondNetwork) -> Kind:
    """Return what kind of structure the bonds make.

    Finite fragments only, such as a periodic box of water or of noble gas, are
    molecules. Layers are a surface if they are not stacked: where the third direction
    is periodic, the next image of a layer must be ``MIN_VACUUM`` away, whatever
    molecules lie between.

    Args:
        atoms: The structure.
        network: Its bonds.
    """
    if network.rank == 2:
        return "surface" if layer_heights(atoms, network)[1] >= MIN_VACUUM else "bulk"
    kinds: dict[int, Kind] = {0: "molecule", 1: "wire", 3: "bulk"}
    return kinds[network.rank]


def layer_heights(
    atoms: Atoms, network: BondNetwork
) -> tuple[Float[np.ndarray, " atoms"], float, Float[np.ndarray, "3"]]:
    """Return the height of each atom over a layer, the gap between layers, the normal.

    The normal points along the third cell vector, or along +z if there is none. Atoms
    in the gap belong to the side that is nearer.

    Args:
        atoms: The structure.
        network: Its bonds, endless in two directions.

    Returns:
        Height of each atom, angstrom; width of the gap, angstrom, infinite if the
        third direction is not periodic; unit normal.
    """
    loops = network.translations
    crosses = np.cross(loops[0], loops)
    plane = crosses[np.abs(crosses).sum(axis=1).argmax()]
    plane = plane // np.gcd.reduce(plane)
    in_plane = loops[[0, int(np.abs(crosses).sum(axis=1).argmax())]] @ atoms.cell.array
    normal = np.cross(*in_plane)
    normal /= np.linalg.norm(normal)
    normal *= -1.0 if _points_down(normal, atoms) else 1.0
    height = atoms.positions @ normal
    if not atoms.pbc.all():
        return height, np.inf, normal
    period = 1 / float(np.linalg.norm(np.linalg.inv(atoms.cell.array) @ plane))
    layer = np.sort(height[network.is_endless] % period)
    gaps = np.diff(layer, append=layer[0] + period)
    widest = int(gaps.argmax())
    middle_of_gap = layer[widest] + gaps[widest] / 2
    return (height - middle_of_gap) % period, float(gaps[widest]), normal


def _points_down(normal: Float[np.ndarray, "3"], atoms: Atoms) -> bool:
    """Whether a normal points against what the user calls up."""
    up = atoms.cell.array[int(np.abs(atoms.cell.array @ normal).argmax())]
    component = float(up @ normal)
    if abs(component) < 1e-6:
        component = float(normal[int(np.abs(normal).argmax())])
    return component < 0
