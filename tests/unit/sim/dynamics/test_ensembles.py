from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixCom

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES
from jmp_calc.sim.dynamics.integrators import BUILDERS, build_dynamics, prepare
from jmp_calc.sim.dynamics.md import run_md
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings
from jmp_calc.sim.dynamics.velocities import usual_timestep_fs
from jmp_calc.units import KB

FIXED_CELL = [name for name, kind in ENSEMBLES.items() if not kind.has_barostat]


def read_csv(path):
    return np.genfromtxt(path, delimiter=",", names=True)


def prepared(atoms, **settings):
    return prepare(atoms, MDSettings(**settings), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "expected"), [("ethanol", 3 * 9 - 3), ("slab", 3 * 4), ("crystal", 3 * 7)]
)
def test_langevin_gives_each_true_degree_of_freedom_half_kt(name, expected, request):
    atoms = request.getfixturevalue(name)()
    settings = MDSettings(temperature_K=300.0, timestep_fs=1.0, friction_per_fs=0.1)
    rng = np.random.default_rng(0)
    system, _ = prepare(atoms, settings, rng)
    dynamics = build_dynamics(system, settings, rng)
    kinetic = np.array([system.get_kinetic_energy() for _ in dynamics.irun(5000)])
    half_kt = 0.5 * KB * 300.0
    # kinetic energy correlates over 1 / (2 g) = 5 steps: 5000 steps are 500 samples,
    # whose mean is known to 1.3 to 1.8 % and whose variance to 6 to 8 %
    error = np.sqrt(2.0 / expected / 500)
    assert abs(kinetic.mean() / (expected * half_kt) - 1.0) < 3.0 * error
    variance = 2.0 * expected * half_kt**2
    assert kinetic.var() == pytest.approx(variance, rel=3.0 * np.sqrt(2.0 / 500))
    assert system.get_number_of_degrees_of_freedom() == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("ethanol", 24), ("slab", 12), ("crystal", 21)]
)
def test_a_run_reports_temperature_over_the_true_degrees_of_freedom(
    name, expected, request, tmp_path
):
    atoms = request.getfixturevalue(name)()
    settings = MDSettings(timestep_fs=1.0, friction_per_fs=0.2, steps=800)
    record = RecordSettings(log_stride=2)
    result = run_md(atoms, settings, record=record, out=tmp_path)
    assert result.degrees_of_freedom == expected
    assert result.mean_temperature_K == pytest.approx(300.0, rel=0.12)
    row = read_csv(result.files.observables)[-1]
    assert row["temperature_K"] == pytest.approx(
        2.0 * row["kinetic_energy_eV"] / (expected * KB)
    )


def test_every_ensemble_has_a_builder() -> None:
    assert list(BUILDERS) == list(ENSEMBLES)


def test_new_velocities_have_exactly_the_temperature_and_no_total_momentum(ethanol):
    system, is_new = prepared(ethanol(), temperature_K=300.0)
    assert is_new
    assert system.get_kinetic_energy() == pytest.approx(0.5 * 24 * KB * 300.0)
    assert np.abs(system.get_momenta().sum(axis=0)).max() < 1e-12


def test_new_velocities_of_a_slab_leave_fixed_atoms_at_rest(slab):
    system, _ = prepared(slab(), temperature_K=300.0)
    fixed = system.constraints[0].index
    assert not system.get_momenta()[fixed].any()
    assert system.get_kinetic_energy() == pytest.approx(0.5 * 12 * KB * 300.0)


def test_velocities_of_the_input_are_kept(ethanol):
    atoms = ethanol()
    momenta = np.random.default_rng(3).normal(size=(9, 3))
    momenta -= atoms.get_masses()[:, None] * momenta.sum(0) / atoms.get_masses().sum()
    atoms.set_momenta(momenta)
    system, is_new = prepared(atoms)
    assert not is_new
    assert system.get_momenta() == pytest.approx(momenta)


def test_zero_temperature_gives_atoms_at_rest(ethanol):
    system, _ = prepared(ethanol(), temperature_K=0.0)
    assert not system.get_momenta().any()


def test_the_center_of_mass_is_fixed_only_without_constraints(ethanol, slab):
    assert [type(c) for c in prepared(ethanol())[0].constraints] == [FixCom]
    assert [type(c) for c in prepared(slab())[0].constraints] == [FixAtoms]


def test_the_input_is_not_changed(ethanol, tmp_path):
    atoms = ethanol()
    before = atoms.copy()
    run_md(atoms, MDSettings(steps=5), out=tmp_path)
    assert atoms == before
    assert not atoms.constraints
    assert not atoms.has("momenta")


@pytest.mark.parametrize("ensemble", FIXED_CELL)
def test_fixed_atoms_stay_and_free_ones_move(ensemble, slab, tmp_path):
    atoms = slab()
    end = run_md(atoms, MDSettings(ensemble=ensemble, steps=50), out=tmp_path).atoms
    moved = np.abs(end.positions - atoms.positions).max(axis=1)
    fixed = atoms.constraints[0].index
    assert not moved[fixed].any()
    assert np.delete(moved, fixed).min() > 1e-3


@pytest.mark.parametrize("ensemble", FIXED_CELL)
def test_the_center_of_mass_of_a_molecule_stays(ensemble, ethanol, tmp_path):
    atoms = ethanol()
    end = run_md(atoms, MDSettings(ensemble=ensemble, steps=200), out=tmp_path).atoms
    shift = end.get_center_of_mass() - atoms.get_center_of_mass()
    assert np.abs(shift).max() < 1e-10


@pytest.mark.parametrize("ensemble", FIXED_CELL)
def test_a_lone_atom_moves_with_three_degrees_of_freedom(ensemble, tmp_path):
    from ase.calculators.lj import LennardJones

    atoms = Atoms("He", calculator=LennardJones())
    settings = MDSettings(ensemble=ensemble, steps=5)
    assert run_md(atoms, settings, out=tmp_path).degrees_of_freedom == 3


def test_a_seed_fixes_the_run_and_another_changes_it(ethanol, tmp_path):
    def last(seed, name):
        settings = MDSettings(steps=20, seed=seed)
        return run_md(ethanol(), settings, out=tmp_path / name).atoms.positions

    assert np.array_equal(last(1, "a"), last(1, "b"))
    assert not np.allclose(last(1, "c"), last(2, "d"))


def test_the_global_random_state_is_not_touched(ethanol, tmp_path):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must rest)
    run_md(ethanol(), MDSettings(steps=5), out=tmp_path)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("mass", [0.0, float("nan")])
def test_a_mass_that_is_none_is_named(mass, ethanol):
    atoms = ethanol()
    atoms.set_masses([12.0] * 8 + [mass])
    with pytest.raises(UnsupportedSystemError, match=f"atom 8 has mass {mass}; give"):
        prepared(atoms)


def test_a_velocity_that_is_not_finite_is_named(ethanol):
    atoms = ethanol()
    atoms.set_momenta(np.full((9, 3), np.nan))
    with pytest.raises(UnsupportedSystemError, match=r"velocity of atom 0.*not finite"):
        prepared(atoms)


def test_the_usual_time_step_follows_the_lightest_atom(ethanol, crystal):
    assert usual_timestep_fs(ethanol()) == pytest.approx(1.0, rel=0.01)
    assert usual_timestep_fs(crystal()) == pytest.approx(np.sqrt(63.546), rel=0.01)


def test_center_of_mass_next_to_fixed_atoms_is_refused(slab):
    atoms = slab()
    atoms.set_constraint([*atoms.constraints, FixCom()])
    with pytest.raises(ArgumentError, match=r"FixAtoms, FixCom.*remove FixCom"):
        prepared(atoms)


def test_a_structure_that_cannot_move_is_refused(ethanol):
    atoms = ethanol()
    atoms.set_constraint(FixAtoms(range(9)))
    with pytest.raises(UnsupportedSystemError, match="all 9 atoms are fixed"):
        prepared(atoms)


def test_an_unknown_ensemble_lists_the_known_ones(ethanol):
    settings = MDSettings(ensemble="nvtt")
    with pytest.raises(ArgumentError, match=r"'nvtt'; choose one of nve, nvt, .*; did"):
        build_dynamics(ethanol(), settings, np.random.default_rng(0))
