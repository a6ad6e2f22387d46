"""Kinds of geometry that test_sampling does not look at: relaxed, joined, reacting."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from jmp_calc.calculator.named import CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.units import KB
from jmp_train.data.kinds import paths
from jmp_train.data.kinds.geometry import bond_counts, closest_contact, contact_radii
from jmp_train.data.kinds.paths import Reaction, draw_reaction, driven
from jmp_train.data.sampling import sample_geometries
from jmp_train.data.sampling_settings import NEED_CALCULATOR, SamplingSettings

EMT_CHOICE = CalculatorChoice(name="emt", options={})
BUTANE = [
    ("C", (-1.95, 0.0, 0.12)),
    ("C", (-0.57, 0.0, -0.51)),
    ("C", (0.57, 0.0, 0.51)),
    ("C", (1.95, 0.0, -0.12)),
]


def made(structures, calculator=None, **settings):
    return list(
        sample_geometries(
            [structures] if isinstance(structures, Atoms) else structures,
            SamplingSettings(**settings),
            calculator=calculator,
        )
    )


def butane_chain() -> Atoms:
    """Four carbon atoms in a chain; hydrogens would only make it longer to compute."""
    symbols, positions = zip(*BUTANE, strict=True)
    return Atoms(symbols, positions)


@pytest.mark.parametrize("kind", NEED_CALCULATOR)
def test_kinds_that_need_forces_say_so(kind):
    with pytest.raises(ArgumentError, match=f"the kind '{kind}' needs a calculator"):
        made(molecule("H2O"), kind=kind, n=4)


# -- relax ---------------------------------------------------------------------------


def test_the_last_relaxed_geometry_is_a_minimum_and_only_it_is_marked():
    start = molecule("H2O")
    start.positions[1] += 0.2
    frames = made(start, EMT_CHOICE, kind="relax", n=3, force_tolerance=0.01)
    energies, forces = [], []
    for atoms in frames:
        atoms.calc = EMT()
        energies.append(atoms.get_potential_energy())
        forces.append(np.linalg.norm(atoms.get_forces(), axis=1).max())
    assert len(frames) == 3
    assert forces[-1] <= 0.01
    assert min(energies) == energies[-1]
    assert [a.info.get("is_relaxed", False) for a in frames] == [False, False, True]


def test_a_relaxation_that_does_not_end_is_a_failure():
    start = molecule("H2O")
    start.positions[1] += 0.2
    with pytest.raises(DataError, match=r"not relaxed to 1e-06 eV/Å after 2 steps"):
        made(start, EMT_CHOICE, kind="relax", force_tolerance=1e-6, steps=2)


# -- vibrate -------------------------------------------------------------------------


def test_thermal_displacements_hold_half_kt_for_each_mode():
    """By equipartition; EMT's minimum of N2 is stiff, so that it is harmonic."""
    start = made(molecule("N2"), EMT_CHOICE, kind="relax", n=1, force_tolerance=1e-4)[0]
    start.calc = EMT()
    lowest = start.get_potential_energy()
    kelvin = 50.0
    gained = []
    for new in made(start, EMT_CHOICE, kind="vibrate", n=400, temperature_K=(kelvin,)):
        new.calc = EMT()
        gained.append(new.get_potential_energy() - lowest)
    # 400 squares of a normal number: known to sqrt(2/400) = 7 %, three times that here
    assert np.mean(gained) == pytest.approx(KB * kelvin / 2, rel=0.22)


def test_thermal_displacements_neither_move_nor_turn_a_molecule():
    start = made(molecule("H2O"), EMT_CHOICE, kind="relax", n=1)[0]
    for new in made(start, EMT_CHOICE, kind="vibrate", n=4, temperature_K=(300.0,)):
        moves = new.positions - start.positions
        arms = start.positions - start.positions.mean(0)
        assert np.abs(moves).max() > 1e-3
        assert np.allclose(moves.sum(0), 0, atol=1e-9)
        assert np.allclose(np.cross(arms, moves).sum(0), 0, atol=1e-9)


def test_each_temperature_has_its_share_of_the_displacements():
    start = made(molecule("H2O"), EMT_CHOICE, kind="relax", n=1)[0]
    found = made(start, EMT_CHOICE, kind="vibrate", n=5, temperature_K=(100.0, 300.0))
    assert [a.info["temperature_K"] for a in found] == [100.0] * 3 + [300.0] * 2


def test_a_crystal_does_not_vibrate_as_a_molecule():
    with pytest.raises(DataError, match="is periodic or a lone atom"):
        made(bulk("Cu"), EMT_CHOICE, kind="vibrate")


# -- torsion -------------------------------------------------------------------------


def test_a_turned_chain_keeps_bonds_and_angles_and_has_another_torsion():
    start = butane_chain()
    found = made(start, kind="torsion", n=6, contact=(0.5, 1.0))
    torsions = [atoms.get_dihedral(0, 1, 2, 3) for atoms in found]
    for atoms in found:
        for pair in ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3)):
            assert atoms.get_distance(*pair) == pytest.approx(start.get_distance(*pair))
    assert np.ptp(torsions) > 30
    assert all(abs(torsion - 180) > 0.1 for torsion in torsions)


def test_turning_never_brings_atoms_closer_than_the_contact():
    start = molecule("trans-butane")
    for new in made(start, kind="torsion", n=10, contact=(0.75, 1.0)):
        changes = new.get_all_distances() - start.get_all_distances()
        assert closest_contact(new, np.abs(changes) > 1e-3) >= 0.75
        assert set(bond_counts(new)) == set(bond_counts(start))


@pytest.mark.parametrize("name", ["H2O", "C2H4", "C6H6", "C2H2"])
def test_only_single_bonds_with_something_behind_are_turned_about(name):
    with pytest.raises(DataError, match="no single bond to turn about"):
        made(molecule(name), kind="torsion")


# -- complex -------------------------------------------------------------------------


def contact_of(complexed: Atoms, n_first: int) -> float:
    n = len(complexed)
    is_first = np.arange(n) < n_first
    return closest_contact(complexed, is_first[:, None] & ~is_first)


def test_the_closest_contact_of_a_pair_is_the_one_that_was_drawn():
    ammonia, water = molecule("NH3"), molecule("H2O")
    for new in made([ammonia, water], kind="complex", n=6, contact=(0.6, 1.4)):
        n_first = 4 if new.numbers[0] == 7 else 3
        assert 0.6 <= new.info["contact"] <= 1.4
        assert contact_of(new, n_first) == pytest.approx(new.info["contact"], abs=1e-5)


def test_molecules_of_a_complex_keep_their_shape():
    water = molecule("H2O")
    for new in made(water, kind="complex", n=3, same=True, molecules=5):
        assert len(new) % 3 == 0
        assert 6 <= len(new) <= 15
        for first in range(0, len(new), 3):
            part = new[first : first + 3]
            assert np.allclose(part.get_all_distances(), water.get_all_distances())


def test_complexes_have_all_sizes_up_to_the_limits():
    water = molecule("H2O")
    sizes = {
        len(a)
        for a in made(water, kind="complex", n=60, same=True, molecules=6, max_atoms=12)
    }
    assert sizes == {6, 9, 12}


def test_the_group_of_a_complex_names_its_molecules_whatever_their_order():
    ammonia, water = molecule("NH3"), molecule("H2O")
    ammonia.info |= {"group": "N", "smiles": "N"}
    water.info |= {"group": "O", "smiles": "O"}
    found = made([ammonia, water], kind="complex", n=8)
    assert {a.info["group"] for a in found} == {"N.N", "N.O", "O.O"}
    for atoms in found:
        first = "N" if atoms.numbers[0] == 7 else "O"
        assert atoms.info["smiles"].startswith(first)


def test_a_complex_that_would_be_too_large_is_a_failure():
    with pytest.raises(DataError, match=r"two molecules of 60 atoms are more than"):
        made(molecule("C60"), kind="complex", same=True)
    with pytest.raises(DataError, match=r"leaves the complex within max_atoms"):
        made(molecule("C60"), kind="complex")


def test_contacts_are_multiples_of_the_radii_of_bondi():
    """Bondi, J. Phys. Chem. 68, 441 (1964): O 1.52 Å; hydrogen of Rowland, 1.20 Å."""
    assert contact_radii(molecule("H2O")).tolist() == [1.52, 1.2, 1.2]


# -- path ----------------------------------------------------------------------------


def test_driving_breaks_and_makes_the_bonds_of_a_reaction():
    """A hydrogen of methanol's methyl group goes to the oxygen."""
    start = molecule("CH3OH")
    bonds = set(bond_counts(start))
    carbon, oxygen = 0, 1
    hydrogen = next(j for i, j in bonds if i == carbon and start.numbers[j] == 1)
    reaction = Reaction(
        name="transfer",
        broken=((carbon, hydrogen),),
        made=((oxygen, hydrogen),),
    )
    product = driven(start, reaction)
    expected = (bonds - {(carbon, hydrogen)}) | {(oxygen, hydrogen)}
    assert set(bond_counts(product)) == expected


@pytest.mark.parametrize("name", ["CH3OH", "C3H8"])
def test_drawn_reactions_break_bonds_and_make_those_that_are_not_there(name):
    start = molecule(name)
    bonds = {frozenset(bond) for bond in bond_counts(start)}
    generator = np.random.default_rng(0)
    drawn = [draw_reaction(start, generator) for _ in range(200)]
    found = [reaction for reaction in drawn if reaction is not None]
    assert {r.name for r in found} == {"dissociation", "transfer", "exchange"}
    for reaction in found:
        assert {frozenset(bond) for bond in reaction.broken} <= bonds
        assert not {frozenset(bond) for bond in reaction.made} & bonds


def test_a_path_goes_from_the_molecule_to_other_bonds():
    pytest.importorskip("tblite", reason="needs the extra xtb")
    start = molecule("CH3OH")
    choice = CalculatorChoice(name="tblite", options={})
    frames = made(start, choice, kind="path", n=8, seed=1)
    names = [atoms.info["image"] for atoms in frames]
    assert names[:2] == ["start", "end"]
    assert sum(name.startswith("interpolated") for name in names) == 3
    assert sum(name.startswith("band") for name in names) == 3
    assert set(bond_counts(frames[0])) != set(bond_counts(frames[1]))
    assert np.allclose(frames[0].positions, start.positions)
    energies = []
    calculator = choice.build()
    for atoms in frames:
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert max(energies) < energies[0] + 25
    # the band has had steps downhill
    assert sum(energies[5:]) < sum(energies[2:5])


def test_a_product_with_the_bonds_of_the_molecule_is_none(monkeypatch):
    monkeypatch.setattr(paths, "driven", lambda atoms, reaction: atoms.copy())
    monkeypatch.setattr(paths, "_relaxed", lambda product, calculator: product)
    with pytest.raises(DataError, match="in 5 tries: products fall back"):
        made(molecule("CH3OH"), EMT_CHOICE, kind="path", n=8)


@pytest.mark.parametrize(
    ("atoms", "n", "problem"),
    [
        (molecule("CH3OH"), 3, "at least 4 images; n is 3"),
        (molecule("N2"), 8, "fewer than three"),
        (bulk("NaCl", "rocksalt", a=5.64) * 2, 8, "is periodic"),
    ],
)
def test_a_path_that_cannot_be_is_a_failure(atoms, n, problem):
    with pytest.raises(DataError, match=problem):
        made(atoms, EMT_CHOICE, kind="path", n=n)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"molecules": 1}, "molecules 1 and max_atoms 40; give at least 1, 2 and 2"),
        ({"contact": (1.0, 0.5)}, r"contact is \(1.0, 0.5\); give two positive"),
        ({"force_tolerance": 0.0}, "force_tolerance is 0.0; it must be positive"),
    ],
)
def test_impossible_settings_are_refused(settings, problem):
    with pytest.raises(ArgumentError, match=problem):
        SamplingSettings(**settings)
