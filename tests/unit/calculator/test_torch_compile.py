"""Networks that torch really compiles; JAXTYPING_DISABLE=1 pytest -m compile."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from ase.build import bulk, molecule
from torch._inductor import config
from torch._inductor.utils import fresh_cache

from jmp_calc.calculator import JMPCalculator
from toys.models import published_model, smooth_model

pytestmark = pytest.mark.compile

MODELS = {"smooth": smooth_model, "published": published_model}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_compiled_networks_equal_those_that_are_not(name, dtype) -> None:
    model = MODELS[name]()
    calc = JMPCalculator(model, dtype=dtype, compile=True)
    exact = JMPCalculator(model, dtype=dtype)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    structures = [molecule("CH3CH2OH"), molecule("H2O")]
    if name == "smooth":
        structures.append(bulk("Cu", cubic=True))
    for atoms in structures:
        atoms.rattle(0.05, seed=1)
        properties = ["energy", "forces"] + ["stress"] * bool(atoms.pbc.all())
        (found,), (wanted,) = (c.evaluate([atoms], properties) for c in (calc, exact))
        for key in properties:
            error = np.abs(np.subtract(found[key], wanted[key])).max()
            scale = max(1.0, np.abs(wanted[key]).max() * (key != "energy"))
            assert error < tolerance * scale, key
    assert not calc.engine._compiled.is_given_up
    assert calc.engine._compiled.n_compiled > 0


def test_without_a_compiler_nothing_is_compiled(monkeypatch, caplog) -> None:
    atoms = molecule("H2O")
    wanted = JMPCalculator(smooth_model()).evaluate([atoms])[0]
    calc = JMPCalculator(smooth_model(), compile=True)
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with fresh_cache():
        found = calc.evaluate([atoms])[0]
    np.testing.assert_array_equal(found["forces"], wanted["forces"])
    assert calc.engine._compiled.is_given_up
    told = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "not compiled from now on: " in told[-1]
