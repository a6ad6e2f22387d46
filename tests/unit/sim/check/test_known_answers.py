"""Good calculators pass every test; broken ones fail the tests of what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.check.check import TESTS, CheckResult, run_check
from jmp_calc.sim.check.settings import TEST_NAMES, CheckSettings
from jmp_calc.sim.check.systems import SYSTEMS, choose_systems, water_box
from jmp_calc.units import GPA
from toys import broken
from toys.springs import springs_between_neighbors

QUICK = CheckSettings(quick=True)
STILL = CheckSettings(
    quick=True, only=tuple(x for x in TEST_NAMES if x != "nve"), reach_A=4.0
)
"""Without dynamics, for which one wrong thing leads to another."""
SHORT = replace(
    STILL, only=tuple(x for x in STILL.only if x not in ("cutoff", "ranks"))
)
"""Without what takes long, too."""


def alloy() -> Atoms:
    """Two atoms of different kind in a cell without right angles or equal sides."""
    return Atoms(
        "CuAu",
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.45]],
        cell=[[3.0, 0.1, 0.0], [0.0, 3.1, 0.2], [0.1, 0.0, 3.2]],
        pbc=True,
    )


def trimer() -> Atoms:
    return Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [1.9, 3.2, 0]])


def argon() -> Atoms:
    return bulk("Ar", a=5.26, cubic=True)


def row(result: CheckResult, test: str, quantity: str):
    return next(m for m in result.measurements[test] if m.quantity == quantity)


@pytest.mark.parametrize(
    ("atoms", "calculator"),
    [
        (alloy(), EMT()),
        (molecule("CH3CH2OH"), EMT()),
        (trimer(), broken.argon(smooth=True)),
        (argon(), broken.argon(smooth=True)),
    ],
    ids=["emt-alloy", "emt-molecule", "lj-cluster", "lj-crystal"],
)
def test_a_good_calculator_passes_everything(
    atoms: Atoms, calculator: Calculator
) -> None:
    result = run_check(atoms, QUICK, calculator=calculator)
    assert result.failed == []
    assert list(result.measurements) == list(TEST_NAMES)


def test_springs_pass_what_makes_sense_for_them() -> None:
    # their bonds are a list: other atoms, or more of them, have none
    names = [x for x in TEST_NAMES if x not in ("permutation", "supercell")]
    names = [x for x in names if x != "translation"]
    water = molecule("H2O")
    settings = CheckSettings(quick=True, only=tuple(names))
    calculator = springs_between_neighbors(water, cutoff=1.1, stiffness=30.0)
    assert run_check(water, settings, calculator=calculator).failed == []


def ethanol() -> Atoms:
    return molecule("CH3CH2OH")


def water() -> Atoms:
    return molecule("H2O")


WRONG: dict[str, tuple[Callable, Callable[[], Atoms], list[str]]] = {
    "sign": (broken.against, ethanol, ["forces"]),
    "curl": (broken.swirl, ethanol, ["forces", "curl"]),
    "one percent": (broken.scaled, ethanol, ["forces"]),
    "stress as pressure": (broken.wrong_sign, alloy, ["stress"]),
    "stress lacks a term": (broken.half_stressed, alloy, ["stress"]),
    "a direction": (broken.directional, water, ["torque", "rotation"]),
    "not extensive": (broken.growing, alloy, ["supercell"]),
    "order of atoms": (broken.ordered, water, ["permutation"]),
    "few digits": (broken.noisy, ethanol, ["noise"]),
    "single precision": (broken.single, ethanol, ["noise"]),
    "180 degrees": (broken.torn, ethanol, ["collinear"]),
    "a place": (
        broken.placed,
        ethanol,
        ["net-force", "torque", "translation", "rotation"],
    ),
}
"""What is wrong with EMT, and the tests but that of dynamics which must say so."""
WRONG_ALONE: dict[str, tuple[Callable[[], Calculator], Callable[[], Atoms]]] = {
    "elements": (EMT, lambda: bulk("Fe")),
    "cutoff": (lambda: broken.argon(smooth=False), argon),
    "ranks": (lambda: broken.Nearest(count=9), argon),
    "nve": (lambda: broken.Changed(broken.swirl), ethanol),
}
"""Test -> what fails it."""


@pytest.mark.parametrize(("change", "make", "expected"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_fails_its_tests_and_no_others(
    change: Callable[..., None], make: Callable[[], Atoms], expected: list[str]
) -> None:
    result = run_check(make(), SHORT, calculator=broken.Changed(change))
    assert result.failed == expected


@pytest.mark.parametrize("name", WRONG_ALONE)
def test_what_is_wrong_alone_fails_its_test(name: str) -> None:
    build, make = WRONG_ALONE[name]
    settings = CheckSettings(quick=True, only=(name,))
    assert run_check(make(), settings, calculator=build()).failed == [name]


def test_each_test_has_been_seen_to_fail() -> None:
    seen = {name for *_, expected in WRONG.values() for name in expected}
    assert seen | set(WRONG_ALONE) == set(TEST_NAMES)


def test_the_error_of_the_integrator_falls_with_the_square_of_the_time_step() -> None:
    # so what the stiffest bond scatters at the default is no fault of the calculator
    scatter = []
    for timestep_fs, steps in ((0.5, 200), (0.25, 400), (0.125, 800)):
        settings = CheckSettings(
            only=("nve",), timestep_fs=timestep_fs, nve_steps=steps
        )
        result = run_check(molecule("H2"), settings, calculator=EMT())
        scatter.append(row(result, "nve", "scatter"))
    assert scatter[0].value / scatter[1].value == pytest.approx(4.0, rel=0.15)
    assert scatter[1].value / scatter[2].value == pytest.approx(4.0, rel=0.05)
    assert [m.status for m in scatter] == ["FAIL", "pass", "pass"]
    default = CheckSettings(only=("nve",), quick=True)
    assert run_check(molecule("H2"), default, calculator=EMT()).failed == []


@pytest.mark.parametrize(
    ("make", "is_quick"), [(alloy, False), (ethanol, True), (trimer, True)]
)
def test_the_number_of_evaluations_is_known_before(make, is_quick) -> None:
    told: list[tuple[str, int, int]] = []
    run_check(
        make(),
        CheckSettings(quick=is_quick, nve_steps=100),
        calculator=EMT() if make is not trimer else broken.argon(smooth=True),
        progress=lambda *now: told.append(now),
    )
    done, expected = [now[1] for now in told], [now[2] for now in told]
    assert done == sorted(done)
    assert expected[0] == pytest.approx(done[-1], rel=0.03)
    assert expected[-1] == done[-1]


def test_a_hard_cutoff_is_found_where_the_atom_leaves_it() -> None:
    result = run_check(trimer(), STILL, calculator=broken.argon(smooth=False))
    assert result.failed == ["cutoff"]
    jump = row(result, "cutoff", "force jump")
    # the force of Lennard-Jones at 5.5 angstrom
    force = 24 * 0.0104 / 5.5 * ((3.4 / 5.5) ** 6 - 2 * (3.4 / 5.5) ** 12)
    # the largest component, of a vector that is nearly along x
    assert jump.value == pytest.approx(force, rel=0.02)
    assert row(result, "cutoff", "energy jump").status == "pass"


def test_a_hard_cutoff_is_found_in_a_crystal() -> None:
    settings = CheckSettings(quick=True, only=("cutoff",))
    result = run_check(argon(), settings, calculator=broken.argon(smooth=False))
    jump = row(result, "cutoff", "stress jump")
    # six images at the length of the cell, each for two atoms, at once along an axis
    force = 24 * 0.0104 / 5.5 * ((3.4 / 5.5) ** 6 - 2 * (3.4 / 5.5) ** 12)
    expected = 4 * 5.5 * force / 5.5**3 / GPA
    assert jump.value == pytest.approx(expected, rel=0.01)
    assert jump.note == f"lengths times {5.5 / 5.26:.4f}"


def test_an_energy_that_is_cut_off_jumps() -> None:
    settings = CheckSettings(quick=True, only=("cutoff",))
    result = run_check(trimer(), settings, calculator=broken.Cut())
    assert row(result, "cutoff", "energy jump").value == pytest.approx(0.01, rel=1e-3)
    assert "Ar" in row(result, "cutoff", "energy jump").note


def test_a_structure_that_is_refused_fails_the_test_of_elements_alone() -> None:
    result = run_check(bulk("Fe"), QUICK, calculator=EMT())
    assert result.failed == ["elements"]
    assert list(result.measurements) == ["elements"]
    assert "Fe" in result.measurements["elements"][0].note


def test_forces_that_are_not_finite_fail() -> None:
    settings = CheckSettings(quick=True, only=("collinear",))
    calculator = broken.Changed(broken.undefined)
    result = run_check(molecule("CH3CH2OH"), settings, calculator=calculator)
    assert result.failed == ["collinear"]
    assert "not finite" in result.measurements["collinear"][0].note


def test_what_noise_hides_is_not_said_to_pass() -> None:
    settings = CheckSettings(quick=True, only=("forces",))
    result = run_check(alloy(), settings, calculator=broken.Changed(broken.noisy))
    assert result.measurements["forces"][0].status == "not applicable"
    assert "noise" in result.measurements["forces"][0].note
    assert result.hidden == ["forces"]
    # so the test of noise is done unasked
    assert result.failed == ["noise"]


def test_what_a_lone_atom_cannot_show_is_not_said_to_pass() -> None:
    # its images move with it, and no force acts on it
    settings = CheckSettings(quick=True, only=("forces", "ranks", "nve"))
    result = run_check(bulk("Cu"), settings, calculator=EMT())
    statuses = {found[0].status for found in result.measurements.values()}
    assert statuses == {"not applicable"}


def test_what_is_found_is_told_test_by_test() -> None:
    told: list[str] = []
    settings = CheckSettings(quick=True, only=("elements", "stress", "curl"))

    def report(name: str, found: list) -> None:
        told.append(name)
        assert found

    result = run_check(alloy(), settings, calculator=EMT(), report=report)
    assert told == list(result.measurements) == ["elements", "stress", "curl"]


def test_the_structure_is_left_as_it_is() -> None:
    atoms = alloy()
    before = atoms.copy()
    run_check(atoms, SHORT, calculator=EMT())
    assert atoms == before
    assert atoms.calc is None


def test_the_table_of_tests_is_that_of_the_settings() -> None:
    assert tuple(TESTS) == TEST_NAMES


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"only": ("curls",)}, "only is 'curls'; choose of .*did you mean 'curl'"),
        ({"shake_A": 0.0}, "shake_A is 0.0; give a number above 0"),
        ({"reach_A": -1.0}, "reach_A is -1.0"),
        ({"timestep_fs": 0.0}, "timestep_fs is 0.0"),
        ({"nve_steps": 10}, "nve_steps is 10; give 100 or more"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        CheckSettings(**setting)


def test_one_system_of_each_domain_is_chosen_and_all_molecules() -> None:
    everything = choose_systems(lambda system, atoms: True, is_quick=False)
    assert list(everything) == ["ethanol", "water-box", "Cu-slab-CO", "Cu"]
    quick = choose_systems(lambda system, atoms: True, is_quick=True)
    assert list(quick) == ["ethanol", "Cu-slab-CO", "Cu"]
    silicon = choose_systems(lambda s, atoms: "Si" in atoms.symbols, is_quick=False)
    assert list(silicon) == ["Si"]


def test_molecules_in_the_box_of_water_do_not_touch() -> None:
    atoms = water_box()
    distances = atoms.get_all_distances(mic=True)
    other = [[i // 3 != j // 3 for j in range(24)] for i in range(24)]
    assert distances[other].min() > 1.4
    # g/cm^3 from amu/angstrom^3
    assert atoms.get_masses().sum() / atoms.get_volume() * 1.66054 == pytest.approx(
        1.0, abs=0.01
    )


def test_names_of_systems_are_unique() -> None:
    names = [system.name for system in SYSTEMS]
    assert len(set(names)) == len(names)
