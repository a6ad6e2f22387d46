"""Calculators on tiny models of both kinds."""

from __future__ import annotations

import pytest

from jmp_calc.calculator import JMPCalculator
from toys.models import published_model, smooth_model


@pytest.fixture
def smooth() -> JMPCalculator:
    return JMPCalculator(smooth_model(), dtype="float64")


@pytest.fixture
def published() -> JMPCalculator:
    return JMPCalculator(published_model(), dtype="float64")
