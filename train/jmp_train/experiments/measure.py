"""What is measured of trained weights beyond the errors of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from jaxtyping import Float

from jmp_calc.units import FS, KB
from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, store_path

_DISPLACEMENT = 1e-3
_EQUILIBRATION = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Errors of single systems, so that they can be grouped afterwards."""

    energy: Float[np.ndarray, " systems"]
    """|error| of the energy per atom, meV/atom; NaN where not labelled."""
    forces: Float[np.ndarray, " systems"]
    """Mean |error| of the force components of a system, meV/Å; NaN likewise."""


def read_samples(stores: Path, name: str, split: str, limit: int) -> list[Sample]:
    """Return up to so many systems of a part, always the same ones.

    Args:
        stores: Folder of the stores.
        name: Name of the set.
        split: ``train``, ``val`` or ``test``.
        limit: Largest number; 0: all.
    """
    store = Store(store_path(stores, name, split))
    order = np.random.default_rng(0).permutation(len(store))
    return [store[int(i)] for i in order[: limit or len(store)]]


def system_errors(
    weights: str | Path,
    samples: Sequence[Sample],
    *,
    head: str,
    fit: Sequence[Sample] = (),
) -> Errors:
    """Return the errors of a head on labelled systems.

    Args:
        weights: Name or file.
        samples: Labelled systems.
        head: Head to use.
        fit: Systems whose energies fix a reference of each element first, for a head
            whose level of theory is another; empty: none.
    """
    from jmp_calc import JMPCalculator

    calculator = JMPCalculator(weights, head=head, tags="atoms")
    correction = np.zeros(120)
    if fit:
        correction = _references(_energies(calculator, fit), fit)
    found = calculator.evaluate([sample.to_atoms() for sample in samples])
    energy, forces = [], []
    for sample, result in zip(samples, found, strict=True):
        shift = correction[sample.numbers].sum()
        gap = (
            np.nan
            if sample.energy is None
            else result["energy"] + shift - sample.energy
        )
        energy.append(1000 * abs(gap) / sample.n_atoms)
        is_free = ~sample.is_fixed
        error = (
            np.nan
            if sample.forces is None or not is_free.any()
            else np.abs(result["forces"] - sample.forces)[is_free].mean()
        )
        forces.append(1000 * error)
    return Errors(energy=np.array(energy), forces=np.array(forces))


def _energies(calculator: object, samples: Sequence[Sample]) -> list[float]:
    results = calculator.evaluate(  # type: ignore[attr-defined]  # a JMPCalculator
        [sample.to_atoms() for sample in samples], properties=("energy",)
    )
    return [float(result["energy"]) for result in results]


def _references(
    energies: Sequence[float], samples: Sequence[Sample]
) -> Float[np.ndarray, " elements"]:
    """Return the energy by element that turns one reference into the other."""
    labelled = [
        (sample, energy)
        for sample, energy in zip(samples, energies, strict=True)
        if sample.energy is not None
    ]
    if not labelled:
        return np.zeros(120)
    counts = np.array([np.bincount(s.numbers, minlength=120) for s, _ in labelled])
    gap = np.array([float(s.energy or 0.0) - energy for s, energy in labelled])
    return np.asarray(np.linalg.lstsq(counts.astype(float), gap, rcond=1e-10)[0])


def pooled_features(
    weights: str | Path, samples: Sequence[Sample]
) -> Float[np.ndarray, "systems dim"]:
    """Return the mean of the atom features of each system.

    Args:
        weights: Name or file.
        samples: Any systems.
    """
    from jmp_calc import JMPCalculator
    from jmp_calc.pretrained import load_model

    head = next(iter(load_model(weights).heads))
    calculator = JMPCalculator(weights, head=head, tags="atoms")
    return np.array(
        [calculator.get_descriptors(s.to_atoms()).mean(axis=0) for s in samples]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Conservation:
    """Whether forces are those of an energy."""

    drift_meV_per_atom_per_ps: float
    """Slope of the total energy at constant energy."""
    asymmetry: float
    """|J - J^T| / |J + J^T| of the derivative of the forces by the positions; zero for
    the forces of an energy."""
    milliseconds_per_step: float
    """Time of an energy and its forces."""


def conservation(
    weights: str | Path,
    atoms: Atoms,
    *,
    head: str,
    n_steps: int,
    timestep_fs: float = 0.5,
    temperature_K: float = 300.0,
) -> Conservation:
    """Run at constant energy and differentiate the forces by finite differences.

    Args:
        weights: Name or file.
        atoms: Start of the simulation, near a minimum.
        head: Head to use.
        n_steps: Steps of the simulation.
        timestep_fs: Length of a step.
        temperature_K: Of the first velocities.
    """
    from ase.md.velocitydistribution import Stationary
    from ase.md.verlet import VelocityVerlet

    from jmp_calc import JMPCalculator

    atoms = atoms.copy()
    atoms.calc = JMPCalculator(weights, head=head, tags="atoms", dtype="float64")
    asymmetry = _asymmetry(atoms)
    spread = np.sqrt(atoms.get_masses() * KB * temperature_K)[:, None]
    atoms.set_momenta(spread * np.random.default_rng(0).normal(size=(len(atoms), 3)))
    Stationary(atoms)
    energies: list[float] = []
    dynamics = VelocityVerlet(atoms, timestep=timestep_fs * FS)
    dynamics.attach(lambda: energies.append(float(atoms.get_total_energy())))
    began = time.perf_counter()
    dynamics.run(n_steps)
    seconds = time.perf_counter() - began
    first = int(len(energies) * _EQUILIBRATION)
    times = timestep_fs * 1e-3 * np.arange(len(energies))
    slope = np.polyfit(times[first:], energies[first:], 1)[0]
    return Conservation(
        drift_meV_per_atom_per_ps=1000 * float(slope) / len(atoms),
        asymmetry=asymmetry,
        milliseconds_per_step=1000 * seconds / n_steps,
    )


def _asymmetry(atoms: Atoms) -> float:
    start = atoms.positions.copy()
    rows = []
    for k in range(start.size):
        ends = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[k] += sign * _DISPLACEMENT
            atoms.positions = moved
            ends.append(atoms.get_forces().ravel())
        rows.append((ends[0] - ends[1]) / (2 * _DISPLACEMENT))
    atoms.positions = start
    jacobian = np.array(rows)
    size = float(np.linalg.norm(jacobian + jacobian.T))
    return float(np.linalg.norm(jacobian - jacobian.T)) / size if size else 0.0
