"""``jmp-md run`` and the group around it, through ``main()``, on a cheap calculator."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import read, write

from jmp_calc.cli import VERBS, main
from jmp_calc.cli.options import FOREIGN_OPTIONS, ModelOptions, field_help
from jmp_calc.cli.relax import relax as relax_command
from jmp_calc.cli.run import run as run_command
from jmp_calc.errors import ArgumentError
from jmp_calc.models.weights import save_weights
from jmp_calc.sim.dynamics.settings import (
    MDSettings,
    RecordSettings,
    WatchSettings,
)
from toys.models import published_model
from toys.runs import (
    EXAMPLES,
    DescribedEMT,
    DirectForAluminium,
    error_line,
    run,
)


def test_a_run_tells_what_it_does_and_where_it_wrote(asked, slab, capsys):
    assert run(slab, "--steps", 60, "--temperature-K", 150, "--log-stride", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert "14 atoms, periodic in xy" in text
    assert "jmp-nano, head toy (effective medium theory)" in text
    assert "gradient, conservative" in text
    assert "a toy for metals" in text
    assert "nvt, 150 K, 60 steps of 0.5 fs = 0.03 ps" in text
    assert "completed   60 steps" in text
    assert "target 150" in text
    for name in ("slab-traj.traj", "slab-md.csv", "slab-final.xyz", "slab-summary.yml"):
        assert f"runs/slab-1/{name}" in text
        assert Path("runs/slab-1", name).is_file()


def test_the_summary_holds_model_input_and_command(asked, slab):
    run(slab, "--steps", 2, "--out", "here")
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["model"]["weights_sha256"] == "0" * 64
    assert summary["model"]["dtype"] == "float32"
    (file,) = summary["inputs"]["files"]
    assert file["file"] == str(slab)
    assert len(file["sha256"]) == 64
    command = f"jmp-md run {slab} --steps 2 --out here"
    assert summary["inputs"]["command"] == command
    assert summary["inputs"]["working_folder"] == str(slab.parent)


def test_options_reach_model_and_settings(asked, slab):
    words = [
        "--model",
        "m",
        "--head",
        "h",
        "--forces",
        "gradient",
        "--device",
        "cuda:1",
        "--dtype",
        "float64",
    ]
    words += [
        "--ensemble",
        "nve",
        "--temperature-K",
        "77",
        "--timestep-fs",
        "2",
        "--steps",
        "3",
    ]
    words += [
        "--seed",
        "5",
        "--trajectory-format",
        "xyz",
        "--out",
        "here",
    ]
    assert run(slab, *words) == 0
    assert asked == [
        ModelOptions(
            model="m", head="h", forces="gradient", device="cuda:1", dtype="float64"
        )
    ]
    settings = yaml.safe_load(Path("here/slab-summary.yml").read_text())["settings"]
    expected = MDSettings(
        ensemble="nve",
        temperature_K=77.0,
        timestep_fs=2.0,
        steps=3,
        seed=5,
    )
    record = RecordSettings(trajectory_format="xyz")
    assert settings == {
        **dataclasses.asdict(expected),
        **dataclasses.asdict(record),
        **dataclasses.asdict(WatchSettings()),
    }
    assert len(read("here/slab-traj.xyz", index=":")) == 2


@pytest.mark.parametrize(
    ("ensemble", "option"),
    [
        ("nve", "--friction"),
        ("nvt-bussi", "--friction"),
        ("nvt", "--thermostat-time-fs"),
        ("nph", "--thermostat-time-fs"),
        ("nvt-nhc", "--barostat-time-fs"),
    ],
)
def test_an_option_that_the_ensemble_does_not_have_is_refused(
    ensemble, option, slab, capsys
) -> None:
    assert run(slab, "--ensemble", ensemble, option, "0.1", "--out", "here") == 2
    told = f"{option} has no effect on --ensemble {ensemble}; leave it out"
    assert told in capsys.readouterr().err
    assert not Path("here").exists()


@pytest.mark.parametrize(
    ("ensemble", "option"),
    [
        ("nvt", "--friction"),
        ("nvt-nhc", "--thermostat-time-fs"),
        ("npt", "--barostat-time-fs"),
    ],
)
def test_an_option_that_it_has_is_taken(ensemble, option, slab, capsys) -> None:
    run(slab, "--ensemble", ensemble, option, "0.1", "--steps", "1", "--out", "here")
    assert "has no effect" not in capsys.readouterr().err


def test_tags_and_offline_reach_the_calculator(monkeypatch) -> None:
    from jmp_calc.cli.job import build_calculator

    given = {}
    monkeypatch.setattr(
        "jmp_calc.calculator.JMPCalculator",
        lambda model, **settings: given.update(settings),
    )
    build_calculator(ModelOptions(tags="atoms", offline=True))
    assert (given["tags"], given["offline"]) == ("atoms", True)


def test_offline_without_the_file_makes_no_download(slab, monkeypatch, capsys) -> None:
    monkeypatch.setenv("JMP_CALC_HOME", str(slab.parent / "home"))
    assert run(slab, "--model", "jmp-small", "--offline") == 2
    assert "offline" in capsys.readouterr().err


def test_without_out_each_run_gets_a_new_folder(asked, slab):
    assert run(slab, "--steps", 1) == 0
    assert run(slab, "--steps", 1) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["slab-1", "slab-2"]


def test_a_run_that_cannot_start_leaves_no_folder(asked, slab, capsys):
    atoms = read(slab)
    atoms.set_constraint(FixAtoms(range(14)))
    write("fixed.traj", atoms)
    assert run("fixed.traj") == 2
    assert "all 14 atoms are fixed" in error_line(capsys)
    assert not Path("runs").exists()


def test_a_time_step_too_long_for_the_elements_is_told(asked, slab, capsys):
    run(slab, "--steps", 1, "--timestep-fs", 3)
    assert "is long" not in capsys.readouterr().out
    run(slab, "--steps", 1, "--timestep-fs", 4)
    assert "4 fs is long for the lightest element here; up to 3.5 fs" in (
        capsys.readouterr().out
    )


def test_a_short_run_tells_the_change_of_energy(asked, slab, capsys):
    run(slab, "--steps", 3, "--ensemble", "nve")
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("energy"))
    assert line.startswith("energy      changed by ")
    assert line.endswith(" meV/atom")


@pytest.mark.filterwarnings("always")
def test_a_warning_is_one_line_and_none_if_a_note_said_it(slab, capsys, monkeypatch):
    class Warns(DescribedEMT):
        def calculate(self, *args):
            warnings.warn("a toy for metals, as the note said", stacklevel=1)
            super().calculate(*args)

    def build(options):
        warnings.warn("this is odd", stacklevel=1)
        return Warns(options)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    run(slab, "--steps", 1)
    assert capsys.readouterr().err == "jmp-md: warning: this is odd\n"


def test_velocities_in_the_input_are_used_and_told(asked, slab, capsys):
    run(slab, "--steps", 5, "--out", "one")
    assert "velocities from the input" not in capsys.readouterr().out
    assert run("one/slab-traj.traj", "--steps", 5) == 0
    assert "velocities from the input" in capsys.readouterr().out


def test_existing_results_are_replaced_only_with_overwrite(asked, slab, capsys):
    words = (slab, "--steps", 1, "--out", "here")
    assert run(*words) == 0
    assert run(*words) == 2
    assert "exists and would be replaced" in capsys.readouterr().err
    assert len(asked) == 1  # refused before the model was loaded
    assert run(*words, "--overwrite") == 0


def test_a_picture_is_drawn_on_request(asked, slab, capsys):
    pytest.importorskip("matplotlib", reason="extra 'plot' is not installed")
    assert run(slab, "--steps", 20, "--plot", "--out", "here") == 0
    assert Path("here/slab-md.png").stat().st_size > 10_000
    assert "here/slab-md.png" in capsys.readouterr().out


def test_a_wrong_model_is_one_line(slab, capsys, monkeypatch):
    def build(options):
        raise ArgumentError("no model 'jmp-nona';\n did you mean 'jmp-nano'?")

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    assert run(slab, "--model", "jmp-nona") == 2
    assert "no model 'jmp-nona'; did you mean 'jmp-nano'?" in error_line(capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ensemble", "nptt"], "'nptt' is not one of 'nve', 'nvt'"),
        (["--steps", "many"], "'many' is not a valid integer"),
        (["--timestep", "1"], "did you mean --timestep-fs?"),
        (["--temp", "1"], "did you mean --temperature-K?"),
        (["--temperature-k", "1"], "did you mean --temperature-K?"),
        (["--traj-every", "1"], "did you mean --trajectory-stride?"),
        (["--stats-every", "1"], "did you mean --log-stride?"),
        (["--frictoin", "1"], "Did you mean one of: '--friction'"),
        (["--dtype", "float16"], "'float32', 'float64'"),
    ],
)
def test_a_wrong_option_exits_with_2_and_says_what_is_allowed(
    words, text, asked, slab, capsys
):
    assert run(slab, *words) == 2
    assert text in capsys.readouterr().err


def test_names_of_choices_may_be_in_capitals(asked, slab):
    assert run(slab, "--ensemble", "NVE", "--steps", 1, "--out", "here") == 0
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["settings"]["ensemble"] == "nve"


@pytest.mark.parametrize("name", FOREIGN_OPTIONS)
def test_what_other_programs_call_an_option_leads_to_one_that_exists(name):
    commands = (run_command, relax_command)
    known = {option for c in commands for p in c.params for option in p.opts}
    assert FOREIGN_OPTIONS[name] in known
    assert name not in known


def test_a_number_out_of_range_exits_with_2(asked, slab, capsys):
    assert run(slab, "--timestep-fs", 0) == 2
    assert "timestep_fs is 0.0; it must be above 0" in error_line(capsys)


def test_nve_with_direct_forces_needs_permission(slab, capsys, monkeypatch):
    def build(options):
        return DescribedEMT(options, is_conservative=False)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    words = (slab, "--ensemble", "nve", "--steps", 2)
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert "nve needs forces that are the gradient" in captured.err
    assert "--allow-direct-forces" in captured.err
    assert run(*words, "--allow-direct-forces") == 0
    assert "direct, not conservative" in capsys.readouterr().out


@pytest.mark.parametrize("ensemble", ["nve", "nph"])
def test_direct_forces_of_a_second_input_are_refused(
    ensemble, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("Cu", "Al"):
        write(f"{name}.xyz", bulk(name, cubic=True))
    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", DirectForAluminium)
    words = ("Cu.xyz", "Al.xyz", "--ensemble", ensemble, "--steps", 1, "--out", "here")
    assert run(*words) == 2
    assert f"{ensemble} needs forces that are the gradient" in error_line(capsys)
    assert Path("here/Cu-final.xyz").exists()
    assert not list(Path("here").glob("Al*"))


def test_nve_with_an_active_neighbor_cap_needs_permission(slab, capsys, monkeypatch):
    class Capped(DescribedEMT):
        def describe(self, atoms):
            cap = "main (nearest 30, 12 edges left out)"
            return {**super().describe(atoms), "neighbor_cap": cap}

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", Capped)
    words = (slab, "--ensemble", "nve", "--steps", 2)
    assert run(*words) == 2
    message = error_line(capsys)
    assert "head 'toy' of jmp-nano cap the neighbours" in message
    assert "main (nearest 30, 12 edges left out)" in message
    assert "10-22 % when the crystal is rotated" in message
    assert "--allow-neighbor-cap" in message
    assert run(*words, "--allow-neighbor-cap") == 0
    # a thermostat takes up what jumps of the energy leave
    assert run(slab, "--steps", 2) == 0


def test_a_cap_of_published_rules_is_refused_for_the_structure_at_hand(slab, capsys):
    save_weights(published_model(), Path("toy.safetensors"))
    words = ("--model", "toy.safetensors", "--forces", "gradient")
    short = ("--ensemble", "nve", "--steps", 1)
    assert run(slab, *words, *short) == 2
    message = error_line(capsys)
    assert "head 'oc20' of toy.safetensors cap the neighbours" in message
    assert "quadruplet (nearest 32, " in message
    # a molecule has fewer neighbours than the cap
    assert run(EXAMPLES / "methane.xyz", *words, *short) == 0


def test_an_unknown_verb_lists_the_verbs(capsys):
    assert main(["rum", "x"]) == 2
    message = capsys.readouterr().err
    assert f"no verb 'rum'; choose one of {', '.join(VERBS)}; did you" in message
    assert "did you mean 'run'?" in message


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"jmp-md {verb}" in capsys.readouterr().out


def test_help_of_run_tells_default_and_unit_of_every_setting(capsys):
    main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for cls in (MDSettings, ModelOptions):
        for field in dataclasses.fields(cls):
            assert f"--{field.name.replace('_', '-')}" in text
            assert field_help(cls)[field.name] in text
            if not any(field.default is empty for empty in (None, False, ())):
                assert f"[default: {field.default}]" in text


def test_the_group_tells_version_and_verbs(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("jmp-md ")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text and line in text for name, (_, line) in VERBS.items())


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_imports_neither_torch_nor_a_model(words):
    code = (
        "import sys; from jmp_calc.cli import main; "
        f"assert main({words!r}) == 0; "
        "assert 'torch' not in sys.modules; assert 'jmp_calc.models' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
