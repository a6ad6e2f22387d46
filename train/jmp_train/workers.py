"""Workers: processes that do independent jobs; stopped and ended with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Any, TypeVar

from jmp_calc.errors import ArgumentError, DataError

Job = TypeVar("Job")
Result = TypeVar("Result")

_POLL_SECONDS = 0.2
BEATS_PER_COUNT = 64
"""Beats between two looks at the count and at whether to stop, by default."""


class StoppedError(Exception):
    """The job was asked to stop; nobody but its own process hears of it."""


Pulse = Callable[[], None]
"""What a job calls for each record: counts it, and raises if the job is to stop."""

Function = Callable[[Any, Job, Pulse], Result]
"""A job: what all jobs share, this job, and what to call for each record."""


def available_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Runs jobs in several processes, or in this one.

    Use as a context manager. Processes are spawned, because threads and open files of
    the caller do not survive a fork. Each gets what the jobs share once.
    """

    def __init__(
        self,
        processes: int,
        shared: Any,
        *,
        on_count: Callable[[int], None] = lambda _n: None,
        beats_per_count: int = BEATS_PER_COUNT,
    ) -> None:
        """Start nothing yet.

        Args:
            processes: How many; 1: this process does the jobs itself.
            shared: What every job is given; it can be pickled.
            on_count: Called now and then with the records counted so far; what it
                raises stops all jobs.
            beats_per_count: Records between two looks of a job at whether to stop.

        Raises:
            ArgumentError: If there is no process.
        """
        if processes < 1:
            raise ArgumentError(f"processes is {processes}; it must be at least 1")
        self.processes = processes
        self._shared = shared
        self._on_count = on_count
        self._beats = beats_per_count
        self._n_here = 0
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.processes > 1:
            context = multiprocessing.get_context("spawn")
            self._stop = context.Event()
            self._count = context.Value("q", 0)
            self._pool = ProcessPoolExecutor(
                self.processes,
                mp_context=context,
                initializer=_start,
                initargs=(self._shared, self._stop, self._count, self._beats),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            if kind is not None:
                self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def run(
        self, function: Function[Job, Result], jobs: Sequence[Job]
    ) -> Iterator[Result]:
        """Yield the results of jobs as they are done.

        Args:
            function: A function of a module; it is found again in other processes.
            jobs: Its arguments, in the order in which they begin.

        Raises:
            DataError: If a process died.
        """
        if self._pool is None:
            for job in jobs:
                yield function(self._shared, job, self._beat_here)
                self._on_count(self._n_here)
            return
        waiting: set[Future[Result]] = {
            self._pool.submit(_do, function, job) for job in jobs
        }
        while waiting:
            done, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
            self._on_count(self._count.value)
            for future in done:
                yield _result(future)

    def _beat_here(self) -> None:
        self._n_here += 1
        if self._n_here % self._beats == 0:
            self._on_count(self._n_here)


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise DataError(
            "a process died, perhaps for lack of memory; run this again with fewer "
            "processes"
        ) from None


class _Worker:
    """What a process of the pool knows."""

    shared: Any
    stop: Event
    count: Any
    beats = BEATS_PER_COUNT
    n_since = 0

    @classmethod
    def beat(cls) -> None:
        cls.n_since += 1
        if cls.n_since >= cls.beats:
            cls.report()

    @classmethod
    def report(cls) -> None:
        with cls.count.get_lock():
            cls.count.value += cls.n_since
        cls.n_since = 0
        if cls.stop.is_set():
            raise StoppedError


def _start(shared: Any, stop: Event, count: Any, beats: int) -> None:
    # Ctrl-C reaches all processes of a terminal; the parent decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _Worker.shared, _Worker.stop, _Worker.count = shared, stop, count
    _Worker.beats = beats
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _do(function: Function[Job, Result], job: Job) -> Result:
    result = function(_Worker.shared, job, _Worker.beat)
    _Worker.report()
    return result
