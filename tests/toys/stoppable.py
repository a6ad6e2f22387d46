"""Calculators that a test can stop at any evaluation; what they give depends on nothing
but the structures."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence

from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT

from jmp_calc.cli import VERBS, main

VERB_MODULES = [place.partition(":")[0] for place, _ in VERBS.values()]


class Stop:
    """When to stop, and how; counts evaluations."""

    n_done = 0
    at: int | None = None
    by = signal.SIGKILL


def reset(at: int | None = None, by: signal.Signals = signal.SIGKILL) -> None:
    """Count from zero, and stop in the evaluation of that number."""
    Stop.n_done, Stop.at, Stop.by = 0, at, by


def killed(at: int, *words: str) -> int:
    """Call ``jmp-md`` in a process of its own; return its exit code, minus a signal."""
    # not a fork of this process, whose libraries may have threads by now
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *VERB_MODULES])
    child = context.Process(target=_killed, args=(at, words))
    child.start()
    child.join(60)
    code = child.exitcode
    child.close()
    assert code is not None
    return code


def _killed(at: int, words: tuple[str, ...]) -> None:
    reset(at)
    raise SystemExit(main(words))


class _FreshEMT(EMT):
    """EMT that forgets its list of neighbours, whose order is that of the sums."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if Stop.n_done == Stop.at:
            os.kill(os.getpid(), Stop.by)
        super().calculate(atoms, list(properties), all_changes)
        Stop.n_done += 1


class _Batches(_FreshEMT):
    """Computes lists; the last digits depend on how long they are, as in a network."""

    def evaluate(self, list_of_atoms, properties: Sequence[str] = ("energy", "forces")):
        frames = [atoms.copy() for atoms in list_of_atoms]
        noise = 1 + 1e-13 * len(frames)
        results = []
        for atoms in frames:
            atoms.set_constraint()
            found = {
                name: self.get_property(name, atoms) * noise for name in properties
            }
            results.append({"batch": len(frames), **found})
        return results


def one_by_one() -> EMT:
    """A calculator that knows nothing of lists."""
    return _FreshEMT()


def in_batches() -> EMT:
    """A calculator that computes lists."""
    return _Batches()
