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
