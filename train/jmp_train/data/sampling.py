"""New geometries from given ones, each from a seed of its own.

What is made of a structure depends on the structure, its number, the kind and the seed,
and on nothing else (complexes: also on the other structures), so that any division of
the work gives the same geometries.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

import numpy as np
from ase import Atoms

from jmp_calc.calculator.named import CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.kinds import MAKERS
from jmp_train.data.kinds.complexes import n_partners
from jmp_train.data.kinds.geometry import Making, bare
from jmp_train.data.label_workers import start_worker
from jmp_train.data.sampling_settings import NEED_CALCULATOR, SamplingSettings

Failed = Callable[[int, str], None]
"""Called with the number of a structure and why it gave fewer geometries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What comes of one structure."""

    number: int
    """Number of the structure."""
    geometries: list[Atoms]
    """The geometries."""
    reason: str
    """Why they are fewer than asked for; empty: they are not."""


_Job = tuple[int, Atoms, SamplingSettings, CalculatorChoice | None, tuple[Atoms, ...]]
_AHEAD = 4
"""Structures for each process that may wait to be written."""


def sample_geometries(
    structures: Sequence[Atoms],
    settings: SamplingSettings,
    *,
    calculator: CalculatorChoice | None = None,
    processes: int = 1,
    on_failure: Failed | None = None,
) -> Iterator[Atoms]:
    """Yield new geometries of each structure, in order.

    ``atoms.info`` says where each comes from: ``group`` (the starting structure, so
    that splits can keep its geometries together), ``origin`` (the kind), and what was
    done. Labels of the structures are not carried over.

    Args:
        structures: Where to start from.
        settings: Kind and number of geometries.
        calculator: Forces, for the kinds ``NEED_CALCULATOR``; others need none.
        processes: Structures that are worked on at the same time.
        on_failure: Hears of a structure that gave fewer geometries than asked for,
            after those that it gave; None: that is an error.

    Raises:
        ArgumentError: If a kind that needs a calculator has none.
        DataError: If a structure has no bond to stretch, no cell to strain and so on,
            no geometry without overlapping atoms is found, or the calculator fails.
    """
    for made in sample_each(
        structures, settings, calculator=calculator, processes=processes
    ):
        yield from made.geometries
        if made.reason and on_failure is None:
            raise DataError(f"structure {made.number}: {made.reason}")
        if made.reason and on_failure is not None:
            on_failure(made.number, made.reason)


def sample_each(
    structures: Sequence[Atoms],
    settings: SamplingSettings,
    *,
    calculator: CalculatorChoice | None = None,
    processes: int = 1,
    first: int = 0,
) -> Iterator[Made]:
    """Yield what comes of each structure, in order, as :func:`sample_geometries`.

    Args:
        structures: Where to start from.
        settings: Kind and number of geometries.
        calculator: Forces, for the kinds ``NEED_CALCULATOR``; others need none.
        processes: Structures that are worked on at the same time.
        first: Number of the first structure that is worked on; it gives what it gives
            after those before it.

    Raises:
        ArgumentError: If a kind that needs a calculator has none.
        DataError: If a process dies.
    """
    if settings.kind in NEED_CALCULATOR:
        if calculator is None:
            raise ArgumentError(
                f"the kind {settings.kind!r} needs a calculator (--calculator)"
            )
        calculator.build()  # a wrong one stops here, and not at every structure
    jobs: Iterator[_Job] = (
        (number, atoms, settings, calculator, _partners(number, structures, settings))
        for number, atoms in islice(enumerate(structures), first, None)
    )
    n_processes = min(processes, len(structures) - first)
    results = map(_made, jobs) if n_processes <= 1 else _pooled(jobs, n_processes)
    yield from results


def _partners(
    number: int, structures: Sequence[Atoms], settings: SamplingSettings
) -> tuple[Atoms, ...]:
    """Return what stands beside a structure in its complexes."""
    if settings.kind != "complex" or settings.same:
        return ()
    # the maker draws from [seed, number]; these numbers must not be the same
    generator = np.random.default_rng([settings.seed, number, 1])
    n = n_partners(settings.n, settings.molecules)
    return tuple(structures[i] for i in generator.integers(len(structures), size=n))


def _made(job: _Job) -> Made:
    """Return the geometries of a structure and, if there are too few, why."""
    number, atoms, settings, calculator, partners = job
    generator = np.random.default_rng([settings.seed, number])
    name = f"{atoms.get_chemical_formula()}-{number}"
    group = str(atoms.info.get("group") or name)
    making = Making(
        settings=settings,
        generator=generator,
        calculator=calculator,
        partners=partners,
    )
    start = bare(atoms)
    start.info["group"] = group
    found: list[Atoms] = []
    reason = ""
    try:
        for new in MAKERS[settings.kind](start, making):
            new.info.setdefault("group", group)
            new.info["origin"] = settings.kind
            found.append(new)
    except DataError as error:
        reason = str(error)
    return Made(number=number, geometries=found, reason=reason)


def _pooled(jobs: Iterator[_Job], processes: int) -> Iterator[Made]:
    """Yield what comes of jobs in order; few wait, so that memory is bounded."""
    # here, because the processes need not spend the time that its package takes
    from jmp_train.workers import available_cores

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pool = ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=start_worker,
        initargs=(theirs, processes, available_cores()),
    )
    try:
        waiting: deque[Future[Made]] = deque(
            pool.submit(_made, job) for job in islice(jobs, _AHEAD * processes)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_made, job) for job in islice(jobs, 1))
    except BrokenProcessPool:
        raise DataError(
            "a process died while it made geometries, for lack of memory or because "
            "the calculator crashed; run this again with fewer --processes"
        ) from None
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()
