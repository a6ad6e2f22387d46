"""New geometries from given ones, each from a seed of its own.

What is made of a structure depends on the structure, its number, the kind and the seed,
and on nothing else, so that any division of the work gives the same geometries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.units import FS, KB
from jmp_train.data.sampling_settings import SamplingSettings

TRIES = 50
"""How often a geometry with atoms too close is drawn again."""
STRETCHES = (0.7, 1.8)
"""Smallest and largest factor of a bond."""
BOND_FACTOR = 1.2
"""Atoms are bonded within this multiple of the sum of their covalent radii."""

Maker = Callable[
    [Atoms, SamplingSettings, np.random.Generator, Calculator | None], Iterator[Atoms]
]


def sample_geometries(
    structures: Iterable[Atoms],
    settings: SamplingSettings,
    *,
    calculator: Calculator | None = None,
) -> Iterator[Atoms]:
    """Yield new geometries of each structure, in order.

    ``atoms.info`` says where each comes from: ``group`` (the starting structure, so
    that splits can keep its geometries together), ``origin`` (the kind), and what was
    done. Labels of the structures are not carried over.

    Args:
        structures: Where to start from.
        settings: Kind and number of geometries.
        calculator: Forces of ``md``; other kinds need none.

    Raises:
        ArgumentError: If ``md`` has no calculator.
        DataError: If a structure has no bond to stretch or no cell to strain, or no
            geometry without overlapping atoms is found.
    """
    if settings.kind == "md" and calculator is None:
        raise ArgumentError("molecular dynamics needs a calculator (--calculator)")
    for number, atoms in enumerate(structures):
        generator = np.random.default_rng([settings.seed, number])
        name = f"{atoms.get_chemical_formula()}-{number}"
        group = str(atoms.info.get("group") or name)
        made = MAKERS[settings.kind](_bare(atoms), settings, generator, calculator)
        try:
            for new in made:
                new.info["group"] = group
                new.info["origin"] = settings.kind
                yield new
        except DataError as error:
            raise DataError(f"structure {number}: {error}") from error


def _bare(atoms: Atoms) -> Atoms:
    """Return a copy without labels and constraints."""
    copy = Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        tags=atoms.get_tags(),
    )
    for key in ("charge", "spin"):
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
    _calculator: Calculator | None,
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
    _calculator: Calculator | None,
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
    pairs = sorted({(i, j) for i, j in ends if i < j})
    n = len(atoms)
    found = []
    for pair in pairs:
        others = [other for other in pairs if other != pair]
        rows = [i for i, _ in others]
        columns = [j for _, j in others]
        graph = coo_matrix((np.ones(len(others)), (rows, columns)), shape=(n, n))
        label = connected_components(graph, directed=False)[1]
        if label[pair[0]] != label[pair[1]]:
            moved = np.flatnonzero(label == label[pair[1]]).tolist()
            found.append((*pair, moved))
    return found


def _strained(
    atoms: Atoms,
    settings: SamplingSettings,
    generator: np.random.Generator,
    _calculator: Calculator | None,
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
    calculator: Calculator | None,
) -> Iterator[Atoms]:
    from ase.md.langevin import Langevin

    temperatures = settings.temperature_K
    per_run = -(-settings.n // len(temperatures))
    n_steps = max(1, round(settings.spacing_fs / settings.timestep_fs))
    left = settings.n
    for temperature in temperatures:
        moving = atoms.copy()
        moving.calc = calculator
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
            dynamics.run(n_steps)
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
