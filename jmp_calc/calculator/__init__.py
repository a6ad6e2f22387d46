"""JMPCalculator and Predictor, what they decide (head, domain, tags), and how."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmp_calc.calculator.ase_calculator import JMPCalculator as JMPCalculator
    from jmp_calc.calculator.prediction import Predictor as Predictor
    from jmp_calc.calculator.prediction import Quantity as Quantity

# Imported when first used: readers of data guess tags and domains without torch.
_HOME = {
    "JMPCalculator": "jmp_calc.calculator.ase_calculator",
    "Predictor": "jmp_calc.calculator.prediction",
    "Quantity": "jmp_calc.calculator.prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'jmp_calc.calculator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
