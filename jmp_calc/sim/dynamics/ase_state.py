"""The only room that touches what ASE's integrators keep to themselves.

ASE can neither save nor restore a thermostat or barostat, counts 3 N degrees of freedom
in its Nose-Hoover chains whatever the constraints, and cannot change the temperature of
most of them. All three need private attributes; the table here says which, for the
versions of ASE that were looked at, and others are refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

import ase
import numpy as np
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import (
    MTKNPT,
    IsotropicMTKNPT,
    NoseHooverChainNVT,
    NoseHooverChainThermostat,
)
from ase.md.verlet import VelocityVerlet

from jmp_calc.errors import ArgumentError
from jmp_calc.units import GPA, KB

KNOWN_VERSIONS = ("3.29",)
"""Versions of ASE whose private state is as the table below says."""


class ConstrainedNoseHooverChain(NoseHooverChainNVT):
    """ASE's Nose-Hoover chain with its own copy of the momenta under the constraints.

    In ASE's that copy gets the raw forces, also those on fixed atoms, whose momenta
    grow and are taken for heat: everything else is cooled to a standstill.
    """

    def _integrate_p(self, delta: float) -> None:
        super()._integrate_p(delta)
        for constraint in self.atoms.constraints:
            if hasattr(constraint, "adjust_momenta"):
                constraint.adjust_momenta(self.atoms, self._p)


_CHAIN = ("_q", "_p", "_thermostat._eta", "_thermostat._p_eta")
# a ramp changes inertia by ratios, whose product depends on the way
_INERTIA = ("_barostat._kT", "_barostat._R", "_barostat._W")
_BAROSTAT = ("_barostat._xi", "_barostat._p_xi", *_INERTIA)
_STATE: dict[type[MolecularDynamics], tuple[str, ...]] = {
    VelocityVerlet: (),
    Langevin: (),
    Bussi: ("transferred_energy",),
    ConstrainedNoseHooverChain: _CHAIN,
    IsotropicMTKNPT: (*_CHAIN, *_BAROSTAT, "_eps", "_p_eps", "_cell0", "_volume0"),
    MTKNPT: (*_CHAIN, *_BAROSTAT, "_h", "_p_g"),
}
"""What changes during a run beside positions, momenta, cell and random numbers."""
_CHAINS = (NoseHooverChainNVT, IsotropicMTKNPT, MTKNPT)

State = dict[str, np.ndarray]
"""State of an integrator by attribute name; copies."""


def check_version(dynamics: MolecularDynamics) -> None:
    """Refuse versions of ASE whose private state nobody has looked at.

    Args:
        dynamics: Any integrator of the table; those without private state are fine.

    Raises:
        ArgumentError: If the installed version is not known.
    """
    is_known = ase.__version__.startswith(tuple(f"{v}." for v in KNOWN_VERSIONS))
    if isinstance(dynamics, _CHAINS) and not is_known:
        raise ArgumentError(
            "this ensemble uses inner state of ASE that is known for ASE "
            f"{', '.join(KNOWN_VERSIONS)}, and {ase.__version__} is installed; install "
            f"'ase=={KNOWN_VERSIONS[-1]}.*', or use nve, nvt or nvt-bussi"
        )


def capture(dynamics: MolecularDynamics) -> State:
    """Return the state of an integrator between two steps.

    Args:
        dynamics: Any integrator of the table.
    """
    return {
        name: np.array(attrgetter(name)(dynamics)) for name in _STATE[type(dynamics)]
    }


def restore(dynamics: MolecularDynamics, state: Mapping[str, np.ndarray]) -> None:
    """Put an integrator into a captured state.

    Args:
        dynamics: A new integrator of the same kind, on the atoms of that state.
        state: From :func:`capture`.

    Raises:
        ArgumentError: If the state is that of another kind of integrator.
    """
    expected = set(_STATE[type(dynamics)])
    if set(state) != expected:
        raise ArgumentError(
            f"the checkpoint holds {sorted(state)} of an integrator and "
            f"{type(dynamics).__name__} needs {sorted(expected)}; it was made by "
            "another version: start a new run from its last frame"
        )
    for name, value in state.items():
        owner, _, attribute = name.rpartition(".")
        target = attrgetter(owner)(dynamics) if owner else dynamics
        # numbers come back as numbers, arrays as arrays of their own
        setattr(target, attribute, float(value) if value.ndim == 0 else value.copy())


def set_degrees_of_freedom(dynamics: MolecularDynamics, number: int) -> None:
    """Let a Nose-Hoover chain steer the degrees of freedom that there are.

    ASE's chains steer the kinetic energy to 3 N k T / 2. With a resting centre of mass
    or constraints fewer can hold energy, and they would be too hot by 3 N over their
    number. Only products with 3 N occur, so a third of the right number in place of the
    number of atoms does it; in the barostats it is the number that couples them.

    Args:
        dynamics: Any integrator of the table; others than chains know it already.
        number: Degrees of freedom that the atoms have.

    Source:
        Martyna, Tobias and Klein, J. Chem. Phys. 101, 4177 (1994), eqs. 2.1 to 2.3 and
        2.8, with N_f for d N.
    """
    if not isinstance(dynamics, _CHAINS):
        return
    chain = dynamics._thermostat
    # a third of a number, where ASE expects a whole one
    chain._num_atoms_global = number / 3  # type: ignore[assignment]
    _set_chain_temperature(chain, chain._kT)
    if isinstance(dynamics, (IsotropicMTKNPT, MTKNPT)):
        dynamics._num_atoms_global = number / 3


def set_temperature(dynamics: MolecularDynamics, temperature_K: float) -> None:
    """Change the temperature of a thermostat; inertia of chains follows it.

    Args:
        dynamics: Any integrator of the table; without thermostat nothing happens.
        temperature_K: New temperature, K.

    Source:
        Inertia in proportion to k T keeps the time constants: as for
        :class:`ase.md.nose_hoover_chain.NoseHooverChainThermostat`.
    """
    energy = KB * temperature_K
    if isinstance(dynamics, Langevin):
        dynamics.set_temperature(temperature_K=temperature_K)
    elif isinstance(dynamics, Bussi):
        dynamics.temp = energy
        dynamics.target_kinetic_energy = 0.5 * energy * dynamics.ndof
    elif isinstance(dynamics, _CHAINS):
        _set_chain_temperature(dynamics._thermostat, energy)
        if isinstance(dynamics, (IsotropicMTKNPT, MTKNPT)):
            barostat = dynamics._barostat
            ratio = energy / barostat._kT
            barostat._kT = energy
            barostat._R = barostat._R * ratio
            barostat._W = barostat._W * ratio


def set_pressure(dynamics: MolecularDynamics, pressure_GPa: float) -> None:
    """Change the pressure of a barostat.

    Args:
        dynamics: Any integrator of the table; without barostat nothing happens.
        pressure_GPa: New pressure, GPa.
    """
    pressure = pressure_GPa * GPA
    if isinstance(dynamics, (IsotropicMTKNPT, MTKNPT)):
        dynamics._pressure_au = pressure


def freeze_chains(dynamics: MolecularDynamics) -> None:
    """Let no chain exchange heat, which makes NPH of the equations of NPT.

    With infinite inertia the chains never move; what is left of the equations conserves
    the sum of enthalpy and kinetic energy of the cell.

    Args:
        dynamics: An integrator with a barostat.
    """
    assert isinstance(dynamics, (IsotropicMTKNPT, MTKNPT))
    dynamics._thermostat._Q[:] = np.inf
    dynamics._barostat._R[:] = np.inf


def extended_energy(dynamics: MolecularDynamics) -> float:
    """Return the energy of thermostat and barostat, eV.

    With the total energy it is conserved, unless temperature or pressure are changed.

    Args:
        dynamics: An integrator with a barostat.
    """
    assert isinstance(dynamics, (IsotropicMTKNPT, MTKNPT))
    return float(dynamics.get_conserved_energy() - dynamics.atoms.get_total_energy())


def _set_chain_temperature(chain: NoseHooverChainThermostat, energy: float) -> None:
    chain._kT = energy
    chain._Q[0] = 3 * chain._num_atoms_global * energy * chain._tdamp**2
    chain._Q[1:] = energy * chain._tdamp**2
