"""Diffusion and vibrations of motions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.constraints import FixAtoms

from jmp_calc.sim.analysis.diffusion import fit_diffusion, mean_squared_displacement
from jmp_calc.sim.analysis.motion import Motion
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.analysis.unwrap import Unwrapper
from jmp_calc.sim.analysis.vibrations import internal_velocities, velocity_spectrum
from jmp_calc.units import PER_CM_PER_THZ


def random_walk(n_frames: int, n_atoms: int, step: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0, step, (n_frames, n_atoms, 3)), axis=0)


def sections_of(frames, interval_ps: float, **settings) -> dict:
    motion = Motion(frames[0], AnalysisSettings(**settings))
    for number, atoms in enumerate(frames):
        motion.add(atoms, number * interval_ps)
    return {section.key: section for section in motion.sections()}


def test_displacements_are_those_of_brute_force() -> None:
    paths = random_walk(60, 300, 0.3) + 1000.0
    wanted = [0.0] + [
        np.mean(np.sum((paths[k:] - paths[:-k]) ** 2, axis=2)) for k in range(1, 60)
    ]
    np.testing.assert_allclose(
        mean_squared_displacement(paths), wanted, rtol=1e-9, atol=1e-9
    )


def test_free_flight_grows_with_the_square_of_time() -> None:
    velocity = np.random.default_rng(0).normal(0, 1, (20, 3))
    paths = np.arange(100)[:, None, None] * 0.1 * velocity
    wanted = np.mean(np.sum(velocity**2, axis=1)) * (0.1 * np.arange(100)) ** 2
    np.testing.assert_allclose(
        mean_squared_displacement(paths), wanted, rtol=1e-8, atol=1e-8
    )
    fit = fit_diffusion(paths, 0.1, 0.1, 1.0)
    assert fit.exponent == pytest.approx(2.0, abs=1e-6)


def test_the_diffusion_coefficient_of_a_random_walk_and_its_error() -> None:
    # D = step^2 / (2 dt) = 0.1
    found, errors = [], []
    for seed in range(150):
        fit = fit_diffusion(random_walk(400, 20, 0.1, seed), 0.05, 0.1, 2.0)
        found.append(fit.coefficient)
        errors.append(fit.error)
    assert np.mean(found) == pytest.approx(0.1, abs=4 * np.std(found) / np.sqrt(150))
    # the spread of 150 is known to 6 %, errors of five parts are somewhat too large
    size = np.sqrt(np.mean(np.square(errors))) / np.std(found)
    assert 0.9 < size < 1.4
    # Student's t with 4 degrees of freedom is within 1 in 63 %
    is_near = np.abs(np.array(found) - 0.1) < errors
    assert 0.5 < is_near.mean() < 0.8
    fit = fit_diffusion(random_walk(2000, 500, 0.1), 0.05, 0.1, 1.0)
    assert fit.coefficient == pytest.approx(0.1, rel=0.02)
    assert fit.error < 0.002


def test_atoms_that_rattle_at_their_places_do_not_diffuse() -> None:
    rng = np.random.default_rng(0)
    # pulled back within 0.5 ps
    offsets, frames = np.zeros((32, 3)), []
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    for _ in range(600):
        offsets = 0.9 * offsets + rng.normal(0, 0.05, (32, 3))
        frame = crystal.copy()
        frame.positions += offsets
        frames.append(frame)
    for start, stop in ((0.1, 2.0), (0.5, 2.0), (0.05, 1.0)):
        section = sections_of(frames, 0.05, fit_start_ps=start, fit_stop_ps=stop)["msd"]
        facts = {fact.name: fact for fact in section.facts}
        assert str(facts["D of Cu"].value).startswith("none: in the range of the fit")


def test_ways_within_a_rattle_are_told() -> None:
    paths = random_walk(800, 40, 0.02)
    frames = [Atoms("Ar40", positions=p, cell=[9, 9, 9], pbc=True) for p in paths]
    section = sections_of(frames, 0.05)["msd"]
    assert "atoms move by less than 1 Å in the range of the fit" in section.notes[0]


def test_too_few_frames_give_no_coefficient() -> None:
    assert fit_diffusion(random_walk(20, 5, 0.1), 0.1, 0.1, 0.2) is None
    assert fit_diffusion(random_walk(20, 5, 0.1), 0.1, 0.1, 5.0) is None


CELLS = {
    "cubic": np.diag([6.0, 7.0, 8.0]),
    "skewed": np.array([[6.0, 0, 0], [3.0, 7.0, 0], [-2.0, 1.0, 8.0]]),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("is_wrapped", [True, False])
def test_walks_are_followed_through_the_boundaries(cell, is_wrapped) -> None:
    paths = random_walk(300, 10, 0.5)
    follower, start = Unwrapper(), None
    for positions in paths:
        atoms = Atoms("Ar10", positions=positions, cell=CELLS[cell], pbc=True)
        if is_wrapped:
            atoms.wrap()
        found = follower.follow(atoms)
        start = start if follower.largest_step else found - positions
    np.testing.assert_allclose(found - start, paths[-1], atol=1e-8)
    assert 0.1 < follower.largest_step < 0.5


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_breathing_cell_moves_no_atom(is_wrapped) -> None:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.positions += 100.0
    follower = Unwrapper()
    start = follower.follow(atoms).copy()
    for k in range(200):
        frame = atoms.copy()
        frame.set_cell(atoms.cell * (1 + 0.05 * np.sin(k)), scale_atoms=True)
        if is_wrapped:
            frame.wrap()
        found = follower.follow(frame)
    np.testing.assert_allclose(found, start, atol=1e-9)


def test_a_walk_in_a_breathing_cell_has_its_diffusion_coefficient() -> None:
    rng = np.random.default_rng(3)
    frames, fractions = [], rng.random((100, 3))
    for k in range(1500):
        edge = 12.0 * (1 + 0.05 * np.sin(0.3 * k))
        fractions = fractions + rng.normal(0, 0.1, (100, 3)) / edge
        atoms = Atoms("Ar100", cell=[edge] * 3, pbc=True)
        atoms.set_scaled_positions(fractions % 1.0)
        frames.append(atoms)
    facts = {f.name: f for f in sections_of(frames, 0.05)["msd"].facts}
    found = facts["D of Ar"]
    # 0.1, less 1 % for the centre of mass at rest
    assert found.value == pytest.approx(0.099, abs=4 * found.error)
    assert found.value == pytest.approx(0.099, rel=0.1)
    assert facts["D of Ar in cm²/s"].value == pytest.approx(found.value * 1e-4)


def test_the_drift_of_the_whole_is_no_diffusion() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    frames = []
    for k in range(50):
        frame = atoms.copy()
        frame.positions += [0.3 * k, 0.0, 0.0]
        frames.append(frame)
    section = sections_of(frames, 0.1)["msd"]
    assert "no atom moves with respect to the whole" in section.notes[0]
    rng = np.random.default_rng(0)
    for frame in frames:
        frame.positions += rng.normal(0, 0.01, (8, 3))
    section = sections_of(frames, 0.1)["msd"]
    # six times the variance, but for that of the centre of mass
    assert 4e-4 < section.columns["msd_all_A2"][10] < 7e-4
    assert set(section.columns) == {"time_ps", "msd_all_A2", "msd_Na_A2", "msd_Cl_A2"}


def test_what_is_at_rest_is_the_centre_of_mass() -> None:
    # the light atom moves by 0.9 of the way, the heavy one by 0.1 against it
    atoms = Atoms("HLi", positions=[[0, 0, 0], [3, 0, 0]], cell=[9, 9, 9], pbc=True)
    atoms.set_masses([1.0, 9.0])
    frames = []
    for k in range(30):
        frame = atoms.copy()
        frame.positions[:, 0] += np.array([0.9, -0.1]) * k + 0.5 * k
        frame.wrap()
        frames.append(frame)
    section = sections_of(frames, 0.1)["msd"]
    for element, way in (("H", 0.9), ("Li", 0.1)):
        found = section.columns[f"msd_{element}_A2"]
        np.testing.assert_allclose(found, (way * np.arange(len(found))) ** 2, atol=1e-9)


def test_fixed_atoms_are_left_out_and_hold_the_frame() -> None:
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [2.5, 0, 0]], cell=[8, 8, 8], pbc=True)
    atoms.set_constraint(FixAtoms([0]))
    frames = []
    for k in range(30):
        frame = atoms.copy()
        frame.positions[1, 0] += 0.2 * k
        frames.append(frame)
    section = sections_of(frames, 0.1)["msd"]
    np.testing.assert_allclose(
        section.columns["msd_Cu_A2"], (0.2 * np.arange(15)) ** 2, atol=1e-9
    )


def test_only_motion_along_the_periods_counts() -> None:
    paths = random_walk(2000, 40, 0.1)
    paths[:, :, 2] *= 3.0
    frames = [
        Atoms("Ar40", positions=p, cell=[9, 9, 0], pbc=[True, True, False])
        for p in paths
    ]
    facts = {f.name: f for f in sections_of(frames, 0.05)["msd"].facts}
    assert facts["D of Ar"].value == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("is_crystal", [True, False])
def test_what_cannot_be_told_is_left_out_with_a_reason(is_crystal) -> None:
    atoms = bulk("Cu") if is_crystal else molecule("H2O")
    motion = Motion(atoms, AnalysisSettings())
    motion.add(atoms, None)
    motion.add(atoms, None)
    diffusion, vibrations = motion.sections()
    reason = "the frames tell no time" if is_crystal else "a molecule without cell"
    assert reason in diffusion.notes[0]
    assert "the frames have no velocities" in vibrations.notes[0]


def test_jumps_that_are_ambiguous_are_told() -> None:
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [2, 2, 2]], cell=[5, 5, 5], pbc=True)
    frames = []
    for k in range(10):
        frame = atoms.copy()
        frame.positions[0, 0] = 2.4 * k
        frame.wrap()
        frames.append(frame)
    assert "moved by 0.48 of the cell" in sections_of(frames, 1.0)["msd"].notes[0]


def test_frames_out_of_turn_are_left_out() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    motion = Motion(atoms, AnalysisSettings(only=("msd",)))
    for time in (0.0, 0.1, 0.2, 0.3, 0.35, 0.4):
        atoms.positions[0] += 0.1
        motion.add(atoms, time)
    (section,) = motion.sections()
    assert "the last 2 of 6 frames are left out" in section.notes[0]
    np.testing.assert_allclose(section.columns["time_ps"], [0.0, 0.1])


def oscillators(frequency_THz: dict[str, float], n_frames: int, dt_ps: float):
    """Velocities of harmonic oscillators with random phases, 40 of each element."""
    rng = np.random.default_rng(0)
    velocities, symbols, masses = [], [], []
    time = dt_ps * np.arange(n_frames)[:, None, None]
    for symbol, frequency in frequency_THz.items():
        mass = Atoms(symbol).get_masses()[0]
        phases = rng.uniform(0, 2 * np.pi, (40, 3))
        velocities.append(np.cos(2 * np.pi * frequency * time + phases) / np.sqrt(mass))
        symbols += [symbol] * 40
        masses += [mass] * 40
    return np.concatenate(velocities, axis=1), symbols, np.array(masses)


def test_oscillators_give_lines_of_their_frequency_width_and_weight() -> None:
    velocities, symbols, masses = oscillators({"H": 90.0, "C": 35.0}, 4000, 0.001)
    spectrum = velocity_spectrum(
        velocities, symbols, masses, timestep=0.001, resolution=0.5
    )
    grid = spectrum.frequency[1]
    area = {name: np.sum(curve) * grid for name, curve in spectrum.density.items()}
    # equal kinetic energy of both, so equal weight
    assert area["total"] == pytest.approx(1.0, abs=1e-3)
    assert area["H"] == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(
        spectrum.density["total"],
        spectrum.density["H"] + spectrum.density["C"],
        atol=1e-9,
    )
    for name, frequency in (("H", 90.0), ("C", 35.0)):
        curve = spectrum.density[name]
        peak = spectrum.frequency[np.argmax(curve)]
        assert peak == pytest.approx(frequency, abs=grid)
        width = np.sum(curve > curve.max() / 2) * grid
        assert width == pytest.approx(0.5, abs=2 * grid)
        np.testing.assert_allclose(
            spectrum.correlation[name][:50],
            np.cos(2 * np.pi * frequency * spectrum.time[:50]),
            atol=0.02,
        )


def test_the_peak_of_a_diatomic_is_its_frequency() -> None:
    """Velocity Verlet of a spring: sqrt(k / mu), which gives 24.9 THz here."""
    constant, masses = 30.0, np.array([12.0, 16.0])
    reduced = masses.prod() / masses.sum()
    frequency = np.sqrt(constant / reduced) / (2 * np.pi) * units.fs * 1000.0
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]], masses=masses)
    atoms.set_velocities([[0.01, 0, 0], [0, 0, 0]])
    frames, dt = [], 0.5 * units.fs
    velocity, positions = atoms.get_velocities(), atoms.positions.copy()

    def acceleration(positions):
        bond = positions[1] - positions[0]
        length = np.linalg.norm(bond)
        pull = constant * (length - 1.1) * bond / length
        return np.array([pull / masses[0], -pull / masses[1]])

    now = acceleration(positions)
    for step in range(8000):
        velocity = velocity + 0.5 * dt * now
        positions = positions + dt * velocity
        now = acceleration(positions)
        velocity = velocity + 0.5 * dt * now
        if step % 4 == 0:
            frame = atoms.copy()
            frame.positions[:] = positions
            frame.set_velocities(velocity)
            frames.append(frame)
    section = sections_of(frames, 0.002)["vdos"]
    curve = section.columns["vdos_total_per_THz"]
    peak = section.columns["frequency_THz"][np.argmax(curve)]
    # the grid is 0.04 THz, and the time step shifts by (w dt)^2 / 24 = 0.03 %
    assert peak == pytest.approx(frequency, abs=0.06)
    peaks = [f for f in section.facts if f.name.startswith("peak at")]
    assert peaks[0].value.startswith(f"{peak * PER_CM_PER_THZ:.0f} cm⁻¹")


def test_a_turning_and_flying_molecule_has_no_internal_velocity() -> None:
    for name in ("CO2", "CH3CH2OH"):
        atoms = molecule(name)
        spin = np.cross([0.3, -0.2, 0.5], atoms.positions - [1.0, 2.0, 3.0])
        atoms.set_velocities(spin + np.array([1.0, 0.0, -1.0]))
        assert np.abs(internal_velocities(atoms)).max() < 1e-10


def test_frames_too_far_apart_for_the_element_are_told() -> None:
    frames = []
    for k in range(60):
        atoms = molecule("H2O")
        atoms.set_velocities(np.sin(k) * np.ones((3, 3)) * [[1], [-1], [0]])
        frames.append(atoms)
    notes = sections_of(frames, 0.010)["vdos"].notes
    assert "frames every 10 fs show frequencies up to 50 THz (1668 cm⁻¹)" in notes[0]
    assert "write frames every 4.2 fs" in notes[0]
    frames = []
    for k in range(60):
        atoms = bulk("Cu", cubic=True)
        atoms.set_velocities(np.sin(k) * np.ones((4, 3)) * [[1], [-1], [0], [0]])
        frames.append(atoms)
    # copper has nothing above 8 THz
    assert sections_of(frames, 0.016)["vdos"].notes == ()
