"""D3 dispersion: numbers against another implementation, and what is refused."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.units import Bohr, Hartree

from jmp_calc.calculator.committee import Committee
from jmp_calc.calculator.dispersion import ALREADY, Dispersed
from jmp_calc.errors import ArgumentError, UnsupportedSystemError

pytest.importorskip("dftd3", reason="the extra d3 is not installed")


class Nothing(LennardJones):
    """A calculator that gives zeros, at a level of theory of one's choice."""

    def __init__(self, level="PBE"):
        super().__init__(epsilon=0.0)
        self.level = level

    def describe(self, atoms):
        return {"head": "toy", "level_of_theory": self.level, "notes": []}


class Told(Nothing):
    """Tells as much as a committee asks for."""

    def describe(self, atoms):
        about = {"model": "toy", "forces": "gradient", "is_conservative": True}
        return {**super().describe(atoms), **about, "weights_sha256": None}


def dispersed():
    return Dispersed(Nothing(), "pbe")


def test_molecules_agree_with_another_implementation():
    torch = pytest.importorskip("torch")
    other = pytest.importorskip("tad_dftd3", reason="tad-dftd3 is not installed")
    atoms = molecule("C6H6")
    atoms.rattle(0.05, seed=1)
    positions = torch.tensor(atoms.positions / Bohr, requires_grad=True)
    # PBE: Grimme, Ehrlich and Goerigk (2011), table of D3(BJ) parameters
    param = {
        name: torch.tensor(value, dtype=torch.float64)
        for name, value in {
            "s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407, "s9": 0.0,
        }.items()
    }  # fmt: skip
    energy = other.dftd3(torch.tensor(atoms.numbers), positions, param).sum()
    (gradient,) = torch.autograd.grad(energy, positions)
    atoms.calc = dispersed()
    # cutoffs and reference data of the two are not written to the same digits
    assert atoms.get_potential_energy() == pytest.approx(
        energy.item() * Hartree, rel=1e-5
    )
    np.testing.assert_allclose(
        atoms.get_forces(), -gradient.numpy() * Hartree / Bohr, atol=1e-6
    )


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("C6H6"),
        bulk("Ar", a=5.3, cubic=True),
        fcc111("Cu", (1, 1, 2), vacuum=8),
    ],
    ids=["molecule", "crystal", "slab"],
)
def test_forces_are_the_gradient_of_the_energy(atoms):
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=1)
    calculator = dispersed()
    step, energies = 1e-3, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        energies.append(calculator.get_property("energy", moved))
    slope = (energies[0] - energies[1]) / (2 * step)
    force = calculator.get_property("forces", atoms)[1, 2]
    assert -slope == pytest.approx(force, abs=1e-6)


def test_stress_is_the_derivative_of_the_energy():
    atoms = bulk("Ar", a=5.3, cubic=True)
    calculator, step, energies = dispersed(), 1e-4, []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * (1 + sign * step), scale_atoms=True)
        energies.append(calculator.get_property("energy", strained))
    slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    stress = calculator.get_property("stress", atoms)
    # the real-space sum is cut off, which the strain moves atoms across
    assert stress[:3].sum() == pytest.approx(slope, rel=1e-3)


def test_the_rest_of_the_energy_is_that_of_the_calculator():
    atoms = bulk("Cu", cubic=True)
    total = Dispersed(EMT(), "pbe").get_property("energy", atoms)
    parts = [c.get_property("energy", atoms) for c in (EMT(), dispersed())]
    assert total == pytest.approx(sum(parts))


def test_many_structures_at_once_give_what_each_gives():
    frames = [molecule("C6H6"), molecule("CH4")]
    calculator = dispersed()
    for atoms, found in zip(frames, calculator.evaluate(frames), strict=True):
        for name in ("energy", "forces"):
            np.testing.assert_allclose(
                found[name], calculator.get_property(name, atoms), atol=1e-12
            )


def test_dispersion_adds_no_spread_to_a_committee():
    atoms = molecule("CH4")
    committee = Committee([Dispersed(Told(), "pbe"), Dispersed(Told(), "pbe")])
    assert committee.get_property("energy_std", atoms) == 0.0


@pytest.mark.parametrize("shift", [-9.0, 9.0, 40.0])
def test_a_slab_may_lie_across_the_end_of_its_cell(shift):
    # simple-dftd3 folds atoms along directions that are not periodic, too
    atoms = fcc111("Cu", (1, 1, 2), vacuum=8)
    moved = atoms.copy()
    moved.positions[:, 2] += shift
    for name in ("energy", "forces"):
        expected = dispersed().get_property(name, atoms)
        found = dispersed().get_property(name, moved)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_what_is_not_periodic_needs_no_cell_vector():
    slab = fcc111("Cu", (1, 1, 2), vacuum=8)
    expected = dispersed().get_property("energy", slab)
    slab.cell[2] = 0
    assert dispersed().get_property("energy", slab) == pytest.approx(expected)
    wire = Atoms("C", cell=[0, 2.5, 0], pbc=[False, True, False])
    longer = wire * (1, 60, 1)
    longer.pbc = False
    inner = Dispersed(Nothing(), "pbe").get_property("energy", wire)
    # of a long chain the middle is a wire: add one atom more
    more = (wire * (1, 61, 1)).copy()
    more.pbc = False
    added = [dispersed().get_property("energy", chain) for chain in (longer, more)]
    assert added[1] - added[0] == pytest.approx(inner, rel=1e-3)


def test_the_level_of_theory_tells_of_it():
    about = dispersed().describe(molecule("CH4"))
    assert about["level_of_theory"] == "PBE + D3(BJ, pbe)"
    assert about["notes"] == [
        "D3(BJ) dispersion with the parameters of pbe (s6 1, s8 0.7875, a1 0.4289, a2 "
        "4.4407 bohr) is added to PBE, without the three-body term"
    ]


@pytest.mark.parametrize("level", ["RPBE, VASP", "not recorded", ""])
def test_parameters_of_another_functional_are_told(level):
    notes = Dispersed(Nothing(level), "pbe").describe(molecule("CH4"))["notes"]
    assert "the parameters of pbe fit pbe only" in notes[1]


@pytest.mark.parametrize(
    ("level", "functional"), [("RPBE, VASP", "rpbe"), ("ωB97X/6-31G(d)", "wb97x")]
)
def test_parameters_of_the_same_functional_need_no_warning(level, functional):
    calculator = Dispersed(Nothing(level), functional)
    assert len(calculator.describe(molecule("CH4"))["notes"]) == 1


@pytest.mark.parametrize("functional", ["pbe", "rpbe", "pbe0", "b3-lyp", "wb97x"])
def test_the_parameters_that_are_told_are_those_that_are_used(functional):
    from dftd3.ase import DFTD3

    atoms = molecule("C6H6")
    calculator = Dispersed(Nothing(), functional)
    note = calculator.describe(atoms)["notes"][0]
    told = dict(re.findall(r"(s6|s8|a1|a2) ([\d.]+)", note))
    tweaks = {name: float(value) for name, value in told.items()}
    expected = DFTD3(damping="d3bj", params_tweaks={**tweaks, "s9": 0.0})
    assert calculator.get_property("energy", atoms) == pytest.approx(
        expected.get_property("energy", atoms), rel=1e-9
    )


@pytest.mark.parametrize(
    "level",
    [
        *("PBE0+MBD", "wB97M-D3(BJ)/def2-TZVPPD", "PBE-D3", "PBE-D3BJ", "B3LYP-D3zero"),
        *("r2SCAN-3c", "wB97X-D/def2-SVP", "wB97M-V", "BEEF-vdW", "PBE+TS", "GFN2-xTB"),
        *("CCSD(T)/CBS", "RI-MP2/cc-pVTZ", "SCAN+rVV10"),
    ],
)
def test_dispersion_is_not_counted_twice(level):
    with pytest.raises(UnsupportedSystemError, match="has dispersion already"):
        Dispersed(Nothing(level), "pbe").get_property("energy", molecule("CH4"))
    with pytest.raises(UnsupportedSystemError, match="has dispersion already"):
        Dispersed(Nothing(level), "pbe").describe(molecule("CH4"))


@pytest.mark.parametrize(
    "level",
    ["PBE", "RPBE, VASP", "ωB97X/6-31G(d)", "B3LYP/6-311++G(3d2f,2pd)", "PBE (MD22)"],
)
def test_levels_without_dispersion_are_taken(level):
    assert not ALREADY.search(level)


def test_unknown_functionals_and_elements_are_refused():
    with pytest.raises(ArgumentError, match="no parameters for the functional 'pb'"):
        Dispersed(Nothing(), "pb")
    atoms = Atoms("Og2", [[0, 0, 0], [0, 0, 3]])
    with pytest.raises(UnsupportedSystemError, match="D3 cannot compute Og2"):
        dispersed().get_property("energy", atoms)


def test_a_copy_for_another_process_gives_the_same():
    atoms = molecule("CH4")
    calculator = dispersed()
    before = calculator.get_property("energy", atoms)
    copy = pickle.loads(pickle.dumps(calculator))
    assert copy.get_property("energy", atoms.copy()) == before
