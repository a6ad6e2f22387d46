"""Calculators of ASE by name: emt, tblite, our weights, or anybody's factory."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from jmp_calc.errors import ArgumentError, DataError, JMPError
from jmp_calc.files import file_hash

ELECTRON_KEYS = ("charge", "spin", "spin_multiplicity")
"""Entries of ``atoms.info`` that state charge (e) and multiplicity."""
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
        except JMPError:
            raise
        except Exception as error:  # a factory may raise anything
            raise ArgumentError(
                f"calculator {self.name!r} cannot be made with the options "
                f"{dict(self.options)}: {type(error).__name__}: {error}"
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
    def identity(self) -> str:
        """What tells it from other calculators; weights count with their content."""
        path = Path(self.name)
        content = file_hash(path) if path.is_file() else ""
        return repr((self.name, sorted(self.options.items()), content))

    @property
    def level_of_theory(self) -> str:
        """What made the labels, in words."""
        rest = dict(self.options)
        name = self.name
        if name == "tblite":
            name = str(rest.pop("method", XTB_METHOD))
        options = ", ".join(f"{k}={v}" for k, v in sorted(rest.items()))
        return f"{name} ({options})" if options else name

    def describe(self, atoms: Atoms) -> dict[str, Any]:
        """Return what a structure is computed with, as ``JMPCalculator.describe``.

        Args:
            atoms: The structure.
        """
        stated = _stated_electrons(atoms)
        note = (
            f"atoms.info has {stated}, which {self.name} does not read there: give "
            "initial charges and magnetic moments of the atoms"
        )
        has_own = any(
            atoms.has(name) for name in ("initial_charges", "initial_magmoms")
        )
        return {
            "model": self.name,
            "head": None,
            "level_of_theory": self.level_of_theory,
            "forces": "those of the calculator",
            # nobody can ask it; nearly all differentiate their energy
            "is_conservative": True,
            "neighbor_cap": None,
            "weights_sha256": None,
            "licence": None,
            "notes": [note] if stated and not has_own else [],
        }


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

        class Fresh(TBLite):
            """Starts from no density of the structure before.

            Labels would depend on the order of structures, and work that goes on after
            a stop on where that was.
            """

            def calculate(
                self,
                atoms: Atoms | None = None,
                properties: list[str] | None = None,
                system_changes: list[str] = all_changes,  # noqa: ARG002 (ASE's)
            ) -> None:
                # cache_api=False would do it only if ASE still called reset()
                super().calculate(atoms, properties, all_changes)

        fixed = {"method": XTB_METHOD, "verbosity": 0, "cache_api": False}
        return lambda **options: Fresh(**{**fixed, **options})
    if is_factory(name):
        module, _, function = name.partition(":")
        try:
            found: Any = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ArgumentError(
                f"calculator {name!r} cannot be imported ({error}); give "
                "module:function, with the module on PYTHONPATH"
            ) from error
        if not callable(found):
            raise ArgumentError(
                f"calculator {name!r} is not a function; give module:function that "
                "returns an ASE calculator"
            )
        return found  # type: ignore[no-any-return]  # checked
    from jmp_calc.calculator import JMPCalculator

    return lambda **options: JMPCalculator(name, **options)


def set_electrons(atoms: Atoms, choice: CalculatorChoice) -> None:
    """Hand charge and spin of the structure to a calculator that reads them there.

    They are ``charge`` and ``spin`` or ``spin_multiplicity``, the multiplicity, in
    ``atoms.info``.

    Args:
        atoms: The structure; gets initial charges and magnetic moments.
        choice: The calculator.

    Raises:
        DataError: If they are impossible, or the calculator does not know them.
    """
    charge = _whole(atoms, ("charge",)) or 0
    # A multiplicity of 0 is what some write for "not stated".
    multiplicity = _whole(atoms, ("spin", "spin_multiplicity")) or 1
    if choice.knows_no_electrons and (charge or multiplicity != 1):
        raise DataError(
            f"the structure has charge {charge} and multiplicity {multiplicity}, which "
            f"calculator {choice.name!r} does not know"
        )
    if charge:
        atoms.set_initial_charges([charge / len(atoms)] * len(atoms))
    if multiplicity != 1:
        moment = (multiplicity - 1) / len(atoms)
        atoms.set_initial_magnetic_moments([moment] * len(atoms))
    if choice.name == "tblite":
        charge = choice.options.get("charge", charge)
        multiplicity = choice.options.get("multiplicity", multiplicity)
        n_electrons = int(atoms.numbers.sum()) - charge
        if (n_electrons + multiplicity) % 2 == 0 or multiplicity > n_electrons + 1:
            raise DataError(
                f"{n_electrons} electrons (charge {charge}) cannot have multiplicity "
                f"{multiplicity}; set charge and spin in the info of the structure"
            )


def _stated_electrons(atoms: Atoms) -> str:
    """Return charge and multiplicity in ``atoms.info`` that are not trivial, or ""."""
    return " and ".join(
        f"{key} {value}"
        for key in ELECTRON_KEYS
        if (value := atoms.info.get(key)) is not None
        and str(value) not in ("0", "0.0", *(() if key == "charge" else ("1", "1.0")))
    )


def _whole(atoms: Atoms, keys: tuple[str, ...]) -> int | None:
    key = next((key for key in keys if atoms.info.get(key) is not None), None)
    if key is None:
        return None
    value = atoms.info[key]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        raise DataError(f"{key} of the structure is {value!r}, not a whole number")
    return int(number)
