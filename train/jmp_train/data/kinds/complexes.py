"""Molecules put beside each other: dimers, clusters and droplets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from jmp_calc.errors import DataError
from jmp_train.data.kinds.geometry import SMILES, Making, bare, contact_radii


def joined(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield complexes of the structure and partners.

    Each molecule is turned at random and comes from a random direction towards the
    middle of those that are there, until the closest contact is a drawn multiple of
    the sum of the van der Waals radii.

    Args:
        atoms: A molecule.
        making: ``n``, ``molecules`` (each complex has from two to that many),
            ``max_atoms``, ``contact`` and ``same``; the partners are used one after
            the other.

    Raises:
        DataError: If a structure is periodic, or too large to have a partner.
    """
    settings, generator = making.settings, making.generator
    partners = iter(making.partners)
    if any(each.pbc.any() for each in (atoms, *making.partners)):
        raise DataError("a structure is periodic; complexes are those of molecules")
    if 2 * len(atoms) > settings.max_atoms and settings.same:
        raise DataError(
            f"two molecules of {len(atoms)} atoms are more than max_atoms "
            f"({settings.max_atoms})"
        )
    for _ in range(settings.n):
        wanted = int(generator.integers(2, settings.molecules + 1))
        found, groups = bare(atoms), [_group(atoms)]
        contacts = []
        for _ in range(wanted - 1):
            partner = atoms if settings.same else next(partners)
            if len(found) + len(partner) <= settings.max_atoms:
                contacts.append(float(generator.uniform(*settings.contact)))
                found = _beside(found, partner, contacts[-1], generator)
                groups.append(_group(partner))
        if not contacts:
            raise DataError(
                f"no partner of {atoms.get_chemical_formula()} leaves the complex "
                f"within max_atoms ({settings.max_atoms})"
            )
        found.info["group"] = ".".join(sorted(groups))
        found.info["contact"] = round(min(contacts), 6)
        yield found


def n_partners(n: int, molecules: int) -> int:
    """Return how many partners are enough for all complexes of a structure.

    Args:
        n: Complexes of a structure.
        molecules: Most molecules of a complex.
    """
    return n * (molecules - 1)


def _group(atoms: Atoms) -> str:
    return str(atoms.info.get("group") or atoms.get_chemical_formula())


def _beside(
    found: Atoms, partner: Atoms, contact: float, generator: np.random.Generator
) -> Atoms:
    """Return both, the partner as near as the contact says."""
    new = bare(partner)
    new.positions -= new.positions.mean(0)
    turn = Rotation.random(rng=generator)
    new.positions = turn.apply(new.positions) + found.positions.mean(0)
    direction = generator.normal(size=3)
    direction /= np.linalg.norm(direction)
    reach = contact * (contact_radii(found)[:, None] + contact_radii(new))
    new.positions += direction * _way(
        new.positions - found.positions[:, None], direction, reach
    )
    smiles = [str(each.info.get(SMILES, "")) for each in (found, new)]
    both: Atoms = found + new
    both.info = {SMILES: ".".join(smiles)} if all(smiles) else {}
    return both


def _way(
    arms: Float[np.ndarray, "first second 3"],
    direction: Float[np.ndarray, " 3"],
    reach: Float[np.ndarray, "first second"],
) -> float:
    """Return the last place on the way out where a pair is at its distance."""
    along = arms @ direction
    # |arm + t direction| = reach has its larger root here, if the pair meets at all
    inside = along**2 - (arms**2).sum(-1) + reach**2
    roots = np.where(inside >= 0, -along + np.sqrt(np.maximum(inside, 0)), 0.0)
    return float(max(roots.max(), 0.0))
