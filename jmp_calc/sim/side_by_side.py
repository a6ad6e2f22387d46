"""Relaxations as a step of other work: many at once, in memory, nothing written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.constraints import FixAtoms

from jmp_calc.errors import UnsupportedSystemError
from jmp_calc.sim.evaluation import (
    REFUSALS,
    Results,
    evaluate_each,
    evaluate_in_chunks,
    evaluator_of,
)
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.walker import Walker, is_all_fixed


@dataclass(frozen=True, kw_only=True, slots=True)
class Relaxed:
    """Where one relaxation ended."""

    atoms: Atoms
    """Last geometry, with its results."""
    energy: float
    """Its potential energy, eV."""
    max_force_eV_per_A: float
    """Length of the largest force on an atom, eV/angstrom; constraints applied, unless
    they hold every atom."""
    n_steps: int
    """Steps that were made."""
    is_converged: bool
    """Whether forces and stress are within the limits."""


def compute_together(
    systems: Sequence[Atoms],
    properties: Sequence[str],
    calculator: Any,
    *,
    chunk: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[Results]:
    """Compute structures of which none can be done without.

    Args:
        systems: Structures; their constraints do not matter.
        properties: ASE's names of what is wanted.
        calculator: An ASE calculator, or anything with ``evaluate``.
        chunk: Structures that it gets at a time; it may split them further.
        progress: Called with the structures done and their number.

    Returns:
        One dictionary per structure, in order.

    Raises:
        UnsupportedSystemError: If the calculator refuses a structure, or a result is
            not finite.
    """
    found: list[Results] = []
    try:
        for results in evaluate_in_chunks(calculator, systems, properties, chunk=chunk):
            found.append(results)
            if progress is not None:
                progress(len(found), len(systems))
    except UnsupportedSystemError:
        raise
    except REFUSALS as error:
        raise UnsupportedSystemError(str(error) or type(error).__name__) from error
    return found


def relax_together(
    systems: Sequence[Atoms],
    settings: RelaxSettings,
    calculator: Any,
    *,
    names: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> list[Relaxed]:
    """Relax structures side by side, so that the calculator gets them at once.

    Args:
        systems: Starts; not changed. Their constraints are kept.
        settings: What to do; ``steps=0`` cannot be, but a structure in which nothing
            can move is only computed.
        calculator: An ASE calculator, or anything with ``evaluate``.
        names: What to call each structure in an error.
        progress: Called after every round with the structures that are done and the
            rounds.

    Returns:
        One outcome per structure, in order.

    Raises:
        UnsupportedSystemError: If a structure is refused or leaves the physical range.
    """
    found = _relax(systems, settings, calculator, names, progress, needs_all=True)
    # an error would have been raised
    return [outcome for outcome in found if isinstance(outcome, Relaxed)]


def relax_each(
    systems: Sequence[Atoms],
    settings: RelaxSettings,
    calculator: Any,
    *,
    names: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> list[Relaxed | UnsupportedSystemError]:
    """Relax structures side by side; a bad one does not take the others with it.

    Args:
        systems: As for :func:`relax_together`, as are the others.
        settings: What to do.
        calculator: What computes.
        names: What to call each structure in an error.
        progress: Called after every round.

    Returns:
        One outcome per structure, in order: how its relaxation ended, or the error that
        says why it could not go on.
    """
    return _relax(systems, settings, calculator, names, progress, needs_all=False)


def _relax(
    systems: Sequence[Atoms],
    settings: RelaxSettings,
    calculator: Any,
    names: Sequence[str],
    progress: Callable[[int, int], None] | None,
    *,
    needs_all: bool,
) -> list[Relaxed | UnsupportedSystemError]:
    """Relax structures; the first bad one ends that if all are needed."""
    evaluator = evaluator_of(calculator)
    walkers = [_walker(atoms, settings) for atoms in systems]
    active = list(range(len(walkers)))
    is_still = [is_all_fixed(atoms) and not settings.has_cell for atoms in systems]
    failed: dict[int, UnsupportedSystemError] = {}
    for n_rounds in range(settings.steps + 1):
        found = evaluate_each(
            evaluator, [walkers[n].system for n in active], settings.properties
        )
        for n, results in zip(tuple(active), found, strict=True):
            try:
                with _named(names[n]):
                    is_done = _take(walkers[n], results) or is_still[n]
                    if not is_done and n_rounds < settings.steps:
                        walkers[n].advance()
            except UnsupportedSystemError as error:
                if needs_all:
                    raise
                failed[n] = error
                is_done = True
            if is_done:
                active.remove(n)
        if progress is not None:
            progress(len(walkers) - len(active), n_rounds + 1)
        if not active:
            break
    return [
        failed[n] if n in failed else _relaxed(walker, is_still=is_still[n])
        for n, walker in enumerate(walkers)
    ]


def _take(walker: Walker, results: Results | UnsupportedSystemError) -> bool:
    """Give a walker what was computed, and return whether it has converged."""
    if isinstance(results, UnsupportedSystemError):
        raise results
    walker.take(results)
    return walker.is_converged


def hold_all(atoms: Atoms) -> Atoms:
    """Return a copy in which no atom may move.

    Args:
        atoms: Any structure.
    """
    held: Atoms = atoms.copy()
    held.set_constraint(FixAtoms(indices=range(len(held))))
    return held


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in an error which structure it is about."""
    try:
        yield
    except UnsupportedSystemError as error:
        raise UnsupportedSystemError(f"{name}: {error}") from error


def _walker(atoms: Atoms, settings: RelaxSettings) -> Walker:
    if is_all_fixed(atoms) and not settings.has_cell:
        # a walker refuses what cannot move; here it is computed all the same
        free = atoms.copy()
        free.set_constraint()
        return Walker("", free, settings)
    return Walker("", atoms, settings)


def _relaxed(walker: Walker, *, is_still: bool) -> Relaxed:
    last = walker.steps[-1]
    assert walker.last is not None
    return Relaxed(
        atoms=walker.last,
        energy=last.energy_eV,
        max_force_eV_per_A=last.max_force_eV_per_A,
        n_steps=last.step,
        is_converged=is_still or walker.is_converged,
    )
