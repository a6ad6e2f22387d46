"""Labels of structures, computed by processes that may crash or take too long."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from jmp_calc.calculator.named import CalculatorChoice, set_electrons
from jmp_calc.errors import ArgumentError

Found = dict[str, Any]
"""Labels by name, or ``error``: why there are none."""


def label_all(
    todo: Mapping[str, Atoms],
    choice: CalculatorChoice,
    *,
    processes: int = 0,
    timeout_s: float | None = None,
) -> Iterator[tuple[str, Found]]:
    """Yield the labels of structures, or why they have none, as they come.

    Each structure goes to a process with a calculator of its own; one that crashes or
    takes too long is ended and replaced, and only its structure fails. Without
    processes the calling one computes, which a crash of the calculator ends.

    Args:
        todo: Structures by key.
        choice: The calculator.
        processes: Structures that are computed at the same time; 0: one after the
            other in the calling process.
        timeout_s: Longest time for one structure; None: any. Needs a process.

    Raises:
        ArgumentError: If a process ends before its calculator is ready, or there is a
            limit of time without processes.
    """
    if not todo:
        return
    if processes < 1:
        if timeout_s is not None:
            raise ArgumentError("a limit of time needs a process; give processes=1")
        calculator = choice.build()
        for key, atoms in todo.items():
            yield key, labels_of(atoms, calculator, choice)
        return
    # here, because the processes need not spend the time that its package takes
    from jmp_train.workers import available_cores

    n_workers = min(processes, len(todo))
    threads = max(1, available_cores() // n_workers)
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
    found: Found = {}
    try:
        set_electrons(atoms, choice)
        calculator.reset()
        atoms.calc = calculator
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
            if not self._is_started:
                raise ArgumentError(
                    "a process ended before its calculator was ready (exit code "
                    f"{code}); is there memory for so many --processes?"
                ) from None
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


def end_with(other: Connection[Any, Any] | int) -> None:
    """Let this process end when the other end of a pipe is closed, busy or not.

    Ctrl-C, which goes to all processes of a terminal, does nothing here: the one that
    writes decides what is kept.

    Args:
        other: Our end of the pipe, on which nothing is sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        wait([other])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start_worker(
    other: Connection[Any, Any] | int, n_workers: int, n_cores: int
) -> None:
    """Prepare a process that makes geometries.

    Args:
        other: See :func:`end_with`.
        n_workers: Processes that share the cores.
        n_cores: The cores.
    """
    # before a calculator is imported, which would take all cores in each process
    threads = max(1, n_cores // n_workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    end_with(other)


def _serve(
    connection: Connection[Any, Any], choice: CalculatorChoice, threads: int
) -> None:
    """Label structures until the other end is closed; runs in a process of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with(parent.sentinel)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    calculator = choice.build()
    connection.send({})  # ready
    while True:
        try:
            atoms = connection.recv()
        except EOFError:
            return
        connection.send(labels_of(atoms, calculator, choice))
