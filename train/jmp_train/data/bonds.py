"""Which atoms of a sample are bonded, by covalent radii and without the cell."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from jaxtyping import Bool
from scipy.spatial.distance import cdist

from jmp_train.data.sample import Sample


def closer_than(
    sample: Sample, *factors: float
) -> list[Bool[np.ndarray, "atoms atoms"]]:
    """Return which atoms are closer than multiples of the sum of their radii.

    An atom is closer to itself than any. Periodic images are not looked at.

    Args:
        sample: Any system.
        factors: Multiples of the sum of the covalent radii, one matrix for each.
    """
    radius = covalent_radii[sample.numbers]
    distance = cdist(sample.positions, sample.positions)
    return [distance < factor * (radius[:, None] + radius) for factor in factors]
