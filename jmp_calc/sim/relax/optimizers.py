"""Optimizers by name; apart, because ASE's bring scipy along."""

from __future__ import annotations

from collections.abc import Callable

from ase.optimize import BFGS, FIRE, LBFGS
from ase.optimize.optimize import Optimizer

OPTIMIZER_CLASSES: dict[str, Callable[..., Optimizer]] = {
    "lbfgs": LBFGS,
    "bfgs": BFGS,
    "fire": FIRE,
}
"""Optimizers of ASE by the names in ``settings.OPTIMIZERS``."""
