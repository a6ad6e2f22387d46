"""Many structures at once, with any ASE calculator.

A calculator with a method ``evaluate`` (as :class:`jmp_calc.JMPCalculator`) computes
several structures in one go; others are asked one by one. Simulations that have many
structures at hand (relaxations, displacements, strains, images) go through here, so
that they are batched where the calculator can do it and work with every other one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator, Calculator, CalculatorError

from jmp_calc.errors import ArgumentError, UnsupportedSystemError

Results = dict[str, Any]
"""Properties of one structure by ASE names and in ASE units: ``energy`` (eV, float),
``forces`` (eV/angstrom, atoms x 3), ``stress`` (eV/angstrom^3, Voigt)."""

REFUSALS = (
    UnsupportedSystemError,
    CalculatorError,
    ArithmeticError,
    NotImplementedError,
    ValueError,
)
"""What calculators raise about a structure that they cannot compute."""

_FAILURES = (AssertionError, LookupError, RuntimeError)
"""What calculators of others raise besides, some for a structure, some for a bug."""


@runtime_checkable
class Evaluator(Protocol):
    """Whatever computes a list of structures."""

    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> Sequence[Results]:
        """Compute structures without changing them.

        Args:
            list_of_atoms: Structures; their constraints do not matter.
            properties: ASE's names of what is wanted.

        Returns:
            One dictionary per structure with at least those properties.
        """


class OneByOne:
    """An evaluator that asks an ASE calculator for one structure after another.

    Args:
        calculator: Any ASE calculator.
    """

    def __init__(self, calculator: BaseCalculator) -> None:
        self._calculator = calculator

    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[Results]:
        """Compute structures without changing them; see :class:`Evaluator`."""
        return [self._one(atoms, properties) for atoms in list_of_atoms]

    def _one(self, atoms: Atoms, properties: Sequence[str]) -> Results:
        # a copy: constraints must not act on the results, nor the calculator on atoms
        system = atoms.copy()
        system.set_constraint()
        found = self._calculator
        try:
            # the stress first: it gives the others as well, or is refused at no cost
            return {
                name: _copied(found.get_property(name, system))
                for name in sorted(properties, key="stress".__ne__)
            }
        except (*REFUSALS, *_FAILURES) as error:
            # ASE's EMT would take what failed for computed, and use it for the next
            if isinstance(found, Calculator):
                found.reset()
            if isinstance(error, REFUSALS):
                raise
            told = f"the calculator failed ({type(error).__name__}: {error})"
            raise UnsupportedSystemError(told) from error


def evaluator_of(calculator: Any) -> Evaluator:
    """Return what computes many structures with a calculator.

    Args:
        calculator: An ASE calculator, or anything with ``evaluate``.

    Raises:
        ArgumentError: If it is neither.
    """
    if isinstance(calculator, Evaluator):
        return calculator
    if callable(getattr(calculator, "get_property", None)):
        return OneByOne(calculator)
    raise ArgumentError(
        f"{calculator!r} is not a calculator; give one of ASE's, such as JMPCalculator"
    )


def met_by(calculator: Any, list_of_atoms: Sequence[Atoms]) -> list[Any]:
    """Let a calculator decide about structures without computing them.

    One with a method ``meet`` (as :class:`jmp_calc.JMPCalculator`) decides something
    when it first meets a structure, and keeps to it while the structure moves.

    Args:
        calculator: As for :func:`evaluator_of`.
        list_of_atoms: Structures.

    Returns:
        For each what was decided, plain data and arrays; None: nothing.
    """
    if not hasattr(calculator, "meet"):
        return [None] * len(list_of_atoms)
    decided: list[Any] = calculator.meet(list_of_atoms)
    return decided


def evaluate_in_chunks(
    calculator: Any,
    list_of_atoms: Sequence[Atoms],
    properties: Sequence[str] = ("energy", "forces"),
    *,
    chunk: int = 64,
) -> Iterator[Results]:
    """Compute many structures, yielding results as they come, for progress bars.

    Args:
        calculator: As for :func:`evaluator_of`.
        list_of_atoms: Structures.
        properties: ASE's names of what is wanted.
        chunk: Structures that the calculator gets at a time; it may split them further.

    Yields:
        One dictionary per structure, in order.

    Raises:
        UnsupportedSystemError: If energy or forces of a structure are not finite.
    """
    evaluator = evaluator_of(calculator)
    for start in range(0, len(list_of_atoms), chunk):
        part = list_of_atoms[start : start + chunk]
        for number, results in enumerate(evaluator.evaluate(part, properties), start):
            for name in properties:
                if not np.all(np.isfinite(results[name])):
                    raise UnsupportedSystemError(
                        f"the {name} of structure {number} is not finite; check that "
                        "the model covers it and that no atoms overlap"
                    )
            yield results


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value


def evaluate_each(
    calculator: Any,
    list_of_atoms: Sequence[Atoms],
    properties: Sequence[str] = ("energy", "forces"),
) -> list[Results | UnsupportedSystemError]:
    """Compute structures so that a bad one does not take the others with it.

    All go to the calculator at once. If it refuses them, each is asked for on its own.

    Args:
        calculator: As for :func:`evaluator_of`.
        list_of_atoms: Structures.
        properties: ASE's names of what is wanted.

    Returns:
        For each structure its results, or the error that says why there are none: the
        calculator refused it, or a result is not finite.
    """
    evaluator = evaluator_of(calculator)
    if not list_of_atoms:
        return []
    try:
        found = evaluator.evaluate(list_of_atoms, properties)
    except REFUSALS as error:
        if len(list_of_atoms) == 1:
            return [_refusal(error)]
        return [
            outcome
            for atoms in list_of_atoms
            for outcome in evaluate_each(evaluator, [atoms], properties)
        ]
    return [_checked(results, properties) for results in found]


def _checked(
    results: Results, properties: Sequence[str]
) -> Results | UnsupportedSystemError:
    for name in properties:
        if not np.all(np.isfinite(results[name])):
            return UnsupportedSystemError(f"its {name} came out not finite")
    return results


def _refusal(error: Exception) -> UnsupportedSystemError:
    refusal = UnsupportedSystemError(str(error) or type(error).__name__)
    # without the frames of the traceback, which hold what was computed
    refusal.__cause__ = error.with_traceback(None)
    return refusal
