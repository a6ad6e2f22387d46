"""What follows from a matrix of elastic constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.stress import full_3x3_to_voigt_6_index
from jaxtyping import Float

VOIGT_AXES = ("xx", "yy", "zz", "yz", "xz", "xy")
"""Order of the rows and columns of every 6 x 6 matrix."""

_PAIR = np.array(
    [[full_3x3_to_voigt_6_index(i, j) for j in range(3)] for i in range(3)]
)

_KELVIN = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
_ZERO = 1e-9
"""Eigenvalue by the largest one that is rounding and not stiffness."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moduli:
    """Averages over all orientations of a crystal, GPa, and its stability."""

    bulk_voigt_GPa: float
    """Bulk modulus if all grains are strained alike."""
    bulk_reuss_GPa: float | None
    """Bulk modulus if all grains are stressed alike; None for an unstable crystal."""
    bulk_hill_GPa: float | None
    """Mean of the two."""
    shear_voigt_GPa: float
    """Shear modulus if all grains are strained alike."""
    shear_reuss_GPa: float | None
    """Shear modulus if all grains are stressed alike."""
    shear_hill_GPa: float | None
    """Mean of the two."""
    young_GPa: float | None
    """Young's modulus, from the means."""
    poisson: float | None
    """Poisson's ratio, from the means."""
    anisotropy: float | None
    """Universal anisotropy; 0 for an isotropic crystal."""
    eigenvalues_GPa: tuple[float, ...]
    """Of the tensor of constants, ascending; the same however the crystal is turned. A
    crystal is stable if all are above 0."""

    @property
    def is_stable(self) -> bool:
        """Whether every small strain costs energy (Born's criterion)."""
        return self.eigenvalues_GPa[0] > _ZERO * self.eigenvalues_GPa[-1]


def moduli_of(constants_GPa: Float[np.ndarray, "6 6"]) -> Moduli:
    """Return averages and stability of a matrix of elastic constants.

    Args:
        constants_GPa: Symmetric, Voigt order, GPa.

    Source:
        Hill, Proc. Phys. Soc. A 65, 349 (1952); anisotropy: Ranganathan and
        Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008), Eq. 9; stability:
        Mouhat and Coudert, Phys. Rev. B 90, 224104 (2014).
    """
    # with Kelvin's weights the matrix turns like a tensor; signs are those of Voigt's
    kelvin = constants_GPa * np.outer(_KELVIN, _KELVIN)
    eigenvalues = tuple(float(x) for x in np.linalg.eigvalsh(kelvin))
    bulk_v, shear_v = _voigt(constants_GPa)
    if eigenvalues[0] <= _ZERO * eigenvalues[-1]:
        # averages of compliances mean nothing where one of them is negative
        return Moduli(
            bulk_voigt_GPa=bulk_v,
            bulk_reuss_GPa=None,
            bulk_hill_GPa=None,
            shear_voigt_GPa=shear_v,
            shear_reuss_GPa=None,
            shear_hill_GPa=None,
            young_GPa=None,
            poisson=None,
            anisotropy=None,
            eigenvalues_GPa=eigenvalues,
        )
    bulk_r, shear_r = _reuss(np.linalg.inv(constants_GPa))
    bulk, shear = (bulk_v + bulk_r) / 2, (shear_v + shear_r) / 2
    return Moduli(
        bulk_voigt_GPa=bulk_v,
        bulk_reuss_GPa=bulk_r,
        bulk_hill_GPa=bulk,
        shear_voigt_GPa=shear_v,
        shear_reuss_GPa=shear_r,
        shear_hill_GPa=shear,
        young_GPa=9 * bulk * shear / (3 * bulk + shear),
        poisson=(3 * bulk - 2 * shear) / (6 * bulk + 2 * shear),
        anisotropy=5 * shear_v / shear_r + bulk_v / bulk_r - 6,
        eigenvalues_GPa=eigenvalues,
    )


def _parts(matrix: Float[np.ndarray, "6 6"]) -> tuple[float, float, float]:
    """Return the sums over diagonal, off-diagonal and shear entries."""
    normal = matrix[:3, :3]
    diagonal = float(np.trace(normal))
    return diagonal, float(normal.sum()) - diagonal, float(np.trace(matrix[3:, 3:]))


def _voigt(constants: Float[np.ndarray, "6 6"]) -> tuple[float, float]:
    diagonal, off, shear = _parts(constants)
    return (diagonal + off) / 9, (diagonal - off / 2 + 3 * shear) / 15


def _reuss(compliances: Float[np.ndarray, "6 6"]) -> tuple[float, float]:
    diagonal, off, shear = _parts(compliances)
    return 1 / (diagonal + off), 15 / (4 * diagonal - 2 * off + 3 * shear)


def young_along(
    constants_GPa: Float[np.ndarray, "6 6"],
    directions: Float[np.ndarray, "directions 3"],
) -> Float[np.ndarray, "directions"]:
    """Return Young's modulus of the single crystal along directions, GPa.

    Args:
        constants_GPa: Positive definite, Voigt order, GPa.
        directions: Unit vectors in Cartesian coordinates.

    Source:
        Nye, Physical Properties of Crystals (1985), chapter VIII: 1/E = n n n n : S.
    """
    tensor = full_compliance(np.linalg.inv(constants_GPa))
    n = directions
    inverse: Float[np.ndarray, "directions"] = np.einsum(
        "di,dj,dk,dl,ijkl->d", n, n, n, n, tensor
    )
    return 1 / inverse


def full_stiffness(constants: Float[np.ndarray, "6 6"]) -> Float[np.ndarray, "3 3 3 3"]:
    """Return the tensor of a matrix of constants.

    Args:
        constants: Voigt order.
    """
    tensor: Float[np.ndarray, "3 3 3 3"] = constants[_PAIR[:, :, None, None], _PAIR]
    return tensor


def full_compliance(
    compliances: Float[np.ndarray, "6 6"],
) -> Float[np.ndarray, "3 3 3 3"]:
    """Return the tensor of a matrix of compliances.

    Args:
        compliances: Inverse of the constants, Voigt order, with engineering strains.
    """
    # an engineering shear strain is twice that of the tensor
    weight = np.array([1.0, 1, 1, 2, 2, 2])
    return full_stiffness(compliances / weight[:, None] / weight)


def voigt_stiffness(
    tensor: Float[np.ndarray, "3 3 3 3"],
) -> Float[np.ndarray, "6 6"]:
    """Return the matrix of a tensor of constants.

    Args:
        tensor: Symmetric in the first two and in the last two axes.
    """
    i, j = np.array([[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]])
    matrix: Float[np.ndarray, "6 6"] = tensor[i[:, None], j[:, None], i, j]
    return matrix
