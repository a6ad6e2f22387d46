"""What follows from force constants: bands, densities of states, thermal properties."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from phonopy import Phonopy
from phonopy.harmonic.dynmat_to_fc import get_commensurate_points
from phonopy.phonon.mesh import MeshSymmetryFallbackWarning

from jmp_calc.sim.phonons.band_path import BandPath
from jmp_calc.sim.phonons.settings import PhononSettings
from jmp_calc.units import KJ_PER_MOL

DOS_POINTS = 201
"""Frequencies of the densities of states."""
_MARGIN = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Imaginary:
    """Modes along which the crystal would fall to a lower energy."""

    lowest_THz: float
    """Lowest frequency found; imaginary ones are negative."""
    q_point: tuple[float, float, float]
    """Where that is, in reciprocal vectors of the primitive cell."""
    is_computed: bool
    """Whether modes that fit into the supercell are imaginary; otherwise only modes
    between them are, which are interpolated."""
    n_modes: int
    """Imaginary modes on the mesh."""
    n_mesh_modes: int
    """Modes on the mesh."""

    @property
    def text(self) -> str:
        """What that means, as one sentence."""
        q = " ".join(f"{x:.3g}" for x in self.q_point)
        found = (
            f"imaginary modes: {self.n_modes} of {self.n_mesh_modes} on the mesh, "
            f"lowest {self.lowest_THz:.2f} THz at q = {q}"
        )
        if self.is_computed:
            return f"{found}; the crystal is not stable in this structure"
        return (
            f"{found}; only between the q-points that fit into the supercell, so that "
            "a larger supercell may remove them"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Thermal:
    """Harmonic thermal properties at constant volume, of a mole of primitive cells."""

    temperature_K: Float[np.ndarray, "temperatures"]
    """Temperatures, K."""
    free_energy_kJ_per_mol: Float[np.ndarray, "temperatures"]
    """Helmholtz energy of the vibrations, with zero-point energy, kJ/mol."""
    entropy_J_per_K_per_mol: Float[np.ndarray, "temperatures"]
    """Entropy of the vibrations, J/K/mol."""
    heat_capacity_J_per_K_per_mol: Float[np.ndarray, "temperatures"]
    """Heat capacity at constant volume, J/K/mol."""
    zero_point_energy: float
    """Zero-point energy, eV per primitive cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bands:
    """Frequencies along a path."""

    path: BandPath
    """The path."""
    distances: tuple[Float[np.ndarray, "_points"], ...]
    """Length of the path up to each q-point, 1/angstrom; one array per line."""
    frequencies_THz: tuple[Float[np.ndarray, "_points bands"], ...]
    """Frequencies, THz; one array per line."""

    @property
    def stacked(self) -> Float[np.ndarray, "all_points bands"]:
        """Frequencies of all lines, THz."""
        return np.concatenate(self.frequencies_THz)


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """Densities of states."""

    frequency_THz: Float[np.ndarray, "frequencies"]
    """Frequencies, THz."""
    total: Float[np.ndarray, "frequencies"]
    """States per THz and primitive cell; the integral is 3 times its atoms."""
    by_element: dict[str, Float[np.ndarray, "frequencies"]]
    """Part of it that each element moves in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """Everything that follows from force constants."""

    bands: Bands
    """Along the standard path."""
    states: States
    """From the mesh."""
    mesh: tuple[int, int, int]
    """Its numbers of q-points."""
    thermal: Thermal | None
    """None: there are imaginary modes on the mesh, which have none."""
    imaginary: Imaginary | None
    """None: there are no imaginary modes."""
    gamma_THz: Float[np.ndarray, "bands"]
    """Frequencies at Gamma, THz, without the non-analytic correction."""


def analyze(
    phonon: Phonopy,
    settings: PhononSettings,
    path: BandPath,
    mesh: tuple[int, int, int],
) -> Analysis:
    """Compute bands, densities of states and thermal properties.

    All of it also stays in phonopy's object, for its files.

    Args:
        phonon: phonopy's object with force constants.
        settings: Temperatures and tolerance.
        path: Lines of the bands.
        mesh: Numbers of q-points.
    """
    bands = run_bands(phonon, path)
    sampled = run_mesh(phonon, mesh, with_symmetry=True)
    tolerance = settings.imaginary_tolerance_THz
    imaginary = find_imaginary(phonon, bands, sampled, tolerance)
    temperatures = temperature_grid(settings)
    is_stable = imaginary is None or imaginary.n_modes == 0
    thermal = run_thermal(phonon, temperatures) if is_stable else None
    return Analysis(
        bands=bands,
        # last, because it needs the mesh without symmetry
        states=_run_states(phonon, mesh, sampled),
        mesh=mesh,
        thermal=thermal,
        imaginary=imaginary,
        gamma_THz=frequencies_at(phonon, np.zeros((1, 3)))[0],
    )


def temperature_grid(settings: PhononSettings) -> Float[np.ndarray, "temperatures"]:
    """Return the temperatures that are asked for, K.

    Args:
        settings: First, last and step.
    """
    span = settings.temperature_max_K - settings.temperature_min_K
    number = int(span / settings.temperature_step_K + 1e-9) + 1
    return settings.temperature_min_K + settings.temperature_step_K * np.arange(number)


def run_bands(phonon: Phonopy, path: BandPath) -> Bands:
    """Compute frequencies along a path.

    Args:
        phonon: phonopy's object with force constants.
        path: The path.
    """
    found = phonon.run_band_structure(
        [np.array(line) for line in path.lines],
        path_connections=path.connections,
        labels=path.labels,
    )
    return Bands(
        path=path,
        distances=tuple(np.array(line) for line in found.distances),
        frequencies_THz=tuple(np.array(line) for line in found.frequencies),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """Frequencies on a mesh."""

    q_points: Float[np.ndarray, "points 3"]
    """In reciprocal vectors of the primitive cell."""
    frequencies_THz: Float[np.ndarray, "points bands"]
    """Frequencies, THz."""
    weights: Int[np.ndarray, "points"]
    """How many q-points each one stands for."""


def run_mesh(
    phonon: Phonopy, mesh: tuple[int, int, int], *, with_symmetry: bool = False
) -> Sampled:
    """Compute frequencies on a mesh that has Gamma.

    Args:
        phonon: phonopy's object with force constants.
        mesh: Numbers of q-points.
        with_symmetry: Leave out what follows by symmetry, and with it what densities
            of states of single atoms need.
    """
    with warnings.catch_warnings():
        # without its symmetry a mesh is as good, and only takes longer
        warnings.simplefilter("ignore", MeshSymmetryFallbackWarning)
        found = phonon.run_mesh(
            mesh,
            is_gamma_center=True,
            is_mesh_symmetry=with_symmetry,
            with_eigenvectors=not with_symmetry,
        )
    return Sampled(
        q_points=np.array(found.qpoints),
        frequencies_THz=np.array(found.frequencies),
        weights=np.array(found.weights),
    )


def frequencies_at(
    phonon: Phonopy, q_points: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points bands"]:
    """Return frequencies at q-points, THz; imaginary ones are negative.

    Args:
        phonon: phonopy's object with force constants.
        q_points: In reciprocal vectors of the primitive cell.
    """
    return np.array(phonon.run_qpoints(q_points).frequencies)


def find_imaginary(
    phonon: Phonopy, bands: Bands, sampled: Sampled, tolerance_THz: float
) -> Imaginary | None:
    """Look for imaginary modes in bands, on the mesh and where no mode is interpolated.

    Args:
        phonon: phonopy's object with force constants.
        bands: Along a path.
        sampled: On a mesh.
        tolerance_THz: Frequencies above minus this are rounding errors.

    Returns:
        What was found, or None.
    """
    ratio = np.linalg.inv(phonon.primitive_matrix) @ phonon.supercell_matrix
    fitting = get_commensurate_points(np.rint(ratio).astype(int).T)
    at_fitting = frequencies_at(phonon, fitting)
    q_points = np.concatenate([*bands.path.lines, sampled.q_points, fitting])
    frequencies = np.concatenate([bands.stacked, sampled.frequencies_THz, at_fitting])
    lowest = int(frequencies[:, 0].argmin())
    if frequencies[lowest, 0] >= -tolerance_THz:
        return None
    a, b, c = (float(x) for x in q_points[lowest])
    is_negative = sampled.frequencies_THz < -tolerance_THz
    return Imaginary(
        lowest_THz=float(frequencies[lowest, 0]),
        q_point=(a, b, c),
        is_computed=bool((at_fitting < -tolerance_THz).any()),
        n_modes=int((is_negative.sum(axis=1) * sampled.weights).sum()),
        n_mesh_modes=int(sampled.weights.sum() * is_negative.shape[1]),
    )


def run_thermal(
    phonon: Phonopy, temperatures_K: Float[np.ndarray, "temperatures"]
) -> Thermal:
    """Compute thermal properties from the mesh that was run last.

    The three acoustic modes at Gamma, whose frequency is zero, are left out.

    Args:
        phonon: phonopy's object with a mesh.
        temperatures_K: Temperatures, K.
    """
    found = phonon.run_thermal_properties(
        temperatures=temperatures_K, exclude_gamma_acoustic=True
    )
    assert found.free_energy is not None
    assert found.entropy is not None
    assert found.heat_capacity is not None
    assert found.zero_point_energy is not None
    return Thermal(
        temperature_K=temperatures_K,
        free_energy_kJ_per_mol=np.array(found.free_energy),
        entropy_J_per_K_per_mol=np.array(found.entropy),
        heat_capacity_J_per_K_per_mol=np.array(found.heat_capacity),
        zero_point_energy=float(found.zero_point_energy) * KJ_PER_MOL,
    )


def _run_states(
    phonon: Phonopy, mesh: tuple[int, int, int], sampled: Sampled
) -> States:
    low = min(0.0, float(sampled.frequencies_THz.min()))
    high = float(sampled.frequencies_THz.max())
    margin = max(_MARGIN * (high - low), 0.01)
    pitch = (high - low + 2 * margin) / (DOS_POINTS - 1)
    # both from one mesh: with its symmetry tetrahedra are others, and parts would not
    # add up to the whole
    run_mesh(phonon, mesh)
    total = phonon.run_total_dos(
        freq_min=low - margin, freq_max=high + margin, freq_pitch=pitch
    )
    projected = phonon.run_projected_dos(
        freq_min=low - margin, freq_max=high + margin, freq_pitch=pitch
    )
    assert total.dos is not None
    assert projected.projected_dos is not None
    by_element: dict[str, Float[np.ndarray, "frequencies"]] = {}
    symbols = phonon.primitive.symbols
    for symbol, own in zip(symbols, projected.projected_dos, strict=True):
        by_element[symbol] = by_element.get(symbol, 0.0) + np.array(own)
    return States(
        frequency_THz=np.array(total.frequency_points),
        total=np.array(total.dos),
        by_element=by_element,
    )
