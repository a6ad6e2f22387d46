"""Tags in the convention of OC20: 0 sub-surface, 1 surface, 2 adsorbate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from jaxtyping import Bool, Float, Int

from jmp_calc.calculator.domains import BondNetwork, Kind, layer_heights
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.rules import DEFAULT_TAG

SUBSURFACE, SURFACE, ADSORBATE = 0, 1, 2
"""What the tags mean."""

_NONMETALS = (1, 2, 6, 7, 8, 9, 10, 15, 16, 17, 18, 34, 35, 36, 53, 54)
_MARGIN = 0.5
_ABOVE = 0.2
_UNBALANCED = 0.12


def guess_tags(
    atoms: Atoms, network: BondNetwork, kind: Kind
) -> Int[np.ndarray, " atoms"]:
    """Return tags from the geometry alone; ``atoms.get_tags()`` is not read.

    Everything but a surface is 2 throughout, as in all training data but that of OC20.
    In a surface

    * 2 are molecules that are not bonded to the slab, and fragments of non-metals that
      lie outside its metal (or metalloid) atoms, unless they consist only of elements
      that the slab also has inside (the oxygen that ends an oxide);
    * 1 are slab atoms at the side where the adsorbates are, or at the upper side
      without any, that have no bonded slab atom above them or far more below;
    * 0 are all others.

    Constraints are not looked at: an energy must not depend on them.

    Args:
        atoms: The structure.
        network: Its bonds.
        kind: What they make of it.
    """
    tags = np.full(len(atoms), DEFAULT_TAG, dtype=np.int64)
    if kind != "surface":
        return tags
    height, _, normal = layer_heights(atoms, network)
    is_slab = ~_find_adsorbates(atoms.numbers, height, network)
    middle = (height[is_slab].max() + height[is_slab].min()) / 2
    sides = [
        sign for sign in (1.0, -1.0) if (sign * (height[~is_slab] - middle) > 0).any()
    ]
    tags[is_slab] = SUBSURFACE
    for sign in sides or [1.0]:
        tags[is_slab & _is_exposed(network, is_slab, sign * normal)] = SURFACE
    return tags


def read_tags(
    tags: Sequence[int] | Int[np.ndarray, " atoms"], n_atoms: int, *, has_filter: bool
) -> Int[np.ndarray, " atoms"]:
    """Return tags given by the user, checked.

    Args:
        tags: One per atom.
        n_atoms: Number of atoms.
        has_filter: Whether the head treats atoms differently by tag.

    Raises:
        ArgumentError: If there is not one tag per atom, or one is not 0, 1 or 2.
        UnsupportedSystemError: If all are 0 and the head looks at them.
    """
    array = np.asarray(tags)
    if array.shape != (n_atoms,):
        raise ArgumentError(
            f"tags have shape {array.shape} for {n_atoms} atoms; give one tag (0, 1 or "
            "2) per atom"
        )
    strange = np.flatnonzero(~np.isin(array, (SUBSURFACE, SURFACE, ADSORBATE)))
    if len(strange):
        raise ArgumentError(
            f"atom {strange[0]} has tag {array[strange[0]]}; tags follow OC20: 0 "
            "sub-surface, 1 surface, 2 adsorbate (ASE's builders number layers the "
            "other way round); set them so or use tags='auto'"
        )
    if has_filter and n_atoms and not array.any():
        raise UnsupportedSystemError(
            "every atom has tag 0 (sub-surface), which would leave this head without "
            "quadruplets; set tags by the convention of OC20 (0 sub-surface, 1 "
            "surface, 2 adsorbate) or use tags='auto'"
        )
    return array.astype(np.int64)


def _find_adsorbates(
    numbers: Int[np.ndarray, " atoms"],
    height: Float[np.ndarray, " atoms"],
    network: BondNetwork,
) -> Bool[np.ndarray, " atoms"]:
    is_adsorbate = ~network.is_endless
    is_light = np.isin(numbers, _NONMETALS) & ~is_adsorbate
    is_frame = ~is_light & ~is_adsorbate
    if not is_frame.any():
        return is_adsorbate
    low, high = height[is_frame].min() + _MARGIN, height[is_frame].max() - _MARGIN
    inside = set(numbers[is_light & (height > low) & (height < high)].tolist())
    for fragment in _light_fragments(is_light, network):
        center = height[fragment].mean()
        is_outside = not low <= center <= high
        if is_outside and not set(numbers[fragment].tolist()) <= inside:
            is_adsorbate[fragment] = True
    return is_adsorbate


def _light_fragments(
    is_light: Bool[np.ndarray, " atoms"], network: BondNetwork
) -> list[list[int]]:
    """Return the fragments that are left when the atoms of the frame are taken out."""
    keep = is_light[network.source] & is_light[network.target]
    neighbors: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(is_light)}
    for source, target in zip(
        network.source[keep].tolist(), network.target[keep].tolist(), strict=True
    ):
        neighbors[target].append(source)
    fragments, seen = [], set()
    for seed in neighbors:
        if seed in seen:
            continue
        fragment, stack = [], [seed]
        seen.add(seed)
        while stack:
            atom = stack.pop()
            fragment.append(atom)
            new = [other for other in neighbors[atom] if other not in seen]
            seen.update(new)
            stack.extend(dict.fromkeys(new))
        fragments.append(fragment)
    return fragments


def _is_exposed(
    network: BondNetwork,
    is_slab: Bool[np.ndarray, " atoms"],
    up: Float[np.ndarray, "3"],
) -> Bool[np.ndarray, " atoms"]:
    """Whether the bonds of each atom to slab atoms leave the side ``up`` open."""
    keep = is_slab[network.source] & is_slab[network.target]
    target, vector = network.target[keep], network.vector[keep]
    rise = vector @ up / np.linalg.norm(vector, axis=1)
    n_atoms = len(is_slab)
    count = np.bincount(target, minlength=n_atoms)
    mean = np.bincount(target, rise, minlength=n_atoms) / np.maximum(count, 1)
    n_above = np.bincount(target[rise > _ABOVE], minlength=n_atoms)
    exposed: Bool[np.ndarray, " atoms"] = (n_above == 0) | (mean < -_UNBALANCED)
    return exposed
