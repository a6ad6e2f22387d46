"""``jmp-md run --resume`` and what else a run can be told, through ``main()``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import read, write

from jmp_calc.sim.dynamics.settings import seed_of_input
from toys.runs import error_line, run


@pytest.fixture
def copper(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    write("copper.xyz", atoms)
    return Path("copper.xyz")


def start(copper, *words) -> int:
    return run(copper, "--calculator", "emt", "--out", "here", *words)


def summary() -> dict:
    return yaml.safe_load(Path("here/copper-summary.yml").read_text())


def test_a_resumed_run_takes_the_settings_that_it_began_with(copper, capsys):
    assert start(copper, "--steps", 20, "--temperature-K", 77, "--log-stride", 2) == 0
    assert start(copper, "--resume", "--steps", 30) == 0
    text = capsys.readouterr().out
    assert "resumed     at step 20, 10 to go" in text
    assert "30 steps in" in text
    settings = summary()["settings"]
    assert (settings["temperature_K"], settings["log_stride"]) == (77.0, 2)
    assert summary()["resumed_from_step"] == 20
    steps = [f.info["step"] for f in read("here/copper-traj.traj", ":")]
    assert steps == [0, 10, 20, 30]


def test_a_total_in_time_replaces_one_in_steps(copper):
    start(copper, "--steps", 10, "--timestep-fs", 2)
    assert start(copper, "--resume", "--time-ps", "0.04") == 0
    assert summary()["results"]["steps"] == 20


def test_a_time_between_steps_is_rounded_and_told(copper, capsys):
    assert start(copper, "--time-ps", 0.01, "--timestep-fs", 3) == 0
    note = "note        0.01 ps is no multiple of the time step; the run lasts 0.009 ps"
    assert note in capsys.readouterr().out
    assert summary()["results"]["steps"] == 3
    assert start(copper, "--time-ps", 0.3, "--timestep-fs", 3, "--overwrite") == 0
    assert "multiple" not in capsys.readouterr().out


def test_changed_physics_is_refused_and_nothing_is_touched(copper, capsys):
    start(copper, "--steps", 10)
    before = Path("here/copper-traj.traj").read_bytes()
    capsys.readouterr()
    assert start(copper, "--resume", "--temperature-K", 500, "--steps", 20) == 2
    assert "temperature_K was 300.0 and is 500.0" in error_line(capsys)
    assert Path("here/copper-traj.traj").read_bytes() == before


def test_resume_begins_a_run_that_is_not_there(copper):
    assert start(copper, "--resume", "--steps", 5) == 0
    assert summary()["results"]["steps"] == 5


def test_resume_needs_a_folder(copper, capsys):
    assert run(copper, "--calculator", "emt", "--resume") == 2
    assert "--resume needs the --out of the run" in error_line(capsys)


def test_out_of_time_is_its_own_exit_code(copper, capsys):
    assert start(copper, "--steps", 500, "--max-minutes", "1e-9") == 3
    assert "max_minutes over after step" in capsys.readouterr().err
    assert start(copper, "--resume", "--steps", 500) == 0


def test_several_structures_run_one_after_the_other(copper, capsys):
    write("second.xyz", bulk("Al", cubic=True))
    words = ("--calculator", "emt", "--steps", 4, "--out", "here")
    assert run(copper, "second.xyz", *words) == 0
    for name in ("copper", "second"):
        assert Path(f"here/{name}-final.xyz").is_file()


def test_each_input_has_noise_of_its_own_and_keeps_it_in_a_resume(copper):
    write("second.xyz", bulk("Cu", cubic=True))
    words = ("--calculator", "emt", "--seed", 3, "--timestep-fs", 4, "--out")
    assert run(copper, "second.xyz", *words, "whole", "--steps", 8) == 0
    seeds = {}
    for name in ("copper", "second"):
        found = yaml.safe_load(Path(f"whole/{name}-summary.yml").read_text())
        seeds[name] = found["settings"]["seed"]
    assert seeds == {"copper": 3, "second": seed_of_input(3, 1)}
    assert seeds["second"] != 3
    start, other = (read(f"whole/{name}-traj.traj@0") for name in seeds)
    assert np.abs(start.get_momenta() - other.get_momenta()).max() > 1.0
    # with the seed said again and without
    assert run(copper, "second.xyz", *words, "cut", "--steps", 4) == 0
    assert run(copper, "second.xyz", *words, "cut", "--steps", 6, "--resume") == 0
    words = ("--calculator", "emt", "--out", "cut", "--steps", 8, "--resume")
    assert run(copper, "second.xyz", *words) == 0
    for name in seeds:
        ends = [read(f"{folder}/{name}-traj.traj@-1") for folder in ("whole", "cut")]
        assert ends[0].positions == pytest.approx(ends[1].positions, abs=1e-9)


def test_a_config_file_gives_options_and_the_command_line_wins(copper):
    Path("a.yml").write_text("steps: 6\ntemperature-K: 150\nensemble: nvt-bussi\n")
    assert start(copper, "--config", "a.yml", "--steps", 8) == 0
    settings = summary()["settings"]
    assert settings["temperature_K"] == 150.0
    assert settings["ensemble"] == "nvt-bussi"
    assert summary()["results"]["steps"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps: 5", "unknown option 'stepps'; there are .*did you mean 'steps'"),
        ("5", "holds no table of options"),
        ("steps: [", "cannot read --config a.yml"),
        ("steps: many", "'many' is not a valid integer"),
    ],
)
def test_a_wrong_config_file_is_an_error(text, message, copper, capsys):
    Path("a.yml").write_text(text)
    assert start(copper, "--config", "a.yml") == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(" ".join(capsys.readouterr().err.split()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", 5, "--time-ps", 1], "give the length of the run in one of them"),
        (["--time-ps", "0.0002"], "is less than half a time step (timestep_fs 0.5)"),
        (["--ensemble", "nve", "--pressure-GPa", 1], "nve has no barostat"),
        (["--timestep-fs", -1], "timestep_fs is -1.0; it must be above 0"),
        (["--hydrogen-mass-amu", 0], "hydrogen_mass_amu is 0.0; it must be above 0"),
        (["--max-bond-stretch", 0.5], "max_bond_stretch is 0.5; it must be above 1"),
        (["--calculator", "nowhere:f"], "calculator 'nowhere:f' cannot be imported"),
    ],
)
def test_a_wrong_setting_is_one_line_and_makes_nothing(words, message, copper, capsys):
    assert start(copper, *words) == 2
    assert message in error_line(capsys)
    assert not Path("here").exists()


def test_a_bond_that_breaks_ends_the_run_if_that_is_asked_for(copper, capsys):
    words = ("--temperature-K", 9000, "--max-temperature-K", 1e6, "--timestep-fs", 4)
    words += ("--max-energy-change-eV-per-atom", 99, "--max-bond-stretch", "1.2")
    assert start(copper, *words, "--steps", 500) == 4
    assert "more than max_bond_stretch = 1.2" in capsys.readouterr().err


def test_pressure_and_volume_are_logged_where_the_cell_moves(copper):
    words = ("--ensemble", "npt", "--timestep-fs", 2, "--steps", 20, "--plot")
    assert start(copper, *words) == 0
    header = Path("here/copper-md.csv").read_text().splitlines()[0]
    assert header.endswith("temperature_K,pressure_GPa,volume_A3")
    assert Path("here/copper-md.png").is_file()
    frame = read("here/copper-traj.traj")
    assert frame.get_stress().shape == (6,)


def test_inputs_not_yet_begun_begin_with_the_settings_of_the_others(copper):
    write("second.xyz", bulk("Al", cubic=True))
    assert start(copper, "--steps", 6, "--temperature-K", 600) == 0
    words = ("--calculator", "emt", "--out", "here", "--resume")
    assert run(copper, "second.xyz", *words) == 0
    second = yaml.safe_load(Path("here/second-summary.yml").read_text())
    assert second["settings"]["temperature_K"] == 600.0
    assert second["results"]["steps"] == 6


def test_a_run_killed_before_its_first_checkpoint_begins_anew(copper, capsys):
    Path("here").mkdir()
    Path("here/copper-md.csv").touch()
    assert start(copper, "--resume", "--steps", 5) == 2
    assert "exists and would be replaced" in error_line(capsys)
    Path("here/copper-summary.yml").write_text("status: running\n")
    assert start(copper, "--resume", "--steps", 5) == 0


def test_limits_are_kept_by_a_resume(copper):
    start(copper, "--steps", 4, "--max-bond-stretch", "1.5")
    start(copper, "--steps", 8, "--resume")
    assert summary()["settings"]["max_bond_stretch"] == 1.5


def test_the_format_of_the_trajectory_cannot_change(copper, capsys):
    start(copper, "--steps", 4)
    capsys.readouterr()
    assert start(copper, "--resume", "--trajectory-format", "xyz") == 2
    assert "is in the format 'traj' and 'xyz' is asked for" in error_line(capsys)


def test_a_molecule_that_turns_under_nose_hoover_is_told(copper, capsys):
    write("h2.xyz", molecule("H2"))
    words = ("h2.xyz", "--calculator", "emt", "--steps", 2, "--ensemble", "nvt-nhc")
    assert run(*words) == 0
    assert "note        nvt-nhc leaves a molecule turning" in capsys.readouterr().out
    assert run(*words, "--fix-rotation") == 0
    assert "turning" not in capsys.readouterr().out
    assert run("copper.xyz", *words[1:]) == 0
    assert "turning" not in capsys.readouterr().out
    assert run(*words[:-1], "nvt", "--fix-rotation") == 2
    assert "fix_rotation is for isolated molecules under nve" in error_line(capsys)
