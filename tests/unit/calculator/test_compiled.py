"""Compiled networks count only where they are right."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from jmp_calc.calculator import JMPCalculator, compiled
from jmp_calc.calculator.compiled import difference
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from toys.models import smooth_model

PROPERTIES = ("energy", "forces")


class Compiler:
    """Stands in for torch.compile; compiles again for every new number of atoms."""

    def __init__(
        self, *, factor: float = 1.0, error: BaseException | None = None
    ) -> None:
        self.factor, self.error = factor, error
        self.n_calls = 0
        self.sizes: set[int] = set()

    def __call__(self, module: torch.nn.Module, on_compile: Callable[[], None]) -> None:
        forward = module.forward

        def faulty(atom, graph, *args, **options):
            self.n_calls += 1
            if graph.n_atoms not in self.sizes:
                self.sizes.add(graph.n_atoms)
                on_compile()
            if self.error is not None:
                raise self.error
            found, edge, shared = forward(atom, graph, *args, **options)
            return found * self.factor, edge, shared

        module.forward = faulty


@pytest.fixture
def compiler(monkeypatch) -> Compiler:
    compiler = Compiler()
    monkeypatch.setattr(compiled, "compile_", compiler)
    return compiler


@pytest.fixture
def calc() -> JMPCalculator:
    return JMPCalculator(smooth_model(), dtype="float64", compile=True, head="organic")


def n_references(calc: JMPCalculator, monkeypatch) -> list[int]:
    """Count calls of the form for inference."""
    counted, forward = [0], calc.model.forward

    def count(*args, **kwargs):
        counted[0] += 1
        return forward(*args, **kwargs)

    monkeypatch.setattr(calc.model, "forward", count)
    return counted


def wanted(atoms) -> dict[str, np.ndarray]:
    exact = JMPCalculator(smooth_model(), dtype="float64", head="organic")
    return exact.evaluate([atoms], PROPERTIES)[0]


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_what_was_compiled_is_checked_once_and_told(
    calc, compiler, ethanol, monkeypatch, caplog
) -> None:
    n_exact = n_references(calc, monkeypatch)
    for _ in range(3):
        ethanol.positions += 1e-4
        found = calc.evaluate([ethanol], PROPERTIES)[0]
    assert (compiler.n_calls, n_exact[0]) == (3, 1)
    first, then = warnings_of(caplog)
    assert first == "compiling the network, which takes a minute or two ..."
    assert then.startswith("compiled in ")
    assert then.endswith(" s; results equal those of the network as it is")
    np.testing.assert_allclose(found["forces"], wanted(ethanol)["forces"], atol=1e-10)


def test_what_is_compiled_again_is_checked_again(
    calc, compiler, ethanol, monkeypatch, caplog
) -> None:
    n_exact = n_references(calc, monkeypatch)
    calc.evaluate([ethanol])
    calc.evaluate([molecule("CH4")])
    assert n_exact[0] == 2
    assert [text.startswith("compiled in ") for text in warnings_of(caplog)[-2:]] == [
        True,
        True,
    ]
    compiler.factor = 1.001
    water = molecule("H2O")
    found = calc.evaluate([water], PROPERTIES)[0]
    assert n_exact[0] == 3
    assert "its results are wrong" in warnings_of(caplog)[-1]
    assert found["energy"] == wanted(water)["energy"]


def test_wrong_results_are_replaced_and_nothing_is_compiled_any_more(
    calc, compiler, ethanol, caplog
) -> None:
    compiler.factor = 1.001
    for _ in range(2):
        found = calc.evaluate([ethanol], PROPERTIES)[0]
        assert found["energy"] == wanted(ethanol)["energy"]
        np.testing.assert_array_equal(found["forces"], wanted(ethanol)["forces"])
    assert compiler.n_calls == 1
    last = warnings_of(caplog)[1:]
    assert len(last) == 1
    assert last[0].startswith("the network is not compiled from now on: its results")
    assert "energy differ by" in last[0]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no C++ compiler\nlong story"),
        UnsupportedSystemError("big"),
        AttributeError("'NoneType' object has no attribute 'stride'"),
        AssertionError("u0 == 3"),
        FileNotFoundError("g++"),
    ],
)
def test_compilers_that_fail_are_left_out(
    calc, compiler, ethanol, caplog, error
) -> None:
    compiler.error = error
    for _ in range(2):
        found = calc.evaluate([ethanol], PROPERTIES)[0]
        np.testing.assert_array_equal(found["forces"], wanted(ethanol)["forces"])
    assert compiler.n_calls == 1
    reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert warnings_of(caplog)[1:] == [
        f"the network is not compiled from now on: {reason}"
    ]


def test_compilers_can_be_interrupted(calc, compiler, ethanol, caplog) -> None:
    compiler.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        calc.evaluate([ethanol])
    assert "not compiled" not in caplog.text


def test_errors_that_the_network_has_as_well_are_not_blamed_on_the_compiler(
    calc, compiler, ethanol, monkeypatch, caplog
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("9 GiB")

    compiler.error = RuntimeError("can't allocate memory: 9 GiB")
    monkeypatch.setattr(calc.model, "forward", fail)
    with pytest.raises(UnsupportedSystemError, match="ran out of memory"):
        calc.evaluate([ethanol])
    assert "not compiled" not in caplog.text


def test_dynamics_and_batches_use_the_same_compiled_network(
    calc, compiler, ethanol
) -> None:
    ethanol.calc = calc
    forces = ethanol.get_forces()
    found = calc.evaluate([ethanol], PROPERTIES)[0]
    assert compiler.n_calls == 2
    np.testing.assert_allclose(found["forces"], forces, atol=1e-12)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_compile_anew(duplicate, calc, ethanol, monkeypatch) -> None:
    compiler = Compiler(error=RuntimeError("first"))
    monkeypatch.setattr(compiled, "compile_", compiler)
    twin = duplicate(calc)
    twin.evaluate([ethanol])
    assert compiler.n_calls == 1
    assert twin.engine._compiled.is_given_up
    assert duplicate(twin.engine._compiled).is_given_up
    assert not calc.engine._compiled.is_given_up


def test_the_network_as_it_was_trained_is_needed() -> None:
    frozen = JMPCalculator(smooth_model()).model
    with pytest.raises(ArgumentError, match="need a network as it was trained"):
        JMPCalculator(frozen, compile=True)


def test_bf16_is_too_coarse_for_the_check() -> None:
    with pytest.raises(ArgumentError, match="too coarse to be checked; leave one"):
        JMPCalculator(smooth_model(), compile=True, approximate="bf16")


@pytest.mark.parametrize("name", ["energy", "energies", "forces", "stress"])
def test_differences_of_every_kind_are_found(name) -> None:
    calc = JMPCalculator(smooth_model(), head="crystals")
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    properties = ("energy", "energies", "forces", "stress")
    (expected,) = calc.evaluate([atoms], properties)
    found = copy.deepcopy(expected)
    assert difference([found], [expected], 1e-4) is None
    found[name] = found[name] + (0.01 if name == "energy" else 1e-3)
    assert str(difference([found], [expected], 1e-4)).startswith(f"{name} differ by")
    found[name] = found[name] * np.nan
    assert str(difference([found], [expected], 1e-4)).startswith(f"{name} differ by")
