"""Files that people and phonopy read, convergence, and pictures."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import warnings

import numpy as np
import phonopy
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from phonopy.file_IO import parse_FORCE_CONSTANTS, parse_FORCE_SETS

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.phonons.analysis import frequencies_at
from jmp_calc.sim.phonons.calculation import run_phonons, thermal_summary
from jmp_calc.sim.phonons.files import PHONOPY_FILES, PhononFiles
from jmp_calc.sim.phonons.picture import plot_bands, plot_thermal
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings

QUICK = {"supercell": "2", "mesh": "3", "band_points": 4}
Q = np.array([[0.5, 0.5, 0.0], [0.1, 0.2, 0.3]])


def compute(out, atoms=None, limits=None, overwrite=False, calculator=None, **settings):
    return run_phonons(
        bulk("Cu", "fcc", a=3.61) if atoms is None else atoms,
        PhononSettings(**{**QUICK, **settings}),
        calculator=calculator or EMT(),
        out=out,
        stem="cu",
        limits=limits,
        overwrite=overwrite,
        provenance={"inputs": "here"},
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return compute(tmp_path_factory.mktemp("cu"))


def columns(path):
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return {name: [row[name] for row in rows] for name in rows[0]}


def loaded(folder, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = folder / "phonopy_params.yaml"
        return phonopy.load(path, is_nac=False, log_level=0, **more)


@pytest.mark.parametrize(("call", "relax"), [(3, "none"), (2, "both")])
def test_a_calculator_that_fails_on_the_way_is_told(call, relax, tmp_path):
    class Failing(EMT):
        calls = 0

        def calculate(self, *args, **more):
            self.calls += 1
            if self.calls == call:
                raise CalculationFailed("no convergence")
            super().calculate(*args, **more)

    with pytest.raises(UnsupportedSystemError, match="no convergence"):
        compute(tmp_path, calculator=Failing(), relax=relax)
    assert not list(tmp_path.iterdir())


def test_phonopy_loads_the_folder_and_finds_the_same(result):
    phonon = loaded(result.files.phonopy)
    expected = frequencies_at(result.phonon, Q)
    np.testing.assert_allclose(phonon.run_qpoints(Q).frequencies, expected, atol=1e-4)


@pytest.fixture(scope="module")
def alloy(tmp_path_factory):
    """Two elements with masses of their own and Born charges, in a tetragonal cell."""
    folder = tmp_path_factory.mktemp("alloy")
    lines = ["14.4", "4 0 0 0 4 0 0 0 5", "1 0 0 0 1 0 0 0 2", "-1 0 0 0 -1 0 0 0 -2"]
    (folder / "charges").write_text("\n".join(lines) + "\n")
    atoms = Atoms(
        "CuAu", scaled_positions=[[0, 0, 0], [0.5] * 3], cell=[2.8, 2.8, 3.7], pbc=True
    )
    atoms.set_masses([65, 190])
    return compute(folder, atoms, born=folder / "charges")


@pytest.mark.parametrize("lacking", [(), ("FORCE_CONSTANTS",), PHONOPY_FILES[1:]])
def test_the_command_line_of_phonopy_goes_on_with_the_same_frequencies(
    alloy, lacking, tmp_path
):
    folder = shutil.copytree(alloy.files.phonopy, tmp_path / "copy")
    for name in lacking:
        (folder / name).unlink(missing_ok=True)
    code = "from phonopy.scripts.phonopy_load import run; run()"
    words = [sys.executable, "-c", code, "phonopy_params.yaml", "--qpoints", *Q.flat]
    # with a BORN file of another crystal nearby, which is not to be read
    (folder / "BORN").write_text("14.4\n1 0 0 0 1 0 0 0 1\n9 0 0 0 9 0 0 0 9\n")
    subprocess.run(list(map(str, words)), cwd=folder, check=True, capture_output=True)
    found = yaml.safe_load((folder / "qpoints.yaml").read_text())
    frequencies = [[b["frequency"] for b in q["band"]] for q in found["phonon"]]
    expected = frequencies_at(alloy.phonon, Q)
    np.testing.assert_allclose(frequencies, expected, atol=1e-4)


def test_parts_of_the_density_of_states_add_up_to_the_whole(alloy):
    states = alloy.analysis.states
    assert set(states.by_element) == {"Cu", "Au"}
    whole = sum(states.by_element.values())
    np.testing.assert_allclose(whole, states.total, atol=1e-6)


def test_the_summary_has_thermal_properties_of_an_atom(alloy):
    thermal, found = alloy.analysis.thermal, thermal_summary(alloy)
    place = thermal.temperature_K.tolist().index(300.0)
    # of two atoms, 96.485 kJ/mol being 1 eV
    free = thermal.free_energy_kJ_per_mol[place] / 2 / 96.4853 * 1000
    assert found["free_energy_meV_per_atom"] == pytest.approx(free, rel=1e-5)
    capacity = thermal.heat_capacity_J_per_K_per_mol[place] / 2 / 8.314463
    assert found["heat_capacity_kB_per_atom"] == pytest.approx(capacity, rel=1e-5)
    entropy = thermal.entropy_J_per_K_per_mol[place] / 2 / 8.314463
    assert found["entropy_kB_per_atom"] == pytest.approx(entropy, rel=1e-5)


def test_forces_of_the_undisplaced_crystal_do_not_count(result, tmp_path):
    class Pulled(EMT):
        """A force that is there at any displacement."""

        def calculate(self, *args, **more):
            super().calculate(*args, **more)
            self.results["forces"][0] += [0.1, 0.2, 0.3]

    pulled = compute(tmp_path, calculator=Pulled())
    expected = frequencies_at(result.phonon, Q)
    np.testing.assert_allclose(frequencies_at(pulled.phonon, Q), expected, atol=1e-6)
    assert pulled.residual.max_force_eV_per_A == pytest.approx(np.sqrt(0.14))
    assert "it has forces of up to 0.374" in pulled.notes[0]


def test_a_free_energy_that_falls_is_not_converged_either(tmp_path):
    limits = ConvergenceSettings(converge="mesh", max_mesh_points=30)
    result = compute(tmp_path, limits=limits, mesh="1")
    first, second = result.convergence
    # Gamma alone has no vibration
    assert first.free_energy_meV == 0
    assert second.free_energy_change_meV < -5
    assert not result.is_converged


def test_force_sets_and_force_constants_are_those_of_phonopy(result):
    folder = result.files.phonopy
    dataset = parse_FORCE_SETS(filename=folder / "FORCE_SETS")
    assert len(dataset["first_atoms"]) == result.n_displacements == 1
    constants = parse_FORCE_CONSTANTS(filename=folder / "FORCE_CONSTANTS")
    np.testing.assert_allclose(constants, result.phonon.force_constants, atol=1e-9)


def test_band_yaml_and_densities_are_readable(result):
    folder = result.files.phonopy
    bands = yaml.safe_load((folder / "band.yaml").read_text(encoding="utf-8"))
    assert bands["labels"][0] == ["$\\Gamma$", "$\\mathrm{X}$"]
    assert bands["nqpoint"] == len(result.analysis.bands.stacked)
    total = np.loadtxt(folder / "total_dos.dat")
    np.testing.assert_allclose(total[:, 1], result.analysis.states.total, atol=1e-9)
    assert np.loadtxt(folder / "projected_dos.dat").shape == total.shape
    thermal = yaml.safe_load((folder / "thermal_properties.yaml").read_text())
    assert len(thermal["thermal_properties"]) == 101
    assert not (folder / "BORN").exists()


def test_tables_have_units_in_their_heads(result):
    bands = columns(result.files.bands)
    assert bands["point"][0] == "Γ"
    assert set(bands) >= {"distance_per_A", "q_a", "band_1_THz", "band_3_THz"}
    states = columns(result.files.dos)
    assert set(states) == {"frequency_THz", "total_per_THz", "Cu_per_THz"}
    thermal = columns(result.files.thermal)
    assert thermal["temperature_K"][30] == "300"
    assert set(thermal) >= {"free_energy_kJ_per_mol", "entropy_J_per_K_per_mol"}


def test_the_summary_tells_settings_versions_and_results(result):
    summary = yaml.safe_load(result.files.summary.read_text(encoding="utf-8"))
    assert summary["inputs"] == "here"
    assert summary["settings"]["supercell"] == "2"
    assert summary["versions"]["phonopy"]
    found = summary["results"]
    assert found["space_group"] == "Fm-3m (225)"
    assert found["supercell"] == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert found["imaginary_modes"] is None
    assert found["thermal"]["temperature_K"] == 300
    # three degrees of freedom, less quantum effects and three modes of 27 at Gamma
    assert 2.5 < found["thermal"]["heat_capacity_kB_per_atom"] < 3
    assert found["has_nonanalytic_correction"] is False


def test_existing_files_are_not_replaced_unasked(result, tmp_path):
    files = PhononFiles.under(tmp_path, "cu")
    shutil.copytree(result.files.phonopy, files.phonopy)
    before = (files.phonopy / "FORCE_SETS").read_bytes()
    with pytest.raises(ArgumentError, match="cu-phonopy exists and would be replaced"):
        compute(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cu-phonopy"]
    assert (files.phonopy / "FORCE_SETS").read_bytes() == before


def test_replaced_results_leave_nothing_of_the_old_ones(result, tmp_path):
    files = PhononFiles.under(tmp_path, "cu")
    shutil.copytree(result.files.phonopy, files.phonopy)
    shutil.copyfile(result.files.thermal, files.thermal)
    # bcc copper is unstable in EMT
    unstable = compute(tmp_path, bulk("Cu", "bcc", a=2.87), overwrite=True)
    assert unstable.analysis.imaginary is not None
    assert not files.thermal.exists()
    assert not (files.phonopy / "thermal_properties.yaml").exists()
    assert loaded(files.phonopy).unitcell.volume == pytest.approx(2.87**3 / 2)


def test_the_supercell_grows_until_bands_stay(tmp_path):
    # EMT reaches beyond the 2 x 2 x 2 cell of a primitive one
    limits = ConvergenceSettings(converge="both", free_energy_tolerance_meV=5.0)
    result = compute(tmp_path, limits=limits)
    kinds = [row.kind for row in result.convergence]
    assert kinds.count("supercell") >= 3
    assert result.is_converged
    changes = [row.frequency_change_THz for row in result.convergence[1:3]]
    assert changes[0] > changes[1]
    table = columns(result.files.convergence)
    assert table["size"][:2] == ["2 x 2 x 2", "3 x 3 x 3"]
    assert table["is_converged"][-1] == "True"
    # the last but one mesh is good enough
    sizes = [row.size for row in result.convergence if row.kind == "mesh"]
    assert " x ".join(map(str, result.analysis.mesh)) == sizes[-2]


def test_a_limit_on_the_supercell_ends_as_not_converged(tmp_path):
    limits = ConvergenceSettings(converge="supercell", max_supercell_atoms=8)
    result = compute(tmp_path, limits=limits)
    assert not result.is_converged
    assert len(result.convergence) == 1


def test_forces_that_are_not_finite_are_refused_and_leave_no_file(tmp_path):
    class Broken(EMT):
        def calculate(self, *args, **more):
            super().calculate(*args, **more)
            self.results["forces"] = self.results["forces"] * np.nan

    with pytest.raises(
        UnsupportedSystemError, match="Cu cannot be computed: its forces"
    ):
        compute(tmp_path, calculator=Broken())
    assert not list(tmp_path.iterdir())


def test_atoms_without_forces_are_refused(tmp_path):
    class Flat(EMT):
        def calculate(self, *args, **more):
            super().calculate(*args, **more)
            self.results["forces"] = self.results["forces"] * 0.0

    with pytest.raises(UnsupportedSystemError, match="causes no forces"):
        compute(tmp_path, calculator=Flat())


def test_noisy_forces_are_told(tmp_path):
    class Noisy(EMT):
        rng = np.random.default_rng(0)

        def calculate(self, *args, **more):
            super().calculate(*args, **more)
            forces = self.results["forces"]
            self.results["forces"] = forces + self.rng.normal(0, 3e-3, forces.shape)

    result = compute(tmp_path, calculator=Noisy())
    assert "break the sum rule by" in result.notes[-1]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_pictures_are_drawn(result, ending, tmp_path):
    bands, thermal = tmp_path / f"b.{ending}", tmp_path / f"t.{ending}"
    plot_bands(result.analysis, bands, title="copper", tolerance_THz=0.1)
    plot_thermal(result.analysis.thermal, thermal, title="copper", n_atoms=1)
    assert bands.stat().st_size > 5000
    assert thermal.stat().st_size > 5000
