"""The network inside a calculator: what it is safe from, and what it is not for."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.errors import ArgumentError
from jmp_calc.models.weights import save_weights
from toys.models import smooth_model


def test_the_autocast_of_the_caller_changes_no_number() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)

    def results() -> tuple[dict[str, Any], np.ndarray]:
        calc = JMPCalculator(smooth_model())
        found = calc.evaluate([atoms], ["energy", "forces", "stress"])[0]
        return found, calc.get_descriptors(atoms)

    wanted, features = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, same = results()
    np.testing.assert_array_equal(same, features)
    for name in ("energy", "forces", "stress"):
        np.testing.assert_array_equal(found[name], wanted[name])


def test_the_network_of_a_calculator_cannot_be_saved(tmp_path) -> None:
    calc = JMPCalculator(smooth_model())
    with pytest.raises(ArgumentError, match=r"cannot be saved.*use the model that"):
        save_weights(calc.model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_network_of_a_calculator_makes_another_of_either_precision() -> None:
    atoms, model = molecule("CH4"), smooth_model()
    calc = JMPCalculator(model)
    for dtype in ("float32", "float64"):
        twin = JMPCalculator(calc.model, dtype=dtype)
        wanted = JMPCalculator(model, dtype=dtype).evaluate([atoms])[0]
        found = twin.evaluate([atoms])[0]
        # weights were multiplied with their constants in float32
        np.testing.assert_allclose(found["forces"], wanted["forces"], atol=1e-5)
    assert calc.model.dtype == torch.float32


def test_what_is_known_of_a_moving_structure_stays_out_of_copies() -> None:
    calc, atoms = JMPCalculator(smooth_model()), bulk("Cu", cubic=True) * (3, 3, 3)
    new = len(pickle.dumps(calc))
    atoms.calc = calc
    atoms.get_potential_energy()
    per_atom = (len(pickle.dumps(calc)) - new) / len(atoms)
    assert per_atom < 400  # results and the last positions, but no edges
