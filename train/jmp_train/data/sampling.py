"""New geometries from given ones, each from a seed of its own.

What is made of a structure depends on the structure, its number, the kind and the seed,
and on nothing else, so that any division of the work gives the same geometries.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jmp_calc.calculator.named import (
    ELECTRON_KEYS,
    CalculatorChoice,
    set_electrons,
)
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.units import FS, KB
from jmp_train.data.label_workers import end_with
from jmp_train.data.sampling_settings import SamplingSettings

TRIES = 50
"""How often a geometry with atoms too close is drawn again."""
STRETCHES = (0.7, 1.8)
"""Smallest and largest factor of a bond."""
BOND_FACTOR = 1.2
"""Atoms are bonded within this multiple of the sum of their covalent radii."""

Maker = Callable[
    [Atoms, SamplingSettings, np.random.Generator, CalculatorChoice | None],
    Iterator[Atoms],
]
Failed = Callable[[int, str], None]
"""Called with the number of a structure and why it gave fewer geometries."""

_Job = tuple[int, Atoms, SamplingSettings, CalculatorChoice | None]
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
        calculator: Forces of ``md``; other kinds need none.
        processes: Structures that are worked on at the same time.
        on_failure: Hears of a structure that gave fewer geometries than asked for,
            after those that it gave; None: that is an error.

    Raises:
        ArgumentError: If ``md`` has no calculator.
        DataError: If a structure has no bond to stretch or no cell to strain, no
            geometry without overlapping atoms is found, or the calculator fails.
    """
    if settings.kind == "md":
        if calculator is None:
            raise ArgumentError("molecular dynamics needs a calculator (--calculator)")
        calculator.build()  # a wrong one stops here, and not at every structure
    jobs = (
        (number, atoms, settings, calculator) for number, atoms in enumerate(structures)
    )
    n_processes = min(processes, len(structures))
    results = map(_geometries, jobs) if n_processes <= 1 else _pooled(jobs, n_processes)
    for number, found in enumerate(results):
        for new in found:
            if isinstance(new, Atoms):
                yield new
            elif on_failure is None:
                raise DataError(f"structure {number}: {new}")
            else:
                on_failure(number, new)


def _geometries(job: _Job) -> Iterator[Atoms | str]:
    """Yield the geometries of a structure and, if there are too few, why."""
    number, atoms, settings, calculator = job
    generator = np.random.default_rng([settings.seed, number])
    name = f"{atoms.get_chemical_formula()}-{number}"
    group = str(atoms.info.get("group") or name)
    try:
        bare = _bare(atoms)
        for new in MAKERS[settings.kind](bare, settings, generator, calculator):
            new.info["group"] = group
            new.info["origin"] = settings.kind
            yield new
    except DataError as error:
        yield str(error)


def _all_geometries(job: _Job) -> list[Atoms | str]:
    return list(_geometries(job))


def _pooled(jobs: Iterator[_Job], processes: int) -> Iterator[list[Atoms | str]]:
    """Yield what comes of jobs in order; few wait, so that memory is bounded."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pool = ProcessPoolExecutor(
        processes, mp_context=context, initializer=end_with, initargs=(theirs,)
    )
    try:
        waiting: deque[Future[list[Atoms | str]]] = deque(
            pool.submit(_all_geometries, job)
            for job in islice(jobs, _AHEAD * processes)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_all_geometries, job) for job in islice(jobs, 1))
    except BrokenProcessPool:
        raise DataError(
            "a process died while it made geometries, for lack of memory or because "
            "the calculator crashed; run this again with fewer --processes"
        ) from None
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _bare(atoms: Atoms) -> Atoms:
    """Return a copy without labels and constraints."""
    copy = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        tags=atoms.get_tags(),
    )
    for key in ELECTRON_KEYS:
        if key in atoms.info:
            copy.info[key] = atoms.info[key]
    return copy


def overlap(atoms: Atoms) -> float:
    """Return the smallest distance of two atoms over the sum of their covalent radii.

    Infinity if there is no pair.

    Args:
        atoms: Any structure; periodic images count.
    """
    radius = covalent_radii[atoms.numbers]
    reach = 2.0 * float(radius.max())
    first, second, distance = neighbor_list("ijd", atoms, reach)
    if not len(first):
        return float("inf")
    return float((distance / (radius[first] + radius[second])).min())


def _drawn(
    draw: Callable[[], Atoms], n: int, *, min_distance: float
) -> Iterator[Atoms]:
    """Yield n drawn geometries whose atoms do not overlap."""
    for _ in range(n):
        for _try in range(TRIES):
            atoms = draw()
            if overlap(atoms) >= min_distance:
                yield atoms
                break
        else:
            raise DataError(
                f"no geometry without overlapping atoms in {TRIES} tries; make the "
                "amplitude, strain or min_distance smaller"
            )


def _perturbed(
    atoms: Atoms,
    settings: SamplingSettings,
    generator: np.random.Generator,
    _calculator: CalculatorChoice | None,
) -> Iterator[Atoms]:
    def draw() -> Atoms:
        new: Atoms = atoms.copy()
        size = settings.amplitude * generator.uniform(0.1, 1.0)
        new.positions += generator.normal(0.0, size, new.positions.shape)
        new.info["amplitude_A"] = round(float(size), 6)
        return new

    yield from _drawn(draw, settings.n, min_distance=settings.min_distance)


def _stretched(
    atoms: Atoms,
    settings: SamplingSettings,
    generator: np.random.Generator,
    _calculator: CalculatorChoice | None,
) -> Iterator[Atoms]:
    bonds = _bonds(atoms)
    if not bonds:
        raise DataError(
            f"{atoms.get_chemical_formula()} has no bond that divides it in two parts, "
            "so none can be stretched"
        )

    def draw() -> Atoms:
        first, second, moved = bonds[generator.integers(len(bonds))]
        factor = float(generator.uniform(*STRETCHES))
        new: Atoms = atoms.copy()
        vector = get_distances(
            new.positions[first], new.positions[second], cell=new.cell, pbc=new.pbc
        )[0][0, 0]
        new.positions[moved] += (factor - 1.0) * vector
        new.info["stretch"] = round(factor, 6)
        new.info["bond"] = [int(first), int(second)]
        return new

    # a bond shortened to 0.7 is allowed to be closer than other pairs
    limit = min(settings.min_distance, STRETCHES[0] / BOND_FACTOR)
    yield from _drawn(draw, settings.n, min_distance=limit)


def _bonds(atoms: Atoms) -> list[tuple[int, int, list[int]]]:
    """Return bonds that divide a part of the structure, and the atoms behind each."""
    cutoffs = natural_cutoffs(atoms, mult=BOND_FACTOR)
    first, second = neighbor_list("ij", atoms, cutoffs)
    ends = zip(first.tolist(), second.tolist(), strict=True)
    times = Counter((i, j) for i, j in ends if i < j)
    # a pair that is bonded through several images of the cell is held by the others
    pairs = sorted(times)
    n = len(atoms)
    found = []
    for pair in pairs:
        others = [other for other in pairs if other != pair]
        rows = [i for i, _ in others]
        columns = [j for _, j in others]
        graph = coo_matrix((np.ones(len(others)), (rows, columns)), shape=(n, n))
        label = connected_components(graph, directed=False)[1]
        if times[pair] == 1 and label[pair[0]] != label[pair[1]]:
            moved = np.flatnonzero(label == label[pair[1]]).tolist()
            found.append((*pair, moved))
    return found


def _strained(
    atoms: Atoms,
    settings: SamplingSettings,
    generator: np.random.Generator,
    _calculator: CalculatorChoice | None,
) -> Iterator[Atoms]:
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise DataError(
            f"{atoms.get_chemical_formula()} is not periodic in three directions, so "
            "its cell cannot be strained"
        )

    def draw() -> Atoms:
        new: Atoms = atoms.copy()
        strain = generator.uniform(-settings.strain, settings.strain, (3, 3))
        strain = (strain + strain.T) / 2
        new.set_cell(new.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        new.info["strain"] = [
            round(float(strain[i, j]), 6)
            for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
        ]
        return new

    yield from _drawn(draw, settings.n, min_distance=settings.min_distance)


def _simulated(
    atoms: Atoms,
    settings: SamplingSettings,
    generator: np.random.Generator,
    calculator: CalculatorChoice | None,
) -> Iterator[Atoms]:
    from ase.md.langevin import Langevin

    if calculator is None:
        raise ArgumentError("molecular dynamics needs a calculator (--calculator)")
    atoms = atoms.copy()
    set_electrons(atoms, calculator)
    # A new one, because what a calculator remembers of the structure before changes
    # forces in the last digits, and with them where dynamics leads.
    potential = calculator.build()
    temperatures = settings.temperature_K
    per_run = -(-settings.n // len(temperatures))
    n_steps = max(1, round(settings.spacing_fs / settings.timestep_fs))
    left = settings.n
    for temperature in temperatures:
        moving = atoms.copy()
        spread = np.sqrt(moving.get_masses() * KB * temperature)[:, None]
        moving.set_momenta(spread * generator.normal(size=(len(moving), 3)))
        dynamics = Langevin(
            moving,
            settings.timestep_fs * FS,
            temperature_K=temperature,
            friction=0.02 / FS,
            fixcm=False,
            rng=generator,
        )
        for frame in range(1, min(per_run, left) + 1):
            try:
                moving.calc = potential
                dynamics.run(n_steps)
            except Exception as error:  # a calculator may raise anything
                raise DataError(
                    f"the calculator failed after {(frame - 1) * n_steps} steps or "
                    f"more at {temperature:g} K: {type(error).__name__}: {error}"
                ) from error
            is_finite = bool(np.isfinite(moving.positions).all())
            if not is_finite or overlap(moving) < settings.min_distance:
                raise DataError(
                    f"the simulation of {atoms.get_chemical_formula()} at "
                    f"{temperature:g} K brings atoms too close after "
                    f"{frame * settings.spacing_fs:g} fs; make the temperature or the "
                    "time step smaller"
                )
            new = _bare(moving)
            new.info["temperature_K"] = float(temperature)
            new.info["time_fs"] = frame * n_steps * settings.timestep_fs
            yield new
        left -= min(per_run, left)


MAKERS: dict[str, Maker] = {
    "perturb": _perturbed,
    "md": _simulated,
    "stretch": _stretched,
    "strain": _strained,
}
"""What makes each kind of geometry, in the order of ``KINDS``."""
