"""Calculators of ASE by name: emt, tblite, our weights, or anybody's factory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator

from jmp_calc.errors import ArgumentError

XTB_METHOD = "GFN2-xTB"
"""Method of tblite unless another is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalculatorChoice:
    """Which calculator labels, so that each process can make its own."""

    name: str
    """``tblite``, ``emt``, ``module:function``, or weights for ``JMPCalculator``."""
    options: Mapping[str, Any]
    """Keywords of the calculator."""

    def build(self) -> Calculator:
        """Return a new calculator.

        Raises:
            ArgumentError: If it is not installed, not found, or refuses its keywords.
        """
        try:
            calculator = _factory(self.name)(**self.options)
        except TypeError as error:
            raise ArgumentError(
                f"calculator {self.name!r} does not take the options "
                f"{dict(self.options)}: {error}"
            ) from error
        if not callable(getattr(calculator, "get_potential_energy", None)):
            raise ArgumentError(
                f"{self.name!r} gave {calculator!r}, which is not an ASE calculator"
            )
        return calculator  # type: ignore[no-any-return]  # checked

    @property
    def knows_no_electrons(self) -> bool:
        """Whether charge and spin of a structure mean nothing to it."""
        return self.name == "emt" or not (
            self.name == "tblite" or is_factory(self.name)
        )

    @property
    def level_of_theory(self) -> str:
        """What made the labels, in words."""
        rest = dict(self.options)
        name = self.name
        if name == "tblite":
            name = str(rest.pop("method", XTB_METHOD))
        options = ", ".join(f"{k}={v}" for k, v in sorted(rest.items()))
        return f"{name} ({options})" if options else name


def is_factory(name: str) -> bool:
    """Return whether a name means ``module:function``.

    Args:
        name: As given by the user.
    """
    return ":" in name and not Path(name).exists()


def _factory(name: str) -> Callable[..., Any]:
    if name == "emt":
        from ase.calculators.emt import EMT

        return EMT
    if name == "tblite":
        try:
            from tblite.ase import TBLite
        except ModuleNotFoundError as error:
            raise ArgumentError(
                "tblite is not installed; run: pip install 'jmp-calc[xtb]'"
            ) from error
        # A cached object starts from the density of the structure before, and labels
        # would depend on the order.
        fixed = {"method": XTB_METHOD, "verbosity": 0, "cache_api": False}
        return lambda **options: TBLite(**{**fixed, **options})
    if is_factory(name):
        module, _, function = name.partition(":")
        try:
            found: Callable[..., Any] = getattr(
                importlib.import_module(module), function
            )
            return found
        except (ImportError, AttributeError, ValueError) as error:
            raise ArgumentError(
                f"calculator {name!r} cannot be imported ({error}); give "
                "module:function, with the module on PYTHONPATH"
            ) from error
    from jmp_calc.calculator import JMPCalculator

    return lambda **options: JMPCalculator(name, **options)
