"""Reaction paths: bonds of a molecule are broken and made, and what lies between.

A product is guessed by driving the distances of atoms, relaxed, and joined to the
molecule by an interpolated band (image dependent pair potential), which then takes some
steps as a nudged elastic band. All of it serves to find geometries on and beside the
way over a barrier, not the barrier.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.spatial.distance import squareform

from jmp_calc.calculator.named import set_electrons
from jmp_calc.errors import DataError
from jmp_calc.sim.relax.optimizers import OPTIMIZER_CLASSES
from jmp_train.data.kinds.geometry import Making, bare, bond_counts, contact_radii
from jmp_train.data.kinds.thermal import LONGEST_STEP

NEAR = 3.5
"""Atoms are made to bond if they are closer than this, Å."""
BROKEN = 2.2
"""A broken bond is driven to this multiple of the sum of the covalent radii."""
APART = 0.75
"""Atoms without a bond are kept at this multiple of the sum of their van der Waals
radii while distances are driven."""
PRODUCT_STEPS = 50
"""Most steps of the relaxation of a product."""
PRODUCT_FORCE = 0.1
"""Largest force of an atom of a product, eV/Å."""
BAND_FORCE = 0.05
"""Force of a band at which it stops sooner, eV/Å."""
BAND_STEPS = 12
"""Steps of a band."""
REACTIONS = 5
"""How many reactions are tried before a molecule is given up."""
ENDS = 2
"""Images of a path that are no images of the band."""

Bond = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reaction:
    """Which bonds are broken and made."""

    name: str
    """dissociation, transfer or exchange."""
    broken: tuple[Bond, ...]
    """Bonds of the molecule that are not in the product."""
    made: tuple[Bond, ...]
    """Bonds of the product that are not in the molecule."""


def reacting(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield the images of one reaction of a molecule.

    They are the two ends, the interpolated images between them, and the same images
    after some steps of the band; ``info["image"]`` says which.

    Args:
        atoms: A relaxed molecule.
        making: ``n``, the number of images in all; forces are those of the calculator.

    Raises:
        ArgumentError: If there is no calculator.
        DataError: If the structure is periodic, ``n`` is below 4, or no reaction is
            found that leads to other bonds.
    """
    settings, generator = making.settings, making.generator
    if atoms.pbc.any() or len(atoms) < 3:
        raise DataError(
            f"{atoms.get_chemical_formula()} is periodic or has fewer than three "
            "atoms; reactions are those of molecules"
        )
    n_between = (settings.n - ENDS) // 2
    if n_between < 1:
        raise DataError(f"a path has at least 4 images; n is {settings.n}")
    choice = making.chosen_calculator()
    start = atoms.copy()
    set_electrons(start, choice)
    calculator = choice.build()
    reaction, product = _product(start, calculator, generator)
    try:
        first = _interpolated(start, product, n_between)
        band = _relaxed_band(first, calculator)
    except Exception as error:  # a calculator may raise anything
        raise DataError(
            f"the band of a {reaction.name} failed: {type(error).__name__}: {error}"
        ) from error
    images = [("start", start), ("end", product)]
    images += [(f"interpolated {i}", image) for i, image in enumerate(first[1:-1])]
    images += [(f"band {i}", image) for i, image in enumerate(band[1:-1])]
    for name, image in images:
        new = bare(image)
        new.info["reaction"] = reaction.name
        new.info["image"] = name
        yield new


def _product(
    start: Atoms, calculator: Calculator, generator: np.random.Generator
) -> tuple[Reaction, Atoms]:
    """Return the first reaction that leads to other bonds, and its end."""
    why = "no pair of atoms is near enough"
    for _ in range(REACTIONS):
        reaction = draw_reaction(start, generator)
        if reaction is None:
            continue
        product = driven(start, reaction)
        try:
            product = _relaxed(product, calculator)
        except Exception as error:  # noqa: BLE001 (a calculator may raise anything)
            why = f"{type(error).__name__}: {error}"
            continue
        if set(bond_counts(product)) != set(bond_counts(start)):
            return reaction, product
        why = "products fall back"
    raise DataError(
        f"no reaction of {start.get_chemical_formula()} in {REACTIONS} tries: {why}"
    )


def draw_reaction(atoms: Atoms, generator: np.random.Generator) -> Reaction | None:
    """Return a reaction drawn at random, or None if the one drawn is impossible.

    A dissociation breaks a bond; a transfer gives an atom (mostly hydrogen) with all
    that hangs on it to another near atom; an exchange swaps the partners of two bonds.

    Args:
        atoms: A molecule.
        generator: Random numbers.
    """
    bonds = sorted(bond_counts(atoms))
    kind = generator.choice(["transfer", "exchange", "dissociation"], p=[0.4, 0.4, 0.2])
    first = bonds[generator.integers(len(bonds))]
    if kind == "dissociation":
        return Reaction(name=kind, broken=(first,), made=())
    left, right = first if generator.random() < 0.5 else first[::-1]
    distance = atoms.get_all_distances()
    bonded = {frozenset(bond) for bond in bonds}
    if kind == "transfer":
        if atoms.numbers[left] == 1:
            left, right = right, left
        others = [
            other
            for other in range(len(atoms))
            if other not in (left, right)
            and frozenset((right, other)) not in bonded
            and distance[right, other] < NEAR
            and atoms.numbers[other] != 1
        ]
        if not others:
            return None
        other = int(generator.choice(others))
        return Reaction(name=kind, broken=(first,), made=((right, other),))
    pairs = [
        (a, b)
        for bond in bonds
        for a, b in (bond, bond[::-1])
        if not {a, b} & {left, right}
        and {frozenset((left, a)), frozenset((right, b))}.isdisjoint(bonded)
        and max(distance[left, a], distance[right, b]) < NEAR
    ]
    if not pairs:
        return None
    a, b = pairs[generator.integers(len(pairs))]
    return Reaction(name=kind, broken=(first, (a, b)), made=((left, a), (right, b)))


def driven(atoms: Atoms, reaction: Reaction) -> Atoms:
    """Return a guess of the product: distances are driven, and others held.

    Bonds that stay keep their lengths, and less strictly the atoms next but one their
    distances; bonds that are made get the sum of the covalent radii, and all other
    atoms are pushed apart.

    Args:
        atoms: A molecule.
        reaction: What happens to it.
    """
    n = len(atoms)
    distance = atoms.get_all_distances()
    covalent = covalent_radii[atoms.numbers]
    sums = covalent[:, None] + covalent
    contact = contact_radii(atoms)
    is_bond = np.zeros((n, n), dtype=bool)
    for i, j in bond_counts(atoms):
        is_bond[i, j] = is_bond[j, i] = True
    goal, stiffness = distance.copy(), np.zeros((n, n))
    for bonds, is_made in ((reaction.broken, False), (reaction.made, True)):
        for i, j in bonds:
            is_bond[i, j] = is_bond[j, i] = is_made
            goal[i, j] = goal[j, i] = sums[i, j]
    is_next = (is_bond.astype(int) @ is_bond.astype(int) > 0) & ~is_bond
    stiffness[is_next & (distance < NEAR)] = 0.1
    stiffness[is_bond] = 1.0
    least = np.where(is_bond | is_next, 0.0, APART * (contact[:, None] + contact))
    for i, j in reaction.broken:
        stiffness[i, j] = stiffness[j, i] = 0.0
        least[i, j] = least[j, i] = BROKEN * sums[i, j]
    new = bare(atoms)
    found = minimize(
        _strain,
        atoms.positions.ravel(),
        args=tuple(squareform(x, checks=False) for x in (goal, stiffness, least)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 300},
    )
    new.positions = found.x.reshape(-1, 3)
    return new


def _strain(
    flat: Float[np.ndarray, " coordinates"],
    goal: Float[np.ndarray, " pairs"],
    stiffness: Float[np.ndarray, " pairs"],
    least: Float[np.ndarray, " pairs"],
) -> tuple[float, Float[np.ndarray, " coordinates"]]:
    """Return the sum of squared deviations of distances, and its gradient."""
    positions = flat.reshape(-1, 3)
    i, j = np.triu_indices(len(positions), 1)
    arm = positions[j] - positions[i]
    length = np.maximum(np.linalg.norm(arm, axis=1), 1e-6)
    away, short = length - goal, np.minimum(length - least, 0.0)
    value = float((stiffness * away**2 + short**2).sum())
    push = (2 * (stiffness * away + short) / length)[:, None] * arm
    gradient = np.zeros_like(positions)
    np.add.at(gradient, j, push)
    np.add.at(gradient, i, -push)
    return value, gradient.ravel()


def _relaxed(product: Atoms, calculator: Calculator) -> Atoms:
    new: Atoms = product.copy()
    new.calc = calculator
    optimizer = OPTIMIZER_CLASSES["lbfgs"](new, logfile=None, maxstep=LONGEST_STEP)
    optimizer.run(fmax=PRODUCT_FORCE, steps=PRODUCT_STEPS)
    return bare(new)


def _interpolated(first: Atoms, last: Atoms, n_between: int) -> list[Atoms]:
    from ase.build import minimize_rotation_and_translation
    from ase.mep import NEB

    last = last.copy()
    minimize_rotation_and_translation(first, last)
    images = [bare(first) for _ in range(n_between + 1)] + [bare(last)]
    NEB(images, method="improvedtangent").interpolate(method="idpp")
    for image in images:
        image.calc = None
    return images


def _relaxed_band(images: list[Atoms], calculator: Calculator) -> list[Atoms]:
    from ase.mep import NEB

    band = [image.copy() for image in images]
    for image in band:
        image.calc = calculator
    chain = NEB(band, k=0.5, allow_shared_calculator=True, method="improvedtangent")
    optimizer = OPTIMIZER_CLASSES["fire"](
        chain, logfile=None, dt=0.05, maxstep=LONGEST_STEP
    )
    optimizer.run(fmax=BAND_FORCE, steps=BAND_STEPS)
    return band
