"""Small systems are computed in one thread, and the caller keeps its threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from jmp_calc import JMPCalculator
from jmp_calc.calculator.threads import SMALL


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def crowd(n: int) -> Atoms:
    """Return n methanes in reach of each other."""
    joined = Atoms()
    for k in range(n):
        one = molecule("CH4")
        one.translate([0, 0, 3.5 * k])
        joined += one
    return joined


def threads_seen(calc: JMPCalculator, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    forward = calc.model.backbone.forward

    def counted(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return forward(*args, **kwargs)

    monkeypatch.setattr(calc.model.backbone, "forward", counted)
    return seen


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (20, 2)])
def test_only_small_systems_have_one_thread(
    monkeypatch: pytest.MonkeyPatch, n: int, expected: int
) -> None:
    calc = JMPCalculator("jmp-nano", head="qm7x")
    seen = threads_seen(calc, monkeypatch)
    atoms = crowd(n)
    calc.calculate(atoms, ["energy", "forces"])
    assert seen == [expected]
    assert torch.get_num_threads() == 2


def test_batches_of_small_systems_are_not_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calc = JMPCalculator("jmp-nano", head="qm7x")
    seen = threads_seen(calc, monkeypatch)
    calc.evaluate([molecule("CH3CH2NH2")] * 20, ["energy"])
    assert seen == [2]


def test_threads_are_set_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calc = JMPCalculator("jmp-nano", head="qm7x")

    def broken(*_, **__):
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError

    monkeypatch.setattr(calc.model.backbone, "forward", broken)
    with pytest.raises(ZeroDivisionError):
        calc.calculate(molecule("CH4"), ["energy"])
    assert torch.get_num_threads() == 2


def test_results_do_not_depend_on_the_threads_of_the_caller() -> None:
    atoms, forces = molecule("CH3CH2NH2"), []
    for n_threads in (2, 1):
        torch.set_num_threads(n_threads)
        calc = JMPCalculator("jmp-nano", head="qm7x")
        assert len(atoms) ** 2 * 96 < SMALL
        forces.append(calc.evaluate([atoms], ["forces"])[0]["forces"])
    assert np.array_equal(*forces)
