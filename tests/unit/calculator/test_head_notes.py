"""Sentences that a user of a head should read."""

from __future__ import annotations

from dataclasses import replace

from ase.build import molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.models.jmp import JMPModel
from toys.models import MODELS


def notes(coverage: str) -> list[str]:
    toy = MODELS["smooth"]()
    specs = [replace(spec, coverage=coverage) for spec in toy.heads.values()]
    calc = JMPCalculator(JMPModel(toy.config, specs))
    return calc.describe(molecule("H2O"))["notes"]


def test_what_a_head_was_trained_on_is_told() -> None:
    assert "head 'organic' was trained on three waters" in notes("three waters")


def test_nothing_is_told_where_nothing_is_recorded() -> None:
    assert not [note for note in notes("") if "was trained on" in note]


def test_a_head_whose_elements_are_not_recorded_says_so() -> None:
    toy = MODELS["smooth"]()
    bare = [replace(spec, elements=(), references=None) for spec in toy.heads.values()]
    calc = JMPCalculator(JMPModel(toy.config, bare), head="slabs")
    found = " ".join(calc.describe(molecule("H2O"))["notes"])
    assert "do not say which elements head 'slabs' was trained on" in found


def test_stress_is_not_talked_about_where_there_is_none() -> None:
    calc = JMPCalculator(MODELS["published"](), head="ani1x")
    found = " ".join(calc.describe(molecule("H2O"))["notes"])
    assert "direct forces are not the gradient" in found
    assert "stress" not in found
