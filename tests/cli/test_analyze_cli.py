"""``jmp-md analyze`` through ``main()``."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from jmp_calc.cli import main
from jmp_calc.errors import DataError
from jmp_calc.sim.analysis.analyze import analyze_trajectory
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.trajectories.h5md import H5MDWriter
from toys.runs import error_line

RMD17 = Path(__file__).parents[3] / "shared" / "data" / "rmd17"


def analyze(*words) -> int:
    return main(["analyze", *map(str, words)])


def rattled(start: Atoms, number: int) -> list[Atoms]:
    """Frames 5 fs apart with velocities and energies."""
    rng = np.random.default_rng(0)
    frames = []
    for k in range(number):
        atoms = start.copy()
        atoms.positions += rng.normal(0, 0.05, (len(atoms), 3))
        atoms.set_momenta(rng.normal(0, 1, (len(atoms), 3)))
        atoms.info = {"step": 10 * k, "time_ps": 0.005 * k}
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()))
        frames.append(atoms)
    return frames


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with trajectories that the command runs in."""
    monkeypatch.chdir(tmp_path)
    crystal = rattled(bulk("NaCl", "rocksalt", a=5.6, cubic=True), 60)
    ase.io.write("nacl-traj.traj", crystal)
    ase.io.write("ethanol-traj.traj", rattled(molecule("CH3CH2OH"), 60))
    return tmp_path


def summary_of(path: str) -> dict:
    return yaml.safe_load(Path(path).read_text())


def test_a_crystal_gives_tables_and_one_report(here, capsys) -> None:
    assert analyze("nacl-traj.traj") == 0
    out = capsys.readouterr().out
    assert "nacl-traj.traj, Cl4Na4, 60 frames, 0 to 0.295 ps" in out
    folder = Path("runs/nacl-analysis-1")
    assert f"report      {folder}/nacl-report.html" in out
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("nacl-report.html", "nacl-analysis-summary.yml"),
        *(f"nacl-{k}.csv" for k in ("rdf", "msd", "vacf", "vdos", "energy")),
        *(f"nacl-{k}.csv" for k in ("stability", "bonds", "angles")),
    }
    report = (folder / "nacl-report.html").read_text()
    assert report.count("data:image/svg+xml;base64,") == 8
    with (folder / "nacl-rdf.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [name for name in rows[0] if name.startswith("g_")] == [
        *("g_total", "g_Cl-Cl", "g_Cl-Na", "g_Na-Na")
    ]
    summary = summary_of("runs/nacl-analysis-1/nacl-analysis-summary.yml")
    assert summary["inputs"]["command"] == "jmp-md analyze nacl-traj.traj"
    assert len(summary["inputs"]["files"][0]["sha256"]) == 64
    assert summary["results"]["nacl"]["stability"]["stable to the end"] is True
    assert summary["settings"]["bin_width_A"] == 0.05


def test_pictures_on_request(here) -> None:
    words = ("--plot", "--picture-format", "svg", "--only", "structure", "--out", "x")
    assert analyze("ethanol-traj.traj", *words) == 0
    assert Path("x/ethanol-distances.svg").read_text().startswith("<?xml")
    assert not list(Path("x").glob("*.png"))


def test_several_trajectories_are_in_one_report(here, capsys) -> None:
    Path("other").mkdir()
    ase.io.write("other/ethanol.xyz", rattled(molecule("CH3CH2OH"), 40))
    words = ("nacl-traj.traj", "ethanol-traj.traj", "other/ethanol.xyz")
    assert analyze(*words, "--out", "x", "--only", "bonds") == 0
    report = Path("x/analysis-report.html").read_text()
    assert Path("x/analysis-summary.yml").is_file()
    assert "Analysis of 3 trajectories" in report
    for name in ("nacl", "ethanol-1", "ethanol-2"):
        assert Path(f"x/{name}-bonds.csv").is_file()
        assert f"<th>{name}</th>" in report


def test_frames_are_chosen(here) -> None:
    words = ("--start", 10, "--stop", 50, "--stride", 2, "--equilibration-ps", 0.1)
    words = (*words, "--only", "structure")
    assert analyze("nacl-traj.traj", *words, "--out", "x") == 0
    results = summary_of("x/nacl-analysis-summary.yml")["results"]["nacl"]
    assert results["frames read"] == 20
    # every 10 fs, and the first 100 fs are left out
    assert results["frames averaged"] == 10
    assert results["time"] == "0.05 to 0.24 ps"
    assert results["rdf"]["frames averaged"] == 10


def test_h5md_and_extended_xyz_give_the_same_as_traj(here) -> None:
    frames = ase.io.read("nacl-traj.traj", ":")
    ase.io.write("b.xyz", frames)
    writer = H5MDWriter(Path("c.h5"))
    for atoms in frames:
        writer.write(atoms)
    writer.close()
    results = [
        analyze_trajectory(Path(name), AnalysisSettings())
        for name in ("nacl-traj.traj", "b.xyz", "c.h5")
    ]
    for traj, xyz, h5md in zip(*(r.sections for r in results), strict=True):
        for name, curve in traj.columns.items():
            np.testing.assert_allclose(curve, h5md.columns[name], rtol=1e-9, atol=1e-12)
            # extended XYZ has eight decimals, so an atom may change its bin
            if traj.key not in ("rdf", "bonds", "angles"):
                np.testing.assert_allclose(
                    curve, xyz.columns[name], rtol=1e-4, atol=1e-5
                )


def test_a_file_without_times_gets_them_from_the_command_line(here, capsys) -> None:
    frames = ase.io.read("nacl-traj.traj", ":")
    for atoms in frames:
        atoms.info = {}
    ase.io.write("a.xyz", frames)
    assert analyze("a.xyz", "--out", "x", "--only", "msd") == 0
    assert "the frames tell no time" in capsys.readouterr().out
    assert not Path("x/a-msd.csv").exists()
    words = ("--only", "msd", "--only", "vdos", "--frame-interval-fs", 5)
    assert analyze("a.xyz", "--out", "y", *words) == 0
    for key in ("msd", "vdos"):
        one = np.loadtxt(f"y/a-{key}.csv", delimiter=",", skiprows=1)
        assert analyze("nacl-traj.traj", "--out", key, "--only", key) == 0
        other = np.loadtxt(f"{key}/nacl-{key}.csv", delimiter=",", skiprows=1)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_repeated_frames_are_left_out(here) -> None:
    frames = ase.io.read("nacl-traj.traj", ":")
    ase.io.write("again.traj", [*frames[:30], frames[29], *frames[30:]])
    found, expected = (
        analyze_trajectory(Path(name), AnalysisSettings())
        for name in ("again.traj", "nacl-traj.traj")
    )
    assert "1 of the frames repeat the frame before" in found.notes[0]
    assert expected.notes == ()
    for one, other in zip(found.sections, expected.sections, strict=True):
        for name, curve in one.columns.items():
            np.testing.assert_array_equal(curve, other.columns[name])


def test_a_time_that_does_not_go_forward_is_refused(here, capsys) -> None:
    frames = ase.io.read("nacl-traj.traj", ":")
    still = [frames[0], frames[1].copy()]
    still[1].info["time_ps"] = 0.0
    for name, more, told in (
        ("appended", [*frames, *frames[::2]], "frame 60 of appended.traj is at 0 ps"),
        ("overlap", [*frames[:30], *frames[20:]], "with --stop 30 and --start 30"),
        ("still", still, "at 0 ps, and the frame before at 0 ps"),
    ):
        ase.io.write(f"{name}.traj", more)
        with pytest.raises(DataError, match=told):
            analyze_trajectory(Path(f"{name}.traj"), AnalysisSettings())
    for choice in ({"stop": 60}, {"frame_interval_fs": 5.0}):
        settings = AnalysisSettings(only=("structure",), **choice)
        analyze_trajectory(Path("appended.traj"), settings)
    assert analyze("overlap.traj", "--out", "x") == 2
    assert "frame 30 of overlap.traj is at 0.1 ps" in error_line(capsys)
    assert list(Path("x").iterdir()) == []


def test_a_run_is_analysed_with_its_csv(here) -> None:
    words = ("--calculator", "emt", "--steps", "60", "--trajectory-stride", "2")
    ase.io.write("cu.xyz", bulk("Cu", cubic=True))
    assert main(["run", "cu.xyz", *words, "--out", "x", "--log-stride", "1"]) == 0
    assert analyze("x/cu-traj.traj", "--out", "x", "--only", "energy") == 0
    results = summary_of("x/cu-analysis-summary.yml")["results"]["cu"]
    assert results["energy"]["from"] == "cu-md.csv"
    assert len(Path("x/cu-energy.csv").read_text().splitlines()) == 62
    # the summary of the run itself is still there
    assert summary_of("x/cu-summary.yml")["status"] == "completed"


@pytest.mark.skipif(not RMD17.is_dir(), reason="needs the rMD17 files beside the tree")
def test_two_halves_of_rmd17_have_nearly_the_same_h(here, capsys) -> None:
    one, other = (RMD17 / f"rmd17_ethanol_{k}_01.npz" for k in ("test", "train"))
    assert analyze(one, "--reference", other, "--out", "x") == 0
    stem = "rmd17_ethanol_test_01"
    results = summary_of(f"x/{stem}-analysis-summary.yml")["results"][stem]
    found = results["distances"]
    mae = found["MAE of h(r) against the reference, total"]
    halves = found["the same between the halves of the reference, total"]
    # 1000 frames each of the same ensemble; halves have half of them
    assert 0.2 * halves < mae < halves < 0.1
    assert results["stability"]["stable to the end"] is True
    # the error of the mean of 1000 frames is 0.001 A
    assert results["bonds"]["H-O, mean"].startswith("0.98")


def test_existing_files_are_only_replaced_on_request(here, capsys) -> None:
    words = ("ethanol-traj.traj", "--out", "x", "--only", "bonds")
    assert analyze(*words) == 0
    capsys.readouterr()
    before = Path("x/ethanol-bonds.csv").read_text()
    assert analyze(*words, "--stop", 20) == 2
    assert "exists and would be replaced" in error_line(capsys)
    assert Path("x/ethanol-bonds.csv").read_text() == before
    assert analyze(*words, "--stop", 20, "--overwrite") == 0
    assert Path("x/ethanol-bonds.csv").read_text() != before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.traj"], "no.traj does not exist; give a trajectory file"),
        (["."], ". is a folder; give a trajectory file"),
        (["empty.xyz"], "cannot read frame 0 of empty.xyz"),
        (["text.traj"], "cannot read frame 0 of text.traj"),
        (["text.h5"], "cannot read text.h5 as an H5MD file"),
        (["mixed.xyz"], "frame 1 of mixed.xyz has other atoms than frame 0"),
        (["nacl-traj.traj", "--start", "60"], "no frames from frame 60 on"),
        (["nacl-traj.traj", "--start", "-1"], "start is -1; it must be 0 or more"),
        (["nacl-traj.traj", "--stride", "0"], "stride is 0; it must be 1 or more"),
        (["nacl-traj.traj", "--start", "5", "--stop", "5"], "stop must be larger"),
        (
            ["nacl-traj.traj", "--equilibration-ps", "9"],
            "end after 0.295 ps; give less",
        ),
        (["nacl-traj.traj", "--equilibration-ps", "nan"], "it must be 0 or more"),
        (
            ["h2.xyz", "--equilibration-ps", "1"],
            "tell no time; give --frame-interval-fs",
        ),
        (["nacl-traj.traj", "--r-max-A", "0"], "r_max_A is 0.0; it must be above 0"),
        (["nacl-traj.traj", "--bin-width-A", "9"], "bin width below half the range"),
        (
            ["nacl-traj.traj", "--pairs", "O-H"],
            "there is no O; the trajectory has Cl, Na",
        ),
        (["nacl-traj.traj", "--pairs", "NaCl"], "'NaCl' is no pair of elements"),
        (["nacl-traj.traj", "--max-bond-stretch", "1"], "it must be above 1"),
        (["nacl-traj.traj", "--reference", "no.npz"], "no.npz does not exist"),
        (["nacl-traj.traj", "--reference", "h2.xyz"], "--reference h2.xyz is of H2"),
        (
            ["nacl-traj.traj", "--log", "no.csv"],
            "cannot read no.csv as the CSV of a run",
        ),
        (
            ["nacl-traj.traj", "--fit-start-ps", "2", "--fit-stop-ps", "1"],
            "must end after",
        ),
        (["h2.xyz", "--config", "no.yaml"], "cannot read --config no.yaml"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(words, message, here, capsys):
    Path("empty.xyz").write_text("")
    Path("text.traj").write_text("nonsense")
    Path("text.h5").write_text("nonsense")
    ase.io.write("mixed.xyz", [molecule("H2O"), molecule("CH4")])
    ase.io.write("h2.xyz", molecule("H2"))
    before = sorted(here.rglob("*"))
    assert analyze(*words) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(here.rglob("*")) == before


def test_the_help_has_units_and_an_example_and_is_quick() -> None:
    code = (
        "import sys\n"
        "from jmp_calc.cli import main\n"
        "assert main(['analyze', '--help']) == 0\n"
        "heavy = {'torch', 'matplotlib', 'h5py', 'matscipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    words = [sys.executable, "-c", code]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "Example: jmp-md analyze" in out
    assert "--equilibration-ps" in out
