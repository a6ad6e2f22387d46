"""Bands between structures: barriers that are known from elsewhere."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixedPlane
from ase.io import read
from ase.optimize import BFGS

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import OneByOne
from jmp_calc.sim.neb.calculation import run_neb
from jmp_calc.sim.neb.ends import interpolated
from jmp_calc.sim.neb.settings import NebSettings
from jmp_calc.sim.scan.calculation import run_scan
from jmp_calc.sim.scan.settings import ScanSettings
from jmp_calc.sim.side_by_side import relax_together

# of the slope of the double well: first well, saddle, second well
ROOTS = np.sort(np.roots([4 * 0.6, 0, -4 * 0.6, 0.1]).real)
BARRIER = float(np.polyval([0.6, 0, -1.2, 0.1, 0.6], ROOTS[:2]) @ [-1, 1])
# forces of 0.05 at a curvature of 2.4 or more leave 0.05^2/2/2.4, at either end
SLACK = 1.1e-3


class DoubleWell(Calculator):
    """Energy h (x^2 - 1)^2 + x/10 + 2 (y^2 + z^2) of the first atom."""

    implemented_properties = ("energy", "forces")
    height = 0.6

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        x, y, z = self.atoms.positions[0]
        forces = np.zeros((len(self.atoms), 3))
        slope = 4 * self.height * x * (x**2 - 1) + 0.1
        forces[0] = [-slope, -4 * y, -4 * z]
        energy = self.height * (x**2 - 1) ** 2 + 0.1 * x + 2 * (y**2 + z**2)
        self.results = {"energy": energy, "forces": forces}


class CountingCalls:
    """A calculator that remembers how many structures each call had."""

    def __init__(self, calculator) -> None:
        self.sizes: list[int] = []
        self.geometries: list[bytes] = []
        self._inner = OneByOne(calculator)

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        self.sizes.append(len(list_of_atoms))
        self.geometries += [atoms.positions.tobytes() for atoms in list_of_atoms]
        return self._inner.evaluate(list_of_atoms, properties)


def neb(systems, calculator, out, progress=None, **settings):
    return run_neb(
        systems,
        NebSettings(**settings),
        calculator=calculator,
        out=out,
        progress=progress,
    )


def two_wells() -> list[Atoms]:
    """Return end points near the wells; a second atom keeps them from turning."""
    systems = []
    for x in (-1.05, 0.95):
        atoms = Atoms("H", positions=[[x, 0.1, 0]], cell=[9, 9, 9], pbc=True)
        systems.append(atoms)
    return systems


def test_the_barrier_between_two_wells_is_found_from_both_sides(tmp_path):
    result = neb(
        two_wells(), DoubleWell(), tmp_path, relax_ends=True, fmax_eV_per_A=0.002
    )
    well, saddle, other = (0.6 * (x**2 - 1) ** 2 + 0.1 * x for x in ROOTS)
    assert result.is_converged
    # an error of the saddle point enters squared: fmax^2/2/curvature
    assert result.barrier == pytest.approx(saddle - well, abs=1e-5)
    assert result.back_barrier == pytest.approx(saddle - other, abs=1e-5)
    assert result.reaction_energy == pytest.approx(other - well, abs=1e-5)
    assert result.fitted_barrier_eV == pytest.approx(result.barrier, abs=1e-3)
    assert result.path[result.saddle].positions[0] == pytest.approx(
        [ROOTS[1], 0, 0], abs=2e-3
    )
    assert result.notes == ()


def test_all_images_go_in_one_call_and_no_geometry_is_computed_twice(tmp_path):
    counting = CountingCalls(DoubleWell())
    result = neb(two_wells(), counting, tmp_path, images=5, relax_ends=False)
    assert counting.sizes[0] == 2
    assert set(counting.sizes[1:]) == {5}
    assert len(set(counting.geometries)) == len(counting.geometries)
    assert len(result.steps) >= len(counting.sizes) - 1


@pytest.mark.parametrize("optimizer", ["fire", "lbfgs", "bfgs"])
def test_every_optimizer_ends_at_the_same_saddle(optimizer, tmp_path):
    result = neb(
        two_wells(), DoubleWell(), tmp_path, relax_ends=True, optimizer=optimizer
    )
    assert result.is_converged
    assert result.barrier == pytest.approx(BARRIER, abs=SLACK)


def gold_on_aluminium() -> list[Atoms]:
    """Return the end points of ASE's tutorial on surface diffusion."""
    slab = fcc100("Al", size=(2, 2, 3))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms(mask=slab.get_tags() > 1))
    other = slab.copy()
    other.positions[-1, 0] += slab.cell[0, 0] / 2
    return [slab, other]


def test_gold_on_aluminium_has_the_barrier_of_a_constrained_relaxation(tmp_path):
    first, last = gold_on_aluminium()
    result = neb(
        [first, last], EMT(), tmp_path, images=3, relax_ends=True, fmax_eV_per_A=0.02
    )
    # by symmetry the saddle lies half way: relax everything but x of the gold atom,
    # as in ASE's tutorial with constraints
    half = first.copy()
    half.positions[-1, 0] += first.cell[0, 0] / 4
    half.set_constraint([*first.constraints, FixedPlane(-1, (1, 0, 0))])
    heights = []
    for atoms in (first.copy(), half):
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=0.005)
        heights.append(atoms.get_potential_energy())
    assert result.barrier == pytest.approx(heights[1] - heights[0], abs=2e-3)
    assert result.barrier == pytest.approx(0.374, abs=3e-3)
    assert result.back_barrier == pytest.approx(result.barrier, abs=2e-3)
    fixed = first.get_tags() > 1
    for image in result.path:
        np.testing.assert_allclose(image.positions[fixed], first.positions[fixed])


def test_a_vacancy_in_copper_moves_over_its_symmetric_saddle(tmp_path):
    perfect = bulk("Cu", cubic=True, a=3.59) * 2
    distances = perfect.get_distances(0, range(1, 32), mic=True)
    # the last of them is on the other side of the cell
    neighbor = 1 + int(np.flatnonzero(distances < distances.min() + 0.1)[-1])
    first = perfect.copy()
    last = perfect.copy()
    # so it goes through the boundary to get there
    assert perfect.get_distance(neighbor, 0) > 5
    last.positions[neighbor] = perfect.positions[0]
    jump = perfect.get_distance(neighbor, 0, mic=True, vector=True)
    for atoms in (first, last):
        del atoms[0]
    result = neb([first, last], EMT(), tmp_path, images=3, relax_ends=True)
    half = first.copy()
    half.positions[neighbor - 1] += jump / 2
    half.set_constraint(FixedPlane(neighbor - 1, jump))
    heights = []
    for atoms in (first.copy(), half):
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=0.01)
        heights.append(atoms.get_potential_energy())
    assert result.is_converged
    assert result.barrier == pytest.approx(heights[1] - heights[0], abs=5e-3)
    assert result.notes == ()
    # no atom jumps along the path
    moves = [
        np.linalg.norm(b.positions - a.positions, axis=1).max()
        for a, b in zip(result.path, result.path[1:], strict=False)
    ]
    assert max(moves) < 1.5


def test_idpp_keeps_atoms_apart_through_the_boundary():
    # an atom goes by another one that is just on the other side of the cell
    first = Atoms("H2", [(-1.5, 0, 0), (6.0, 0.3, 0.1)], cell=[6.0] * 3, pbc=True)
    first.set_constraint(FixAtoms([1]))
    last = first.copy()
    last.set_positions([(1.5, 0, 0), (6.0, 0.3, 0.1)])
    nearest = {
        how: min(
            image.get_distance(0, 1, mic=True)
            for image in interpolated(
                first, last, NebSettings(images=5, interpolation=how)
            )
        )
        for how in ("linear", "idpp")
    }
    assert nearest["linear"] < 0.4
    assert nearest["idpp"] > 1.0


def test_a_path_can_go_on_from_what_was_written(tmp_path):
    short = neb(two_wells(), DoubleWell(), tmp_path / "1", relax_ends=True, steps=3)
    assert not short.is_converged
    assert "3 steps were not enough" in short.reason
    images = read(short.files["path"], ":")
    result = neb(images, DoubleWell(), tmp_path / "2")
    assert len(result.path) == 9
    assert result.is_converged
    assert result.barrier == pytest.approx(BARRIER, abs=SLACK)


def test_files_agree_with_the_result(tmp_path):
    result = neb(two_wells(), DoubleWell(), tmp_path, relax_ends=True, images=5)
    with result.files["table"].open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [
        float(row["relative_energy_eV"]) for row in rows
    ] == result.energies.tolist()
    saddle = read(result.files["saddle"])
    assert saddle.get_potential_energy() == pytest.approx(
        result.path[result.saddle].get_potential_energy()
    )
    with result.files["steps"].open(encoding="utf-8", newline="") as lines:
        steps = list(csv.DictReader(lines))
    assert steps[-1]["is_climbing"] == "True"
    assert float(steps[-1]["max_force_eV_per_A"]) <= 0.05


@pytest.mark.slow
def test_ethane_has_the_same_barrier_as_in_a_scan(tmp_path):
    tblite = pytest.importorskip("tblite.ase", reason="needs tblite")
    xtb = tblite.TBLite(method="GFN2-xTB", verbosity=0, cache_api=False)
    settings = ScanSettings(atoms="2,0,1,5", stop=300.0, points=3, relax=True)
    turned = run_scan(molecule("C2H6"), settings, calculator=xtb, out=tmp_path / "scan")
    ends = [turned.frames[0], turned.frames[-1]]
    result = neb(ends, xtb, tmp_path / "neb", images=5)
    assert result.is_converged
    assert result.barrier == pytest.approx(turned.relative_eV[1], abs=2e-3)
    assert result.reaction_energy == pytest.approx(0, abs=1e-3)


def test_molecules_are_turned_onto_each_other(tmp_path):
    first = molecule("H2O")
    last = first.copy()
    last.set_angle(1, 0, 2, 125)
    last.rotate(50, (1, 1, 0))
    last.translate([5, 0, 0])
    result = neb([first, last], EMT(), tmp_path, images=3, steps=1)
    assert result.fit.path[-1] < 1.0


def test_what_was_done_is_kept_if_it_is_interrupted(tmp_path):
    def stop(step):
        if step.step == 4:
            raise KeyboardInterrupt("SIGTERM")

    result = neb(two_wells(), DoubleWell(), tmp_path, progress=stop, relax_ends=True)
    assert result.status == "interrupted"
    assert result.reason == "SIGTERM in step 4"
    assert len(read(result.files["path"], ":")) == 9


def test_odd_paths_are_told(tmp_path):
    down = [two_wells()[0], two_wells()[0]]
    down[1].positions[0, 0] = -0.5
    result = neb(down, DoubleWell(), tmp_path / "1", steps=20)
    assert any("the highest image is an end point" in note for note in result.notes)
    assert any("the last end point is not at rest" in note for note in result.notes)
    wide = [two_wells()[0], two_wells()[0]]
    wide[0].positions[0, 0] = -1.8
    wide[1].positions[0, 0] = 1.8
    result = neb(wide, DoubleWell(), tmp_path / "2", images=15, steps=1)
    assert any("there is a valley on the path" in note for note in result.notes)


class Bow(Calculator):
    """Energy 0.6 (x^2 - 1)^2 + 2 (y + x^2)^2 + 2 z^2: the valley is a parabola."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        x, y, z = self.atoms.positions[0]
        off = y + x**2
        energy = 0.6 * (x**2 - 1) ** 2 + 2 * off**2 + 2 * z**2
        slope = [2.4 * x * (x**2 - 1) + 8 * off * x, 4 * off, 4 * z]
        self.results = {"energy": energy, "forces": -np.array([slope])}


def bow_path(out, **settings):
    ends = two_wells()
    for x, end in zip((-1, 1), ends, strict=True):
        end.positions[0] = [x, -1, 0]
    result = neb(ends, Bow(), out, interpolation="linear", **settings)
    places = np.array([image.positions[0] for image in result.path])
    return result, np.linalg.norm(np.diff(places, axis=0), axis=1)


@pytest.mark.parametrize("climb", [True, False])
def test_springs_keep_the_images_equally_far_apart_on_a_curve(climb, tmp_path):
    settings = {"images": 7 if climb else 6, "skip_climb": not climb}
    result, gaps = bow_path(
        tmp_path, spring_eV_per_A2=5.0, fmax_eV_per_A=0.005, **settings
    )
    assert result.is_converged
    # a difference of gaps times the stiffness is a force of the band
    assert np.ptp(gaps) < 3 * 0.005 / 5.0
    assert result.barrier == pytest.approx(0.6 if climb else 0.546, abs=2e-3)


def test_the_band_settles_before_an_image_climbs(tmp_path):
    result, _ = bow_path(tmp_path, climb_from_eV_per_A=0.2)
    before = [step for step in result.steps if not step.is_climbing]
    assert [step.is_climbing for step in result.steps] == sorted(
        step.is_climbing for step in result.steps
    )
    assert before[0].max_force_eV_per_A > 1.0
    assert before[-1].max_force_eV_per_A <= 0.2 < before[-2].max_force_eV_per_A
    assert result.steps[-1].is_climbing


def test_both_stages_share_the_steps(tmp_path):
    result, _ = bow_path(tmp_path, steps=25, fmax_eV_per_A=1e-6)
    assert result.steps[-1].is_climbing
    assert result.steps[-1].step == 25
    assert result.reason == "25 steps were not enough"


def test_end_points_that_do_not_converge_are_told(tmp_path, monkeypatch):
    def relaxed(*arguments, **named):
        ends = relax_together(*arguments, **named)
        return [ends[0], replace(ends[1], is_converged=False)]

    monkeypatch.setattr("jmp_calc.sim.neb.calculation.relax_together", relaxed)
    result = neb(two_wells(), DoubleWell(), tmp_path, relax_ends=True)
    assert not result.is_converged
    assert result.reason == "the end points did not converge"


class Slope(Calculator):
    """Energy x^2 / 10 + 2 (y^2 + z^2) of each atom: no saddle on the way down."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), changes=all_changes):
        super().calculate(atoms, properties, changes)
        stiffness = np.array([0.1, 2.0, 2.0])
        positions = self.atoms.positions
        self.results = {
            "energy": float((stiffness * positions**2).sum()),
            "forces": -2 * stiffness * positions,
        }


def test_no_image_climbs_where_there_is_no_hill(tmp_path):
    ends = [Atoms("H", [(x, 0, 0)]) for x in (-2.0, 0.0)]
    ends[0].positions[0, 1] = 0.3
    result = neb(ends, Slope(), tmp_path, images=6)
    assert result.is_converged
    assert not any(step.is_climbing for step in result.steps)
    assert (result.saddle, result.barrier) == (0, 0.0)
    assert any("there is no barrier" in note for note in result.notes)


def test_steps_count_geometries(tmp_path):
    counting = CountingCalls(DoubleWell())
    result = neb(two_wells(), counting, tmp_path, images=5)
    # the first call is for the end points, the second for the first path
    assert result.steps[-1].step == len(counting.sizes) - 2
    assert any(step.is_climbing for step in result.steps)


def test_atoms_that_change_places_are_told(tmp_path):
    first, last = gold_on_aluminium()
    order = list(range(len(first)))
    order[8], order[9] = 9, 8
    result = neb([first, last[order]], EMT(), tmp_path / "1", images=1, steps=1)
    assert any("Al8, Al9 go to each other's places" in n for n in result.notes)
    result = neb([first, last], EMT(), tmp_path / "2", images=1, steps=1)
    assert not any("other's places" in note for note in result.notes)


@pytest.mark.parametrize(
    ("systems", "told"),
    [
        ([molecule("H2O"), molecule("CO")], "it has 2 atoms, not 3"),
        ([molecule("H2O"), molecule("H2O")[[1, 0, 2]]], "atom 0 is H, not O; put the"),
        ([molecule("H2O"), molecule("H2O")], "the end points are the same structure"),
        ([bulk("Cu"), bulk("Cu", a=3.7)], "its cell is another one"),
        ([bulk("Cu"), Atoms("Cu")], "its pbc is"),
        ([Atoms(), Atoms()], "has no atoms"),
    ],
)
def test_end_points_must_fit(systems, told, tmp_path):
    with pytest.raises(UnsupportedSystemError, match=told):
        neb(systems, EMT(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fixed_atoms_must_be_in_one_place(tmp_path):
    first, last = gold_on_aluminium()
    last.positions[0] += 0.1
    with pytest.raises(UnsupportedSystemError, match="atom 0 is fixed and lies"):
        neb([first, last], EMT(), tmp_path)


def test_one_structure_is_not_enough(tmp_path):
    with pytest.raises(ArgumentError, match="a path needs two end points"):
        neb([molecule("H2O")], EMT(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"images": 0}, "images is 0; give 1 or more"),
        ({"steps": 0}, "steps is 0; give 1 or more"),
        ({"fmax_eV_per_A": 0.0}, "fmax_eV_per_A is 0.0; give a number above 0"),
        ({"spring_eV_per_A2": -1.0}, "spring_eV_per_A2 is -1.0; give"),
        ({"climb_from_eV_per_A": float("inf")}, "climb_from_eV_per_A is inf; give"),
    ],
)
def test_settings_are_checked(settings, told):
    with pytest.raises(ArgumentError, match=told):
        NebSettings(**settings)
