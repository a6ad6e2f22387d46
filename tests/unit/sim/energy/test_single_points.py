"""Single points of long files, with labels and with bad structures among them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress

from jmp_calc.errors import ArgumentError, DataError, UnsupportedSystemError
from jmp_calc.sim.energy import EnergySettings, run_energy
from jmp_calc.sim.energy.labels import ErrorSum
from jmp_calc.sim.evaluation import OneByOne
from jmp_calc.units import GPA


class CountingEMT:
    """EMT that computes lists and remembers the size of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, tuple[str, ...]]] = []
        self._inner = OneByOne(EMT())

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        self.calls.append((len(list_of_atoms), tuple(properties)))
        return self._inner.evaluate(list_of_atoms, properties)


def rattled(seed: int) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def single_points(sources, out, calculator=None, **settings):
    if isinstance(sources, list):
        sources = {"x": sources}
    return run_energy(
        {name: enumerate(frames) for name, frames in sources.items()},
        EnergySettings(**settings),
        calculator=calculator or EMT(),
        out=out,
        stem="x",
    )


def rows(result) -> list[dict[str, str]]:
    with result.files.table.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_results_are_those_of_the_calculator(tmp_path):
    start = rattled(0)
    result = single_points([start], tmp_path)
    atoms = start.copy()
    atoms.calc = EMT()
    written = read(result.files.structures["x"])
    assert written.calc is None
    assert written.info["jmp_energy"] == pytest.approx(atoms.get_potential_energy())
    # extended XYZ keeps eight decimals
    assert written.arrays["jmp_forces"] == pytest.approx(atoms.get_forces(), abs=1e-8)
    assert written.info["jmp_stress"] == pytest.approx(atoms.get_stress(), abs=1e-8)
    (row,) = rows(result)
    longest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    assert float(row["energy_eV"]) == pytest.approx(atoms.get_potential_energy())
    assert float(row["max_force_eV_per_A"]) == pytest.approx(longest)
    pressure = -atoms.get_stress()[:3].mean() / GPA
    assert float(row["pressure_GPa"]) == pytest.approx(pressure)
    assert result.status == "completed"
    assert result.errors == {}


def test_structures_are_computed_many_at_a_time_and_crystals_with_stress(tmp_path):
    calculator = CountingEMT()
    frames = [rattled(0), molecule("H2O"), rattled(1), molecule("CH4"), rattled(2)]
    result = single_points(frames, tmp_path, calculator, chunk=4)
    plain, stress = ("energy", "forces"), ("energy", "forces", "stress")
    assert calculator.calls == [(2, stress), (2, plain), (1, stress)]
    written = read(result.files.structures["x"], ":")
    assert [a.get_chemical_formula() for a in written] == [
        a.get_chemical_formula() for a in frames
    ]
    assert ["jmp_stress" in a.info for a in written] == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("settings", "properties"),
    [
        ({"skip_stress": True}, ("energy", "forces")),
        ({"energies_only": True}, ("energy",)),
    ],
)
def test_what_is_left_out_is_not_computed(settings, properties, tmp_path):
    calculator = CountingEMT()
    result = single_points([rattled(0)], tmp_path, calculator, **settings)
    assert calculator.calls == [(1, properties)]
    written = read(result.files.structures["x"])
    assert ("jmp_forces" in written.arrays) is ("forces" in properties)
    assert rows(result)[0]["pressure_GPa"] == ""


def test_no_more_than_a_chunk_is_in_memory(tmp_path):
    table = tmp_path / "x-energy.csv"
    ahead = []

    def frames():
        for number in range(10):
            done = len(table.read_text().splitlines()) - 1 if table.exists() else 0
            ahead.append(number - done)
            yield rattled(number)

    single_points({"x": frames()}, tmp_path, chunk=3)
    assert max(ahead) == 2


def test_each_source_has_a_file_of_structures_and_all_share_a_table(tmp_path):
    sources = {"a": [rattled(0), rattled(1)], "b": [rattled(2)]}
    result = single_points(sources, tmp_path)
    assert len(read(tmp_path / "a-energy.xyz", ":")) == 2
    assert len(read(tmp_path / "b-energy.xyz", ":")) == 1
    found = [(row["source"], row["frame"]) for row in rows(result)]
    assert found == [("a", "0"), ("a", "1"), ("b", "0")]


def labelled(seed: int, shift: float = 0.4) -> tuple[Atoms, Atoms]:
    """Return a structure with labels of EMT off by known amounts, and its truth."""
    truth = rattled(seed)
    truth.calc = EMT()
    atoms = truth.copy()
    atoms.info["REF_energy"] = truth.get_potential_energy() - shift
    atoms.arrays["REF_forces"] = truth.get_forces() + 0.1
    stress = truth.get_stress() - 2 * GPA
    atoms.info["REF_stress"] = voigt_6_to_full_3x3_stress(stress)
    return atoms, truth


def test_errors_against_labels_have_known_values(tmp_path):
    frames = [labelled(0, shift=0.4)[0], labelled(1, shift=0.8)[0], rattled(2)]
    result = single_points(frames, tmp_path)
    energy = result.errors["energy_meV_per_atom"]
    # 0.4 and 0.8 eV for 4 atoms
    assert energy.n_values == 2
    assert (energy.mean, energy.mae) == pytest.approx((150, 150))
    assert energy.rmse == pytest.approx(np.sqrt((100**2 + 200**2) / 2))
    assert energy.spread == pytest.approx(50)
    forces = result.errors["forces_eV_per_A"]
    assert forces.n_values == 24
    assert forces.mean == pytest.approx(-0.1)
    assert (forces.mae, forces.rmse) == pytest.approx((0.1, 0.1))
    assert result.errors["stress_GPa"].mae == pytest.approx(2)
    first, _, last = rows(result)
    assert float(first["energy_error_meV_per_atom"]) == pytest.approx(100)
    assert float(first["forces_mae_eV_per_A"]) == pytest.approx(0.1)
    assert float(first["stress_mae_GPa"]) == pytest.approx(2)
    assert last["ref_energy_eV"] == last["energy_error_meV_per_atom"] == ""
    summary = yaml.safe_load(result.files.summary.read_text())
    assert summary["results"]["errors"]["stress_GPa"]["mae"] == pytest.approx(2)


def test_the_spread_of_errors_far_from_zero_is_exact():
    errors = ErrorSum()
    errors.add([1e9 - 0.1])
    errors.add(np.array([[1e9 + 0.1]]))
    found = errors.statistics()
    # a double holds 1e9 to 1e-7
    assert found.spread == pytest.approx(0.1, abs=1e-6)
    assert found.rmse == pytest.approx(1e9)


def test_own_results_and_plain_keys_of_a_file_are_labels_and_are_renamed(tmp_path):
    own, plain = rattled(0), rattled(1)
    own.calc = SinglePointCalculator(own, energy=1.5, forces=np.ones((4, 3)))
    own.info["energy"] = 99.0
    plain.info |= {"energy": 2.5, "note": "two words"}
    plain.arrays["forces"] = np.full((4, 3), 2.0)
    result = single_points([own, plain], tmp_path)
    first, second = read(result.files.structures["x"], ":")
    assert first.calc is second.calc is None
    assert first.info["REF_energy"] == 1.5
    assert first.arrays["REF_forces"] == pytest.approx(1)
    assert second.info["REF_energy"] == 2.5
    assert second.info["note"] == "two words"
    assert "energy" not in second.info
    assert "forces" not in second.arrays


def test_labels_of_other_names_and_methods_are_kept(tmp_path):
    atoms = rattled(0)
    atoms.info |= {"dft_energy": -7.0, "REF_energy": 1.0, "jmp_energy": 99.0}
    atoms.arrays["dft_forces"] = np.full((4, 3), 0.5)
    result = single_points(
        [atoms], tmp_path, energy_key="dft_energy", forces_key="dft_forces"
    )
    written = read(result.files.structures["x"])
    assert written.info["dft_energy"] == -7
    assert written.arrays["dft_forces"] == pytest.approx(0.5)
    assert written.info["jmp_energy"] != 99
    assert written.info["REF_energy"] == -7
    assert float(rows(result)[0]["ref_energy_eV"]) == -7


@pytest.mark.parametrize(
    "value", [np.nan, "many", [1.0, 2.0], None], ids=["nan", "text", "two", "none"]
)
def test_a_damaged_label_is_none(value, tmp_path):
    atoms = rattled(0)
    atoms.info["REF_energy"] = value
    atoms.arrays["REF_forces"] = np.zeros(4)
    atoms.info["REF_stress"] = [1.0, 2.0]
    assert single_points([atoms], tmp_path).errors == {}


def test_a_label_that_is_nowhere_is_an_error_that_names_those_there_are(tmp_path):
    atoms = rattled(0)
    atoms.info["dft_energy"] = 1.0
    told = r"none of the first 1 structures has energy called 'DFT' .*dft_energy"
    with pytest.raises(DataError, match=told):
        single_points([atoms], tmp_path / "new", energy_key="DFT")
    assert not (tmp_path / "new").exists()


def test_a_bad_structure_is_told_and_the_others_go_on(tmp_path):
    frames = [rattled(0), molecule("CH3Cl"), rattled(1)]
    result = single_points(frames, tmp_path)
    assert result.n_structures == 3
    assert result.n_failed == 1
    assert result.first_problem == "x, frame 1: No EMT-potential for Cl"
    assert [row["problem"] for row in rows(result)] == [
        "",
        "No EMT-potential for Cl",
        "",
    ]
    assert rows(result)[1]["energy_eV"] == ""
    written = read(result.files.structures["x"], ":")
    assert written[1].info["jmp_problem"] == "No EMT-potential for Cl"
    assert "jmp_energy" not in written[1].info
    assert "jmp_energy" in written[2].info


def test_results_that_are_not_finite_are_told(tmp_path):
    # two atoms in one place
    frames = [
        Atoms("Ar2", [[0, 0, 0], [0, 0, 0]]),
        Atoms("Ar2", [[0, 0, 0], [0, 0, 1]]),
    ]
    with np.errstate(all="ignore"):
        result = single_points(frames, tmp_path, LennardJones())
    assert result.n_failed == 1
    assert "not finite" in rows(result)[0]["problem"]


def test_if_none_of_the_first_can_be_computed_nothing_is_written(tmp_path):
    out = tmp_path / "new"
    with pytest.raises(UnsupportedSystemError, match="No EMT-potential for Cl") as told:
        single_points([molecule("CH3Cl")] * 3, out)
    assert told.value.__notes__ == ["so it is with the first 3 of x"]
    assert not out.exists()


def test_a_short_file_that_cannot_be_computed_does_not_stop_those_after_it(tmp_path):
    sources = {"bad": [molecule("CH3Cl")], "good": [molecule("H2O")]}
    result = single_points(sources, tmp_path)
    bad, good = rows(result)
    assert (result.n_structures, result.n_failed) == (2, 1)
    assert "No EMT-potential for Cl" in bad["problem"]
    assert float(good["energy_eV"]) > 0


class WithoutStress(Calculator):
    """Energies and forces only."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 1.0, "forces": np.zeros((len(atoms), 3))}


def test_a_calculator_without_stress_gives_what_it_has(tmp_path):
    frames = [rattled(seed) for seed in range(3)]
    result = single_points(frames, tmp_path, WithoutStress(), chunk=2)
    assert result.n_failed == 0
    written = read(result.files.structures["x"], ":")
    assert [a.info["jmp_energy"] for a in written] == [1.0] * 3
    assert not any("jmp_stress" in a.info for a in written)


class StressOfCopper(OneByOne):
    """Like a model of which the head for some structures sees no periodicity."""

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        if "stress" in properties and any("Al" in a.symbols for a in list_of_atoms):
            raise PropertyNotImplementedError("no stress of aluminium")
        return super().evaluate(list_of_atoms, properties)


def test_stress_that_some_have_not_is_not_left_out_of_others(tmp_path):
    frames = [bulk("Al"), rattled(0), bulk("Al"), rattled(1)]
    result = single_points(frames, tmp_path, StressOfCopper(EMT()), chunk=1)
    assert result.n_failed == 0
    written = read(result.files.structures["x"], ":")
    assert ["jmp_stress" in a.info for a in written] == [False, True, False, True]


class TwoModels(OneByOne):
    """Tells a spread and heads, as a committee does."""

    def evaluate(self, list_of_atoms, properties=("energy", "forces")):
        found = super().evaluate(list_of_atoms, properties)
        for number, (atoms, results) in enumerate(
            zip(list_of_atoms, found, strict=True)
        ):
            spread = np.zeros((len(atoms), 3))
            spread[1] = [0.3, 0.0, 0.4]
            results |= {"energy_std": 0.25, "forces_std": spread}
            results["head"] = f"head-{number % 2}"
        return found


def test_the_spread_of_a_committee_is_in_table_and_structures(tmp_path):
    result = single_points([rattled(0)] * 3, tmp_path, TwoModels(EMT()))
    row = rows(result)[0]
    assert float(row["energy_std_eV"]) == 0.25
    assert float(row["max_force_std_eV_per_A"]) == pytest.approx(0.5)
    written = read(result.files.structures["x"])
    assert written.info["jmp_energy_std"] == 0.25
    assert written.arrays["jmp_forces_std"][1] == pytest.approx([0.3, 0.0, 0.4])
    summary = yaml.safe_load(result.files.summary.read_text())
    assert summary["results"]["heads"] == {"head-0": 2, "head-1": 1}
    alone = single_points([rattled(0)], tmp_path / "alone")
    assert rows(alone)[0]["energy_std_eV"] == ""


def test_results_of_an_earlier_call_are_not_kept(tmp_path):
    before = single_points(
        [rattled(0), molecule("CH3Cl")], tmp_path / "a", TwoModels(EMT())
    )
    frames = read(before.files.structures["x"], ":")
    assert "jmp_problem" in frames[1].info
    frames[0].info |= {"jmp_gap": 1.5, "jmp_phase": "fcc"}
    after = single_points(frames, tmp_path / "b", LennardJones())
    first, second = read(after.files.structures["x"], ":")
    for atoms in (first, second):
        names = {name for name in (*atoms.info, *atoms.arrays) if "jmp_" in name}
        own = {"jmp_energy", "jmp_forces", "jmp_stress", "jmp_gap", "jmp_phase"}
        assert names <= own
    # what another verb has found of the same geometry stays
    assert (first.info["jmp_gap"], first.info["jmp_phase"]) == (1.5, "fcc")


def test_what_was_done_is_kept_when_interrupted(tmp_path):
    def frames():
        yield from (rattled(seed) for seed in range(4))
        raise KeyboardInterrupt

    result = single_points({"x": frames()}, tmp_path, chunk=2)
    assert result.status == "interrupted"
    assert result.reason == "Ctrl-C after 4 structures"
    assert len(rows(result)) == len(read(result.files.structures["x"], ":")) == 4
    summary = yaml.safe_load(result.files.summary.read_text())
    assert summary["status"] == "interrupted"


def test_a_file_that_is_damaged_farther_down_is_an_error_and_the_rest_is_kept(tmp_path):
    def frames():
        yield from (rattled(seed) for seed in range(2))
        raise DataError("cannot read structure 2")

    with pytest.raises(DataError, match="cannot read structure 2") as told:
        single_points({"x": frames()}, tmp_path, chunk=2)
    assert "the first 2 structures are in" in told.value.__notes__[0]
    assert len(read(tmp_path / "x-energy.xyz", ":")) == 2
    summary = yaml.safe_load((tmp_path / "x-summary.yml").read_text())
    assert summary["status"] == "failed"


def test_an_existing_file_is_not_replaced_unasked(tmp_path):
    write(tmp_path / "x-energy.xyz", rattled(0))
    with pytest.raises(ArgumentError, match=r"x-energy\.xyz exists"):
        single_points([rattled(0)], tmp_path)


def test_a_wrong_chunk_is_told():
    with pytest.raises(ArgumentError, match="chunk is 0; give 1 or more"):
        EnergySettings(chunk=0)
