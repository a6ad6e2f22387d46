"""What is predicted: the targets that a loss can be put on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["system", "atom"]
Normalizer = Literal["referenced", "scaled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A quantity with labels."""

    name: str
    """Name in batches, logs and metrics."""
    level: Level
    """One value per system or per atom."""
    unit: str
    """Unit of its labels and of its reported errors."""
    normalizer: Normalizer
    """Reference energies are subtracted before scaling, or scaled only."""
    loss: str
    """Name of its default loss."""


ENERGY = Target(
    name="energy", level="system", unit="eV", normalizer="referenced", loss="absolute"
)
"""Total energy of a system."""

FORCES = Target(
    name="forces", level="atom", unit="eV/Å", normalizer="scaled", loss="euclidean"
)
"""Force on an atom."""

TARGETS: dict[str, Target] = {"energy": ENERGY, "forces": FORCES}
