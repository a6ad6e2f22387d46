"""Averages over elastic constants, with published and analytic values."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.sim.elastic.moduli import (
    full_stiffness,
    moduli_of,
    voigt_stiffness,
    young_along,
)
from jmp_calc.sim.elastic.symmetry import symmetric_constants


def cubic(c11: float, c12: float, c44: float) -> np.ndarray:
    constants = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    constants[:3, :3] += c12
    return constants


def test_an_isotropic_solid_has_one_value_of_each():
    bulk, shear = 100.0, 40.0
    moduli = moduli_of(cubic(bulk + 4 / 3 * shear, bulk - 2 / 3 * shear, shear))
    for name in ("voigt", "reuss", "hill"):
        assert getattr(moduli, f"bulk_{name}_GPa") == pytest.approx(bulk)
        assert getattr(moduli, f"shear_{name}_GPa") == pytest.approx(shear)
    assert moduli.young_GPa == pytest.approx(9 * bulk * shear / (3 * bulk + shear))
    assert moduli.poisson == pytest.approx(moduli.young_GPa / 2 / shear - 1)
    assert moduli.anisotropy == pytest.approx(0, abs=1e-12)


def test_cubic_averages_have_their_textbook_form():
    c11, c12, c44 = 168.4, 121.4, 75.4  # copper, Kittel
    moduli = moduli_of(cubic(c11, c12, c44))
    assert moduli.shear_voigt_GPa == pytest.approx((c11 - c12 + 3 * c44) / 5)
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert moduli.shear_reuss_GPa == pytest.approx(reuss)
    assert moduli.bulk_reuss_GPa == pytest.approx((c11 + 2 * c12) / 3)


def test_eigenvalues_of_a_cubic_crystal_and_its_stability():
    moduli = moduli_of(cubic(168.4, 121.4, 75.4))
    expected = [47.0, 47.0, 150.8, 150.8, 150.8, 411.2]
    np.testing.assert_allclose(moduli.eigenvalues_GPa, expected)
    assert moduli.is_stable
    # Born's conditions one by one: C11 > C12, C44 > 0, C11 + 2 C12 > 0
    assert not moduli_of(cubic(100, 101, 50)).is_stable
    assert not moduli_of(cubic(100, 50, -1)).is_stable
    assert not moduli_of(cubic(100, -51, 50)).is_stable
    assert moduli_of(cubic(100, -49, 50)).is_stable


def test_youngs_modulus_of_copper_along_its_axes():
    c11, c12, c44 = 168.4, 121.4, 75.4
    along = np.array([[1, 0, 0], [1, 1, 1]]) / np.array([[1], [np.sqrt(3)]])
    young = young_along(cubic(c11, c12, c44), along)
    # closed forms for cubic crystals; 67 and 191 GPa are in every textbook
    edge = (c11 - c12) * (c11 + 2 * c12) / (c11 + c12)
    diagonal = 3 * c44 * (c11 + 2 * c12) / (c11 + 2 * c12 + c44)
    np.testing.assert_allclose(young, [edge, diagonal])
    np.testing.assert_allclose(young, [66.7, 191.2], atol=0.2)


def test_matrix_and_tensor_are_the_same_thing():
    matrix = np.random.default_rng(0).normal(size=(6, 6))
    matrix = matrix + matrix.T
    np.testing.assert_array_equal(voigt_stiffness(full_stiffness(matrix)), matrix)


def test_averaging_over_a_group_gives_its_form():
    # three-fold axis along z and two-fold along x: class 32, six constants
    c, s = -0.5, np.sqrt(3) / 2
    third = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    flip = np.diag([1.0, -1, -1])
    turns = [np.linalg.matrix_power(third, n) for n in range(3)]
    group = np.array([m @ turn for m in (np.eye(3), flip) for turn in turns])
    matrix = np.random.default_rng(1).normal(size=(6, 6))
    found = symmetric_constants(matrix + matrix.T, group)
    # Nye, Physical Properties of Crystals, table 9, class 32
    np.testing.assert_allclose(found[0, 0], found[1, 1])
    np.testing.assert_allclose(found[0, 3], -found[1, 3])
    np.testing.assert_allclose(found[4, 5], found[0, 3])
    np.testing.assert_allclose(found[5, 5], (found[0, 0] - found[0, 1]) / 2)
    np.testing.assert_allclose(found[:5, 5][[0, 1, 2, 3]], 0, atol=1e-12)
    np.testing.assert_allclose(symmetric_constants(found, group), found, atol=1e-12)
