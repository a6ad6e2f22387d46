"""Does the energy stay, and do forces turn along, when nothing physical changes?"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from jmp_calc.sim.check.derivatives import NOISE_FACTOR
from jmp_calc.sim.check.measurement import Measurement, judged, not_applicable
from jmp_calc.sim.check.probe import Probe
from jmp_calc.units import GPA

ENERGY_LIMIT_eV_PER_ATOM = 1e-6
FORCE_LIMIT_eV_PER_A = 1e-4
STRESS_LIMIT_GPA = 0.01
NET_FORCE_LIMIT_eV_PER_A = 1e-4
TORQUE_LIMIT_eV = 1e-3
MAX_REPEATED = 400
"""A doubled cell may have this many atoms."""


def check_translation(probe: Probe) -> list[Measurement]:
    """Move all atoms by the same vector, across the boundary of the cell.

    Args:
        probe: The system.
    """
    systems = []
    for atoms in (probe.shaken, probe.given):
        moved = atoms.copy()
        moved.positions += probe.rng(3).uniform(1.0, 5.0, 3)
        moved.wrap()
        systems.append(moved)
    return _compare(probe, systems)


def check_rotation(probe: Probe) -> list[Measurement]:
    """Turn atoms and cell; the structure as given, too, because its symmetry may tie.

    Args:
        probe: The system.
    """
    turn = np.asarray(Rotation.from_quat(probe.rng(4).standard_normal(4)).as_matrix())
    systems = []
    for atoms in (probe.shaken, probe.given):
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ turn.T)
        turned.set_positions(atoms.positions @ turn.T)
        systems.append(turned)
    found = _compare(probe, systems, turn=turn)
    if probe.has_stress:
        found.append(_stress_turns(probe, systems[0], turn))
    return found


def _stress_turns(
    probe: Probe, turned: Atoms, turn: Float[np.ndarray, "3 3"]
) -> Measurement:
    before, after = (
        results["stress"]
        for results in probe.evaluate([probe.shaken, turned], ("energy", "stress"))
    )
    expected = turn @ voigt_6_to_full_3x3_stress(before) @ turn.T
    difference = np.abs(after - full_3x3_to_voigt_6_stress(expected)).max() / GPA
    noise = NOISE_FACTOR * probe.noise[1] / GPA / probe.shaken.get_volume() ** (2 / 3)
    return judged("stress", float(difference), STRESS_LIMIT_GPA, "GPa", noise=noise)


def check_permutation(probe: Probe) -> list[Measurement]:
    """List the atoms in another order.

    Args:
        probe: The system.
    """
    if len(probe.given) < 2:
        return [not_applicable("energy", "one atom only")]
    order = probe.rng(5).permutation(len(probe.given))
    if (order == np.arange(len(order))).all():
        order = order[::-1]
    return _compare(probe, [probe.shaken[order], probe.given[order]], order=order)


def _compare(
    probe: Probe,
    systems: list[Atoms],
    *,
    turn: Float[np.ndarray, "3 3"] | None = None,
    order: np.ndarray | None = None,
) -> list[Measurement]:
    """Compare shaken and given structure with what they became."""
    energies, forces = probe.curve([probe.shaken, probe.given, *systems])
    expected = forces[:2] if turn is None else forces[:2] @ turn.T
    if order is not None:
        expected = expected[:, order]
    n_atoms = len(probe.given)
    changes = np.abs(energies[2:] - energies[:2]) / n_atoms
    largest = np.abs(forces[2:] - expected).reshape(2, -1).max(axis=1)
    note = ""
    if changes[1] > max(ENERGY_LIMIT_eV_PER_ATOM, 100 * changes[0]):
        note = "of the structure as given; its symmetry ties neighbours"
    return [
        judged(
            "energy",
            float(changes.max()),
            ENERGY_LIMIT_eV_PER_ATOM,
            "eV/atom",
            note,
            noise=NOISE_FACTOR * probe.noise[0] / n_atoms,
        ),
        judged(
            "forces",
            float(largest.max()),
            FORCE_LIMIT_eV_PER_A,
            "eV/Å",
            noise=NOISE_FACTOR * probe.noise[1],
        ),
    ]


def check_supercell(probe: Probe) -> list[Measurement]:
    """Double the cell along its shortest periodic vector.

    Args:
        probe: The system.
    """
    atoms = probe.shaken
    if not atoms.pbc.any():
        return [not_applicable("energy", "not periodic")]
    if 2 * len(atoms) > MAX_REPEATED:
        return [not_applicable("energy", f"twice {len(atoms)} atoms are too many")]
    lengths = np.where(atoms.pbc, atoms.cell.lengths(), np.inf)
    repeats = [1, 1, 1]
    repeats[int(lengths.argmin())] = 2
    double = atoms.repeat(repeats)
    one, two = probe.evaluate([atoms]) + probe.evaluate([double])
    n_atoms = len(atoms)
    change = abs(two["energy"] / 2 - one["energy"]) / n_atoms
    forces = np.concatenate([one["forces"], one["forces"]])
    return [
        judged(
            "energy",
            change,
            ENERGY_LIMIT_eV_PER_ATOM,
            "eV/atom",
            noise=NOISE_FACTOR * probe.noise[0] / n_atoms,
        ),
        judged(
            "forces",
            float(np.abs(two["forces"] - forces).max()),
            FORCE_LIMIT_eV_PER_A,
            "eV/Å",
            noise=NOISE_FACTOR * probe.noise[1],
        ),
    ]


def check_net_force(probe: Probe) -> list[Measurement]:
    """Measure the sum of all forces, which accelerates the centre of mass.

    Args:
        probe: The system.
    """
    forces = probe.curve([probe.shaken])[1][0]
    noise = NOISE_FACTOR * probe.noise[1] * np.sqrt(len(forces))
    value = float(np.linalg.norm(forces.sum(axis=0)))
    limit = NET_FORCE_LIMIT_eV_PER_A
    return [judged("sum of forces", value, limit, "eV/Å", noise=noise)]


def check_torque(probe: Probe) -> list[Measurement]:
    """Measure the torque of the forces, which turns a molecule.

    Args:
        probe: The system.
    """
    atoms = probe.shaken
    if atoms.pbc.any():
        return [not_applicable("torque", "periodic")]
    forces = probe.curve([atoms])[1][0]
    arms = atoms.positions - atoms.get_center_of_mass()
    noise = NOISE_FACTOR * probe.noise[1] * float(np.linalg.norm(arms))
    value = float(np.linalg.norm(np.cross(arms, forces).sum(axis=0)))
    return [judged("torque", value, TORQUE_LIMIT_eV, "eV", noise=noise)]
