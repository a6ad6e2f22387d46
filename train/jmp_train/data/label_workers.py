"""Labels of structures, computed by processes that may crash or take too long."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from jmp_calc.errors import DataError
from jmp_train.data.calculators import CalculatorChoice

Found = dict[str, Any]
"""Labels by name, or ``error``: why there are none."""

_CHARGE_KEYS = ("charge",)
_SPIN_KEYS = ("spin", "spin_multiplicity")


def label_all(
    todo: Mapping[str, Atoms],
    choice: CalculatorChoice,
    *,
    processes: int = 1,
    timeout_s: float | None = None,
) -> Iterator[tuple[str, Found]]:
    """Yield the labels of structures, or why they have none, as they come.

    With one process and no limit of time the calling process computes. Otherwise each
    structure goes to a process with a calculator of its own; one that crashes or takes
    too long is ended and replaced, and only its structure fails.

    Args:
        todo: Structures by key.
        choice: The calculator.
        processes: Structures that are computed at the same time.
        timeout_s: Longest time for one structure; None: any.
    """
    if timeout_s is None and (processes <= 1 or len(todo) <= 1):
        calculator = choice.build()
        for key, atoms in todo.items():
            yield key, labels_of(atoms, calculator, choice)
        return
    n_workers = min(processes, len(todo))
    threads = max(1, (os.cpu_count() or 1) // n_workers)
    workers = [
        _Worker(choice, threads=threads, timeout_s=timeout_s) for _ in range(n_workers)
    ]
    jobs = iter(todo.items())
    try:
        for worker in workers:
            worker.take(next(jobs, None))
        while any(worker.key is not None for worker in workers):
            for worker in _ready(workers):
                asked, found = worker.key, worker.result()
                if asked is not None and found is not None:
                    yield asked, found
                    worker.take(next(jobs, None))
    finally:
        for worker in workers:
            worker.stop()


def labels_of(atoms: Atoms, calculator: Calculator, choice: CalculatorChoice) -> Found:
    """Return the labels of a structure, or why it has none.

    Args:
        atoms: The structure; constraints do not change its forces.
        calculator: What computes.
        choice: Which calculator that is.
    """
    atoms = atoms.copy()
    atoms.set_constraint()
    atoms.calc = calculator
    found: Found = {}
    try:
        _set_electrons(atoms, choice)
        calculator.reset()
        found["energy"] = float(atoms.get_potential_energy())
        implemented = getattr(calculator, "implemented_properties", ())
        if "forces" in implemented:
            found["forces"] = atoms.get_forces().tolist()
        if "stress" in implemented and atoms.pbc.all():
            found["stress"] = atoms.get_stress(voigt=False).tolist()
    except Exception as error:  # noqa: BLE001 (a calculator may raise anything)
        calculator.reset()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    if not all(np.isfinite(value).all() for value in found.values()):
        return {"error": "a label is not finite"}
    return found


def _set_electrons(atoms: Atoms, choice: CalculatorChoice) -> None:
    """Hand charge and spin of the structure to a calculator that reads them there.

    They are ``charge`` and ``spin``, the multiplicity, in ``atoms.info``.
    """
    charge = _whole(atoms, _CHARGE_KEYS) or 0
    # A multiplicity of 0 is what some write for "not stated".
    multiplicity = _whole(atoms, _SPIN_KEYS) or 1
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


class _Worker:
    """A process with a calculator, and the structure it is working on."""

    def __init__(
        self, choice: CalculatorChoice, *, threads: int, timeout_s: float | None
    ) -> None:
        self._choice, self._threads = choice, threads
        self._limit = math.inf if timeout_s is None else timeout_s
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._choice, self._threads), daemon=True
        )
        self._process.start()
        other.close()
        self.key: str | None = None
        # to start takes long, and is not the fault of the structure
        self.deadline = math.inf
        self._is_started = False

    def take(self, job: tuple[str, Atoms] | None) -> None:
        self.key = None
        if job is None:
            return
        if not self._process.is_alive():
            self._start()
        self.key = job[0]
        self.connection.send(job[1])
        if self._is_started:
            self.deadline = time.monotonic() + self._limit

    def result(self) -> Found | None:
        """Return what came of the structure; None if only the process has started."""
        try:
            if self.connection.poll():
                found: Found = self.connection.recv()
                if self._is_started:
                    return found
                self._is_started = True
                self.deadline = time.monotonic() + self._limit
                return None
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.stop()
            return {"error": f"the calculator ended its process (exit code {code})"}
        self.stop()
        return {"error": f"no result within {self._limit:g} s"}

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Return busy workers that have a result, have died, or have taken too long."""
    busy = [worker for worker in workers if worker.key is not None]
    left = min(worker.deadline for worker in busy) - time.monotonic()
    timeout = None if left == math.inf else max(left, 0.0)
    done = wait([worker.connection for worker in busy], timeout)
    now = time.monotonic()
    return [w for w in busy if w.connection in done or w.deadline <= now]


def _serve(
    connection: Connection[Any, Any], choice: CalculatorChoice, threads: int
) -> None:
    """Label structures until the other end is closed; runs in a process of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    calculator = choice.build()
    connection.send({})  # ready
    while True:
        try:
            atoms = connection.recv()
        except EOFError:
            return
        connection.send(labels_of(atoms, calculator, choice))
