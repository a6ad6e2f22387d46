"""Labels of one system as a file holds them, and why a system is of no use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

NO_LABEL = "no label"
"""Why a system without any label is skipped."""

NOT_FINITE = "a label that is not finite"
"""Why a system with such a label is skipped."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Labels:
    """Labels of one system as they are in a file."""

    energy: float | None = None
    """eV."""
    forces: Float[np.ndarray, "atoms 3"] | None = None
    """eV/Å."""
    stress: Float[np.ndarray, "3 3"] | None = None
    """eV/Å³."""
    targets: dict[str, float] = field(default_factory=dict)
    """Others by name."""

    @property
    def fault(self) -> str:
        """Why the system is of no use; empty: it is."""
        labels = (self.energy, self.forces, self.stress, *self.targets.values())
        given = [np.asarray(value) for value in labels if value is not None]
        if not given:
            return NO_LABEL
        is_finite = all(np.isfinite(value).all() for value in given)
        return "" if is_finite else NOT_FINITE


def too_large(
    forces: Float[np.ndarray, "atoms 3"] | None, max_force: float | None
) -> str:
    """Return why forces are not accepted; empty: they are.

    Args:
        forces: eV/Å, or None.
        max_force: Largest force on an atom that is accepted, eV/Å; None: any.
    """
    if forces is None or max_force is None:
        return ""
    largest = float(np.linalg.norm(forces, axis=1).max(initial=0.0))
    return f"force above {max_force:g} eV/Å" if largest > max_force else ""


def with_unit(target: str) -> tuple[str, str]:
    """Return name and unit of a target that was asked for.

    Args:
        target: ``NAME`` or ``NAME:UNIT``.
    """
    name, _, unit = target.partition(":")
    return name, unit


def set_name(source: Path, given: str | None) -> str:
    """Return the name of a set: as given, or after its file or folder.

    Args:
        source: File or folder.
        given: What the user calls it; None: nothing.
    """
    # A point cannot be in the name of a head.
    name = given or source.name.split(".")[0]
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "user"
