"""Calculators that are wrong in one way each, to be found out by ``jmp-md check``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list

Results = dict


class Changed(Calculator):
    """A calculator whose results are changed by a function."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(
        self,
        change: Callable[[Results, Atoms], None],
        inner: Calculator | None = None,
    ) -> None:
        super().__init__()
        self.inner = inner or EMT()
        self.change = change

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.inner.reset()
        names = ["energy", "forces", "stress"]
        system = self.atoms.copy()
        if not system.pbc.all():
            names.remove("stress")
        self.results = {n: self.inner.get_property(n, system) for n in names}
        self.change(self.results, system)
        self.results["free_energy"] = self.results["energy"]


def swirl(results: Results, atoms: Atoms) -> None:
    """Pair forces that depend on who else is near, as no gradient of a pair does.

    They have a curl, and neither net force nor torque nor a preferred direction.
    """
    first, second, vectors, distances = neighbor_list("ijDd", atoms, 3.2)
    near = (1 - distances / 3.2) ** 2
    crowd = np.bincount(first, near, minlength=len(atoms))
    push = 0.3 * (near * (crowd[first] + crowd[second]))[:, None] * vectors
    np.add.at(results["forces"], first, push)


def scaled(results: Results, atoms: Atoms) -> None:
    """Forces of another energy: no curl, and not the gradient of this one."""
    results["forces"] *= 1.01


def against(results: Results, atoms: Atoms) -> None:
    """The gradient itself: atoms are driven uphill."""
    results["forces"] *= -1


def wrong_sign(results: Results, atoms: Atoms) -> None:
    """Stress counted as pressure."""
    if "stress" in results:
        results["stress"] *= -1


def half_stressed(results: Results, atoms: Atoms) -> None:
    """A term of pairs in energy and forces that the stress forgets."""
    first, second, vectors, distances = neighbor_list("ijDd", atoms, 4.0)
    fade = 1 - (distances / 4.0) ** 2
    results["energy"] += 0.02 * float((fade**3).sum())
    push = 0.02 * (6 * fade**2 / 16.0)[:, None] * vectors
    np.add.at(results["forces"], first, -push)
    np.add.at(results["forces"], second, push)


def directional(results: Results, atoms: Atoms) -> None:
    """A bond along x costs energy; forces are the gradient of that."""
    first, second, vectors, distances = neighbor_list("ijDd", atoms, 4.0)
    x, fade = vectors[:, 0], (1 - (distances / 4.0) ** 2)
    results["energy"] += 0.005 * float((x**2 * fade**3).sum())
    pull = np.zeros_like(vectors)
    pull[:, 0] = 2 * x * fade**3
    pull -= (x**2 * 6 * fade**2 / 16.0)[:, None] * vectors
    np.add.at(results["forces"], first, 0.005 * pull)
    np.add.at(results["forces"], second, -0.005 * pull)
    if "stress" in results:
        virial = 0.005 * np.einsum("bi,bj->ij", pull, vectors) / atoms.get_volume()
        for k, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            results["stress"][k] += virial[i, j]


def growing(results: Results, atoms: Atoms) -> None:
    """The energy is not extensive."""
    results["energy"] += 1e-3 * len(atoms) ** 2


def ordered(results: Results, atoms: Atoms) -> None:
    """The energy knows whether heavier atoms are listed first."""
    results["energy"] += 0.01 * float(atoms.get_masses()[0] - atoms.get_masses()[-1])


def placed(results: Results, atoms: Atoms) -> None:
    """An external field: the energy knows where the atoms are."""
    results["energy"] -= 0.01 * float(atoms.positions[:, 2].sum())
    results["forces"][:, 2] += 0.01


def noisy(results: Results, atoms: Atoms) -> None:
    """Energy and forces with few digits."""
    results["energy"] = round(results["energy"], 4)
    results["forces"] = results["forces"].round(3)


def single(results: Results, atoms: Atoms) -> None:
    """Total energies of all electrons in single precision; differences are lost."""
    results["energy"] = float(np.float32(results["energy"] - 4214.0))
    results["forces"] = results["forces"].astype(np.float32)


def torn(results: Results, atoms: Atoms) -> None:
    """Forces are not defined where three atoms are in line."""
    first, second, vectors = neighbor_list("ijD", atoms, 1.6)
    for centre in range(len(atoms)):
        bonds = vectors[first == centre]
        ends = second[first == centre]
        for a in range(len(bonds)):
            for b in range(a):
                across = np.cross(bonds[a], bonds[b])
                size = np.linalg.norm(across)
                if 0 < size < 0.05:
                    kick = 0.05 * np.cross(across / size, bonds[a])
                    results["forces"][ends[a]] += kick
                    results["forces"][centre] -= kick


def undefined(results: Results, atoms: Atoms) -> None:
    """Forces are not a number where three atoms are in line."""
    first, _, vectors = neighbor_list("ijD", atoms, 1.6)
    for centre in range(len(atoms)):
        bonds = vectors[first == centre]
        bonds /= np.linalg.norm(bonds, axis=1)[:, None]
        if (bonds @ bonds.T < -1 + 1e-14).any():
            results["forces"][centre] = np.nan


class Pairs(Calculator):
    """Energies of pairs of atoms, without forces between them."""

    implemented_properties = ("energy", "free_energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        energy = self.energy_of(self.atoms)
        forces = np.zeros((len(self.atoms), 3))
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}


class Cut(Pairs):
    """Each pair within a distance has the same energy (eV)."""

    def energy_of(self, atoms: Atoms) -> float:
        return 0.01 * len(neighbor_list("i", atoms, 5.0)) / 2


class Nearest(Pairs):
    """Only so many neighbours of each atom count, the nearest that come before it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def energy_of(self, atoms: Atoms) -> float:
        first, second, distances = neighbor_list("ijd", atoms, 6.0)
        energy = 0.0
        for centre in range(len(atoms)):
            near = np.flatnonzero(first == centre)
            near = near[distances[near].argsort(kind="stable")][: self.count]
            # neighbours are told apart by their number: ranks then matter
            energy += 0.01 * float((1 + second[near] / len(atoms)).sum())
        return energy


def argon(smooth: bool) -> LennardJones:
    """Lennard-Jones with a cutoff at which forces are large enough to matter."""
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=5.5, ro=4.0, smooth=smooth)


def scaled_emt() -> Changed:
    """EMT with forces that are not quite its own, for the command line."""
    return Changed(scaled)
