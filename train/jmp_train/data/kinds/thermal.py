"""Geometries that need forces: dynamics, relaxed ones, and thermal displacements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from jaxtyping import Float

from jmp_calc.calculator.named import set_electrons
from jmp_calc.errors import DataError
from jmp_calc.sim.relax.optimizers import OPTIMIZER_CLASSES
from jmp_calc.units import FS, KB
from jmp_train.data.kinds.geometry import Making, bare, drawn, overlap

FRICTION = 0.02
"""Friction of the Langevin thermostat, 1/fs."""
HESSIAN_STEP = 0.005
"""Displacement of the atoms for second derivatives, Å."""
SOFTEST = 0.5
"""Smallest curvature of a mode, eV/Å²; softer modes move as if they had this one,
because straight displacements along them would tear bonds."""
LONGEST_STEP = 0.1
"""Longest displacement of an atom in a step of a relaxation, Å."""


def simulated(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield frames of Langevin dynamics.

    Args:
        atoms: The structure.
        making: ``n``, ``temperature_K`` (in turn), ``timestep_fs``, ``spacing_fs`` and
            ``min_distance``; forces are those of the calculator.

    Raises:
        ArgumentError: If there is no calculator.
        DataError: If the calculator fails, or atoms come too close.
    """
    from ase.md.langevin import Langevin

    settings, generator = making.settings, making.generator
    atoms, potential = _prepared(atoms, making)
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
            friction=FRICTION / FS,
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
            new = bare(moving)
            new.info["temperature_K"] = float(temperature)
            new.info["time_fs"] = frame * n_steps * settings.timestep_fs
            yield new
        left -= min(per_run, left)


def relaxed(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield the relaxed geometry, after up to n - 1 of those on the way.

    Args:
        atoms: The structure; its cell stays.
        making: ``n``, ``force_tolerance`` and ``steps``.

    Raises:
        ArgumentError: If there is no calculator.
        DataError: If the calculator fails, or forces are not small after ``steps``.
    """
    settings = making.settings
    atoms, potential = _prepared(atoms, making)
    atoms.calc = potential
    path: list[Atoms] = []
    # not BFGS, whose matrices take the cores of other processes
    optimizer = OPTIMIZER_CLASSES["lbfgs"](atoms, logfile=None, maxstep=LONGEST_STEP)
    optimizer.attach(lambda: path.append(bare(atoms)))
    try:
        is_done = optimizer.run(fmax=settings.force_tolerance, steps=settings.steps)
    except Exception as error:  # a calculator may raise anything
        raise DataError(
            f"the calculator failed in step {optimizer.nsteps} of the relaxation: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not is_done:
        raise DataError(
            f"{atoms.get_chemical_formula()} is not relaxed to "
            f"{settings.force_tolerance:g} eV/Å after {settings.steps} steps; give "
            "more steps or a larger force_tolerance"
        )
    path[-1].info["is_relaxed"] = True
    places = np.linspace(0, len(path) - 1, min(settings.n, len(path)) + 1)[1:]
    for place in np.unique(np.rint(places).astype(int)).tolist():
        path[place].info["step"] = place
        yield path[place]


def vibrating(atoms: Atoms, making: Making) -> Iterator[Atoms]:
    """Yield thermal displacements along the modes of a molecule.

    In each mode the displacement is normal with variance kT/curvature, the classical
    harmonic distribution, which knows no masses.

    Args:
        atoms: A molecule near a minimum.
        making: ``n``, ``temperature_K`` (in turn) and ``min_distance``; curvatures are
            those of the calculator.

    Raises:
        ArgumentError: If there is no calculator.
        DataError: If the calculator fails, or the structure is periodic.
    """
    settings, generator = making.settings, making.generator
    if atoms.pbc.any() or len(atoms) < 2:
        raise DataError(
            f"{atoms.get_chemical_formula()} is periodic or a lone atom; the kind "
            "'vibrate' is for molecules"
        )
    atoms, potential = _prepared(atoms, making)
    curvatures, modes = _modes(atoms, potential)
    temperatures = settings.temperature_K
    for place in range(settings.n):
        temperature = temperatures[place * len(temperatures) // settings.n]
        size = np.sqrt(KB * temperature / np.maximum(curvatures, SOFTEST))

        def draw(
            temperature: float = temperature,
            size: Float[np.ndarray, " modes"] = size,
        ) -> Atoms:
            new = bare(atoms)
            move = modes @ (size * generator.normal(size=len(size)))
            new.positions += move.reshape(-1, 3)
            new.info["temperature_K"] = float(temperature)
            return new

        yield from drawn(draw, 1, min_distance=settings.min_distance)


def _prepared(atoms: Atoms, making: Making) -> tuple[Atoms, Calculator]:
    """Return a copy that knows its charge, and a calculator of its own.

    A new one, because what a calculator remembers of the structure before changes
    forces in the last digits, and with them where dynamics leads.
    """
    choice = making.chosen_calculator()
    atoms = atoms.copy()
    set_electrons(atoms, choice)
    return atoms, choice.build()


def _modes(
    atoms: Atoms, potential: Calculator
) -> tuple[Float[np.ndarray, " modes"], Float[np.ndarray, "coordinates modes"]]:
    """Return curvatures and directions without translations and rotations."""
    n = len(atoms)
    hessian = np.zeros((3 * n, 3 * n))
    moving = atoms.copy()
    moving.calc = potential
    try:
        for place in range(3 * n):
            forces = []
            for sign in (1, -1):
                moving.positions = atoms.positions
                moving.positions[place // 3, place % 3] += sign * HESSIAN_STEP
                forces.append(moving.get_forces().ravel())
            hessian[place] = (forces[1] - forces[0]) / (2 * HESSIAN_STEP)
    except Exception as error:  # a calculator may raise anything
        raise DataError(
            f"the calculator failed on {atoms.get_chemical_formula()}: "
            f"{type(error).__name__}: {error}"
        ) from error
    inner = _without_rigid_motion(atoms.positions)
    curvatures, vectors = np.linalg.eigh(inner.T @ (hessian + hessian.T) @ inner / 2)
    return curvatures, inner @ vectors


def _without_rigid_motion(
    positions: Float[np.ndarray, "atoms 3"],
) -> Float[np.ndarray, "coordinates modes"]:
    """Return an orthonormal basis of displacements that change the shape."""
    centred = positions - positions.mean(0)
    rigid = [np.tile(axis, len(positions)) for axis in np.eye(3)]
    rigid += [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.transpose(rigid), full_matrices=True)
    # a linear molecule does not turn about its axis
    return left[:, np.count_nonzero(sizes > 1e-3 * sizes[0]) :]
