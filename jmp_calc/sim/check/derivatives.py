"""Are forces and stress derivatives of the energy, and how noisy is it?"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from jmp_calc.sim.check.measurement import Measurement, judged, not_applicable
from jmp_calc.sim.check.probe import Probe
from jmp_calc.units import GPA

NOISE_LIMIT_eV, NOISE_LIMIT_eV_PER_A = 1e-5, 1e-4
FORCE_LIMIT_eV_PER_A = 1e-4
STRESS_LIMIT_GPA = 0.01
CURL_LIMIT = 1e-4
STRAIN = 1e-4
NOISE_FACTOR = 10.0
"""A difference may be wrong by this multiple of the noise."""
AXES = "xyz"
SOURCES_OF_NOISE = "few digits, or many jumps close together"
"""What to think of if there is noise."""


def check_noise(probe: Probe) -> list[Measurement]:
    """Measure the scatter of energy and forces between points that touch.

    Args:
        probe: The system.
    """
    energy, force = probe.noise
    return [
        judged("energy", energy, NOISE_LIMIT_eV, "eV", SOURCES_OF_NOISE),
        judged("forces", force, NOISE_LIMIT_eV_PER_A, "eV/Å", SOURCES_OF_NOISE),
    ]


def check_forces(probe: Probe) -> list[Measurement]:
    """Compare forces with central differences of the energy.

    As ASE's ``FiniteDifferenceCalculator``, but many displacements at a time, and by a
    distance that suits the noise of the energy.

    Args:
        probe: The system.
    """
    if len(probe.given) < 2:
        return [not_applicable("minus gradient", "one atom only")]
    index, energies, _ = probe.displaced
    below, above = energies
    numerical = -(above - below) / (2 * probe.step)
    forces = probe.curve([probe.shaken])[1][0].ravel()[index]
    difference = np.abs(forces - numerical)
    worst = int(difference.argmax())
    return [
        judged(
            "minus gradient",
            difference[worst],
            FORCE_LIMIT_eV_PER_A,
            "eV/Å",
            f"worst {_name(probe.given, int(index[worst]))}, force "
            f"{forces[worst]:.4g} and {numerical[worst]:.4g} eV/Å by differences",
            noise=NOISE_FACTOR * probe.noise[0] / probe.step,
        )
    ]


def check_curl(probe: Probe) -> list[Measurement]:
    """Measure the curl of the force field: how asymmetric its derivative is.

    Around a loop, forces with a curl do work, whatever energy comes with them.

    Args:
        probe: The system.
    """
    index, _, forces = probe.displaced
    below, above = forces.reshape(2, len(index), -1)[:, :, index]
    jacobian = (above - below) / (2 * probe.step)
    largest = float(np.abs(jacobian).max())
    if largest == 0:
        return [not_applicable("asymmetry", "the forces do not depend on positions")]
    asymmetry = np.abs(jacobian - jacobian.T)
    i, j = np.unravel_index(asymmetry.argmax(), asymmetry.shape)
    noise = NOISE_FACTOR * probe.noise[1] / probe.step / largest
    pair = " and ".join(_name(probe.given, int(index[k])) for k in (i, j))
    return [
        judged(
            "asymmetry",
            float(asymmetry.max()) / largest,
            CURL_LIMIT,
            "of the largest derivative",
            f"worst between {pair}" if asymmetry.max() > 0 else "",
            noise=noise,
        )
    ]


def check_stress(probe: Probe) -> list[Measurement]:
    """Compare the stress with central differences of the energy under strain.

    Args:
        probe: The system.

    Source:
        Knuth et al., Computer Physics Communications 190, 33 (2015).
    """
    if not probe.has_stress:
        why = "the calculator has no stress"
        if not probe.given.pbc.all():
            why = "not periodic in three directions"
        return [not_applicable("derivative by strain", why)]
    systems = [
        _strained(probe.shaken, sign * STRAIN, number)
        for sign in (-1, 1)
        for number in range(6)
    ]
    energies = [found["energy"] for found in probe.evaluate(systems, ("energy",))]
    below, above = np.split(np.array(energies), 2)
    numerical = (above - below) / (2 * STRAIN * probe.shaken.get_volume())
    stress = probe.evaluate([probe.shaken], ("energy", "stress"))[0]["stress"]
    difference = np.abs(np.asarray(stress) - numerical) / GPA
    worst = int(difference.argmax())
    noise = NOISE_FACTOR * probe.noise[0] / STRAIN / probe.shaken.get_volume() / GPA
    axes = ("xx", "yy", "zz", "yz", "xz", "xy")[worst]
    return [
        judged(
            "derivative by strain",
            difference[worst],
            STRESS_LIMIT_GPA,
            "GPa",
            f"worst {axes}, stress {stress[worst] / GPA:.4g} and "
            f"{numerical[worst] / GPA:.4g} GPa by differences",
            noise=noise,
        )
    ]


def _strained(atoms: Atoms, size: float, number: int) -> Atoms:
    strain = np.zeros((3, 3))
    i, j = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))[number]
    strain[i, j] += size / 2
    strain[j, i] += size / 2
    system: Atoms = atoms.copy()
    system.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return system


def _name(atoms: Atoms, coordinate: int) -> str:
    atom = coordinate // 3
    return f"{atoms.symbols[atom]}{atom} {AXES[coordinate % 3]}"
