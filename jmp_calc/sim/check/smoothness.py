"""Scans through what could make energy and forces jump."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances
from ase.neighborlist import natural_cutoffs, neighbor_list
from jaxtyping import Float, Int

from jmp_calc.sim.check.derivatives import NOISE_FACTOR
from jmp_calc.sim.check.jumps import find_jumps
from jmp_calc.sim.check.measurement import Measurement, judged, not_applicable
from jmp_calc.sim.check.probe import Probe
from jmp_calc.units import GPA

ENERGY_LIMIT_eV = 1e-5
FORCE_LIMIT_eV_PER_A = 1e-3
STRESS_LIMIT_GPA = 0.01
SHORTEST, LONGEST = 0.96, 1.10
"""Range over which crystals are stretched, so that pairs cross the cutoff."""
RANK_MOVE_A = 0.4
"""How far an atom moves among its neighbours, to either side, angstrom."""
N_DIRECTIONS = 64
"""Directions that are tried for a way without collisions."""
NEAR_A = 1e-6
"""Distance from the straight angle at which forces must be those at it, angstrom."""
BONDED = 1.25
"""Atoms are bonded up to this multiple of the sum of their covalent radii."""
MAX_TRIPLES = 200

Path = Callable[[float], Atoms]
"""From a place on a path to the structure there."""
STRAIGHT_A = 1e-6
"""An angle is straight if an atom is this near to where it would be, angstrom."""
LEAST_ROOM = 0.9
"""An atom is not moved nearer to others than this multiple of a bond."""


def check_cutoff(probe: Probe) -> list[Measurement]:
    """Pull an atom away until nothing sees it; stretch a crystal.

    In a structure that is periodic in three directions no atom can leave: all lengths
    change by some percent instead, and pairs cross the cutoff. There the stress is
    looked at, too: forces between an atom and its own images cancel.

    Args:
        probe: The system.
    """
    if len(probe.given) < 2 and not probe.given.pbc.all():
        return [not_applicable("energy jump", "one atom only")]
    if probe.given.pbc.all():
        return _jumps(
            probe,
            _stretching(probe.shaken),
            cutoff_grid(probe),
            "lengths times {:.4f}",
            has_stress=probe.has_stress,
        )
    path, who = _leaving(probe.shaken)
    return _jumps(probe, path, cutoff_grid(probe), f"{who} pulled by {{:.3f}} Å")


def cutoff_grid(probe: Probe) -> Float[np.ndarray, " points"]:
    """Return factors of all lengths for a crystal, else distances, angstrom.

    Args:
        probe: The system.
    """
    step = probe.settings.scan_step
    if not probe.given.pbc.all():
        return np.arange(0.0, probe.reach_A, step)
    longest = float(max(probe.shaken.cell.lengths().max(), probe.reach_A))
    return np.arange(SHORTEST, LONGEST, step / 4 / longest)


def check_ranks(probe: Probe) -> list[Measurement]:
    """Move an atom among its neighbours, so that they change their order by distance.

    Args:
        probe: The system.
    """
    if len(probe.given) < (2 if probe.given.pbc.any() else 3):
        # the images of a lone atom move with it
        return [not_applicable("energy jump", "too few atoms to change their order")]
    atom, direction = _free_way(probe)

    def path(x: float) -> Atoms:
        system: Atoms = probe.shaken.copy()
        system.positions[atom] += x * direction
        return system

    who = f"{probe.given.symbols[atom]}{atom}"
    return _jumps(probe, path, ranks_grid(probe), f"{who} moved by {{:.3f}} Å")


def ranks_grid(probe: Probe) -> Float[np.ndarray, " points"]:
    """Return by how much the atom is moved, angstrom.

    Args:
        probe: The system.
    """
    return np.arange(-RANK_MOVE_A, RANK_MOVE_A, probe.settings.scan_step / 4)


def check_collinear(probe: Probe) -> list[Measurement]:
    """Straighten an angle: forces must be finite at 180 degrees and the same beside it.

    Args:
        probe: The system.
    """
    found = _straightened(probe.given)
    if found is None:
        return [not_applicable("force jump", "no angle that could be straightened")]
    system, (i, j, k), sideways = found
    systems = []
    for x in (-NEAR_A, 0.0, NEAR_A):
        bent = system.copy()
        bent.positions[k] += x * sideways
        systems.append(bent)
    _, forces = probe.curve(systems)
    jump = max(
        float(np.abs(forces[1] - forces[0]).max()),
        float(np.abs(forces[2] - forces[1]).max()),
    )
    angle = "-".join(f"{probe.given.symbols[n]}{n}" for n in (i, j, k))
    return [
        judged(
            "force jump",
            jump,
            FORCE_LIMIT_eV_PER_A,
            "eV/Å",
            f"at 180° of {angle}",
            noise=NOISE_FACTOR * probe.noise[1],
        )
    ]


def _jumps(
    probe: Probe,
    path: Path,
    grid: Float[np.ndarray, " points"],
    place: str,
    *,
    has_stress: bool = False,
) -> list[Measurement]:
    names = ("energy", "forces", "stress")[: 3 if has_stress else 2]

    def rows_at(places: Float[np.ndarray, " points"]) -> Float[np.ndarray, "points c"]:
        found = probe.evaluate([path(float(x)) for x in places], names)
        return np.array(
            [
                [
                    results["energy"],
                    *np.ravel(results["forces"]),
                    *(np.asarray(results["stress"]) / GPA if has_stress else ()),
                ]
                for results in found
            ]
        )

    end = 1 + 3 * len(probe.given)
    kinds = [
        ("energy", slice(0, 1), ENERGY_LIMIT_eV, "eV", probe.noise[0]),
        ("force", slice(1, end), FORCE_LIMIT_eV_PER_A, "eV/Å", probe.noise[1]),
    ]
    if has_stress:
        area = probe.shaken.get_volume() ** (2 / 3)
        noise = probe.noise[1] / area / GPA
        kinds.append(("stress", slice(end, None), STRESS_LIMIT_GPA, "GPa", noise))
    jumps = find_jumps(
        rows_at,
        grid,
        [columns for _, columns, *_ in kinds],
        n_candidates=probe.settings.n_candidates,
    )
    return [
        judged(
            f"{what} jump",
            jump.size,
            limit,
            unit,
            place.format(jump.place),
            noise=NOISE_FACTOR * noise,
        )
        for jump, (what, _, limit, unit, noise) in zip(jumps, kinds, strict=True)
    ]


def _stretching(atoms: Atoms) -> Path:
    def path(scale: float) -> Atoms:
        system: Atoms = atoms.copy()
        system.set_cell(atoms.cell.array * scale, scale_atoms=True)
        return system

    return path


def _leaving(atoms: Atoms) -> tuple[Path, str]:
    """Return the path of the outermost atom away from the others, and its name."""
    arms = atoms.positions - atoms.positions.mean(axis=0)
    # along periodic directions nothing can leave
    if atoms.pbc.any():
        arms = arms @ _projector(atoms)
    atom = int(np.linalg.norm(arms, axis=1).argmax())
    direction = arms[atom] / np.linalg.norm(arms[atom])

    def path(x: float) -> Atoms:
        system: Atoms = atoms.copy()
        system.positions[atom] += x * direction
        return system

    return path, f"{atoms.symbols[atom]}{atom}"


def _projector(atoms: Atoms) -> Float[np.ndarray, "3 3"]:
    """Return the matrix that takes out the periodic directions."""
    used = atoms.cell.array[atoms.pbc]
    basis = np.linalg.svd(used, full_matrices=True)[2][len(used) :]
    return np.asarray(basis.T @ basis)


def _free_way(probe: Probe) -> tuple[int, Float[np.ndarray, "3"]]:
    """Return an atom near the middle, and the direction in which it has most room."""
    atoms = probe.shaken
    middle = atoms.positions.mean(axis=0)
    atom = int(np.linalg.norm(atoms.positions - middle, axis=1).argmin())
    directions = probe.rng(6).standard_normal((N_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    others = np.delete(np.arange(len(atoms)), atom)
    if len(others) == 0:
        return atom, directions[0]
    ends = np.concatenate(
        [atoms.positions[atom] + s * RANK_MOVE_A * directions for s in (-1, 1)]
    )
    room = get_distances(ends, atoms.positions[others], cell=atoms.cell, pbc=atoms.pbc)[
        1
    ].min(axis=1)
    best = int(room.reshape(2, -1).min(axis=0).argmax())
    return atom, directions[best]


Straight = tuple[Atoms, tuple[int, int, int], Float[np.ndarray, "3"]]
"""A structure with a straight angle, its three atoms, and a vector across."""


def _straightened(atoms: Atoms) -> Straight | None:
    """Return the structure with one angle straight.

    A straight angle of the structure, as crystals have them, is taken as it is. Else
    one bond is turned into line with another, where the moved atom then has most room.
    """
    cutoffs = natural_cutoffs(atoms, mult=BONDED)
    first, second, vectors = neighbor_list("ijD", atoms, cutoffs)
    best: Straight | None = None
    most_room = LEAST_ROOM
    for a, b in _triples(first, second):
        i, j, k = int(second[a]), int(first[a]), int(second[b])
        along = -vectors[a] / np.linalg.norm(vectors[a])
        across = np.cross(along, [0.3, 0.5, 0.8])
        shift = along * np.linalg.norm(vectors[b]) - vectors[b]
        if np.linalg.norm(shift) < STRAIGHT_A:
            return atoms, (i, j, k), across / np.linalg.norm(across)
        system: Atoms = atoms.copy()
        system.positions[k] += shift
        room = _room(system, k, j)
        if i != k and room > most_room:
            best = system, (i, j, k), across / np.linalg.norm(across)
            most_room = room
    return best


def _triples(
    first: Int[np.ndarray, " bonds"], second: Int[np.ndarray, " bonds"]
) -> list[tuple[int, int]]:
    """Return pairs of different bonds of one atom to other atoms."""
    triples = []
    for centre in np.unique(first):
        bonds = np.flatnonzero((first == centre) & (second != centre))
        triples += [(int(a), int(b)) for a in bonds for b in bonds if a != b]
    return triples[:MAX_TRIPLES]


def _room(atoms: Atoms, moved: int, centre: int) -> float:
    """Return the smallest distance of a moved atom, by the sum of covalent radii."""
    others = [n for n in range(len(atoms)) if n not in (moved, centre)]
    if not others:
        return float("inf")
    distances = atoms.get_distances(moved, others, mic=bool(atoms.pbc.any()))
    radii = covalent_radii[atoms.numbers]
    return float((distances / (radii[moved] + radii[others])).min())
