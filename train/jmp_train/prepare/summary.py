"""Distributions of what is in stores, from a bounded number of their systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jmp_train.data.store import Store

MOST_SYSTEMS = 10_000
"""Systems of a store that are looked at, evenly spaced; sizes are those of all."""
_MOST_COMPONENTS = 2_000_000

Values = Float[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distributions:
    """Values of the systems of one store."""

    n_read: int
    """Systems that were looked at."""
    n_atoms: Int[np.ndarray, " systems"]
    """Atoms of every system."""
    energy: Values
    """Energies minus references, per atom, eV."""
    forces: Values
    """Force components, eV/Å."""
    stress: Values
    """Stress components, eV/Å³."""
    targets: dict[str, Values]
    """Other labels, in their units."""


def distributions(store: Store, references: Mapping[int, float]) -> Distributions:
    """Return the values of the systems of a store.

    Args:
        store: Any store.
        references: Energies of elements that are subtracted, eV; an element without
            one counts as zero.
    """
    table = np.zeros(256)
    for z, value in references.items():
        table[z] = value
    chosen = np.unique(
        np.linspace(0, len(store) - 1, min(len(store), MOST_SYSTEMS)).astype(int)
    )
    energy: list[float] = []
    forces: list[Values] = []
    stress: list[Values] = []
    targets: dict[str, list[float]] = {}
    n_components = 0
    for index in chosen:
        sample = store[int(index)]
        if sample.energy is not None:
            rest = sample.energy - table[sample.numbers].sum()
            energy.append(rest / sample.n_atoms)
        if sample.forces is not None and n_components < _MOST_COMPONENTS:
            forces.append(sample.forces.ravel())
            n_components += sample.forces.size
        if sample.stress is not None:
            stress.append(sample.stress.ravel())
        for name, value in sample.targets.items():
            targets.setdefault(name, []).append(value)
    return Distributions(
        n_read=len(chosen),
        n_atoms=np.array(store.n_atoms),
        energy=np.array(energy, dtype=np.float64),
        forces=_joined(forces),
        stress=_joined(stress),
        targets={name: np.array(v, dtype=np.float64) for name, v in targets.items()},
    )


def _joined(parts: list[Values]) -> Values:
    return np.concatenate(parts) if parts else np.zeros(0)


def train_references(headers: Mapping[str, Mapping[str, Any]]) -> dict[int, float]:
    """Return the references of the training part, or of the first part there is.

    Args:
        headers: Headers by part.
    """
    header = headers.get("train") or next(iter(headers.values()))
    found: Mapping[str, float] = header["statistics"]["references"]
    return {int(z): float(value) for z, value in found.items()}
