"""``jmp-md run`` and the group around it, through ``main()``, on a cheap calculator."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ase.calculators.emt import EMT
from ase.io import read

from jmp_calc.cli import VERBS, main
from jmp_calc.cli.options import ModelOptions, Source, field_help
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.settings import MDSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


class DescribedEMT(EMT):
    """EMT that describes itself as JMPCalculator does."""

    def __init__(self, options: ModelOptions, is_conservative: bool = True) -> None:
        super().__init__()
        self.options = options
        self.is_conservative = is_conservative

    def describe(self, atoms):
        return {
            "model": self.options.model,
            "head": self.options.head or "toy",
            "level_of_theory": "effective medium theory",
            "forces": "gradient" if self.is_conservative else "direct",
            "is_conservative": self.is_conservative,
            "weights_sha256": "0" * 64,
            "notes": ["a toy for metals"],
        }


@pytest.fixture
def asked(monkeypatch) -> list[ModelOptions]:
    """Options that reach the calculator, which is EMT in these tests."""
    seen: list[ModelOptions] = []

    def build(options):
        seen.append(options)
        return DescribedEMT(options)

    monkeypatch.setattr("jmp_calc.cli.run.build_calculator", build)
    return seen


@pytest.fixture
def slab(tmp_path, monkeypatch) -> Path:
    """A structure file in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "slab.xyz"
    path.write_text((EXAMPLES / "cu_slab_co.xyz").read_text())
    return path


def run(*words) -> int:
    return main(["run", *map(str, words)])


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
    assert summary["inputs"]["file"] == str(slab)
    assert len(summary["inputs"]["sha256"]) == 64


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
        "--friction",
        "0.02",
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
        friction_per_fs=0.02,
        trajectory_format="xyz",
    )
    assert settings == dataclasses.asdict(expected)
    assert len(read("here/slab-traj.xyz", index=":")) == 2


def test_without_out_each_run_gets_a_new_folder(asked, slab):
    assert run(slab, "--steps", 1) == 0
    assert run(slab, "--steps", 1) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["slab-1", "slab-2"]


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


def test_a_frame_can_be_chosen(asked, slab):
    frames = read(slab), read(slab)
    frames[0].positions += 0.5
    from ase.io import write

    write("two.xyz", frames)
    assert Source(path=Path("two.xyz")).load().positions[0, 0] < 1.5
    assert Source(path=Path("two.xyz"), frame=0).load().positions[0, 0] > 1.5


def error_line(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", "this is not a structure\n"),
        ("a.xyz", ""),
        ("a.cif", "data_x\n"),
        ("a.traj", "nonsense"),
        ("a.foo", "nonsense"),
        ("a.json", "{"),
        ("POSCAR", "x\n1.0\n"),
        ("a.pdb", "HEADER\n"),
        ("a.xyz", b"\xff\xfe\x00\x01"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_formats(
    name, content, asked, slab, capsys
):
    data = content if isinstance(content, bytes) else content.encode()
    Path(name).write_bytes(data)
    assert run(name) == 2
    line = error_line(capsys)
    assert line.startswith("jmp-md: error: ")
    assert name in line
    assert "structure" in line
    assert not asked


def test_a_file_that_is_not_a_structure_is_told_which_formats_will_do(slab):
    Path("a.foo").write_text("nonsense")
    with pytest.raises(
        DataError, match=r"cannot read structure -1 of a.foo.*\.cif.*ase"
    ):
        Source(path=Path("a.foo")).load()


@pytest.mark.parametrize(
    ("name", "problem"), [("none.xyz", "does not exist"), (".", "is a folder")]
)
def test_a_missing_file_is_one_line(name, problem, asked, slab, capsys):
    assert run(name) == 2
    assert f"{name} {problem}; give a structure file" in error_line(capsys)


def test_a_wrong_model_is_one_line(slab, capsys, monkeypatch):
    def build(options):
        raise ArgumentError("no model 'jmp-nona';\n did you mean 'jmp-nano'?")

    monkeypatch.setattr("jmp_calc.cli.run.build_calculator", build)
    assert run(slab, "--model", "jmp-nona") == 2
    assert "no model 'jmp-nona'; did you mean 'jmp-nano'?" in error_line(capsys)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ensemble", "npt"], "'npt' is not one of 'nve', 'nvt'"),
        (["--steps", "many"], "'many' is not a valid integer"),
        (["--timestep", "1"], "--timestep-fs"),
        (["--dtype", "float16"], "'float32', 'float64'"),
    ],
)
def test_a_wrong_option_exits_with_2_and_says_what_is_allowed(
    words, text, asked, slab, capsys
):
    assert run(slab, *words) == 2
    assert text in capsys.readouterr().err


def test_a_number_out_of_range_exits_with_2(asked, slab, capsys):
    assert run(slab, "--timestep-fs", 0) == 2
    assert "timestep_fs is 0.0; it must be above 0" in error_line(capsys)


def test_nve_with_direct_forces_needs_permission(slab, capsys, monkeypatch):
    def build(options):
        return DescribedEMT(options, is_conservative=False)

    monkeypatch.setattr("jmp_calc.cli.run.build_calculator", build)
    words = (slab, "--ensemble", "nve", "--steps", 2)
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert "nve needs forces that are the gradient" in captured.err
    assert "--allow-direct-forces" in captured.err
    assert run(*words, "--allow-direct-forces") == 0
    assert "direct, not conservative" in capsys.readouterr().out


def test_an_unstable_run_exits_with_4_and_keeps_its_files(asked, slab, capsys):
    words = (slab, "--steps", 500, "--timestep-fs", 40, "--out", "here")
    assert run(*words) == 4
    captured = capsys.readouterr()
    assert "jmp-md: unstable: " in captured.err
    assert "unstable    " in captured.out
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "unstable"
    assert read("here/slab-traj.traj").info["step"] == summary["results"]["steps"]


def interrupting(monkeypatch, error):
    class Interrupted(DescribedEMT):
        n_calls = 0

        def calculate(self, *args):
            self.n_calls += 1
            if self.n_calls > 5:
                raise error
            super().calculate(*args)

    monkeypatch.setattr("jmp_calc.cli.run.build_calculator", Interrupted)


def test_ctrl_c_exits_with_130_and_keeps_its_files(slab, capsys, monkeypatch):
    interrupting(monkeypatch, KeyboardInterrupt())
    assert run(slab, "--out", "here") == 130
    assert "interrupted after step" in capsys.readouterr().err
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "interrupted"
    assert read("here/slab-final.xyz").info["step"] == summary["results"]["steps"]


def test_ctrl_c_before_the_run_exits_with_130(slab, capsys, monkeypatch):
    def build(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("jmp_calc.cli.run.build_calculator", build)
    assert run(slab) == 130
    assert error_line(capsys) == "jmp-md: interrupted"


def test_a_force_error_during_the_run_is_one_line_that_says_what_is_kept(
    slab, capsys, monkeypatch
):
    interrupting(monkeypatch, DataError("the table ended"))
    assert run(slab, "--out", "here") == 2
    line = error_line(capsys)
    assert "the table ended; stopped after step" in line
    assert line.endswith("is in here")


def test_a_bug_is_not_hidden(slab, monkeypatch):
    interrupting(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(slab)


def test_an_unknown_verb_lists_the_verbs(capsys):
    assert main(["rum", "x"]) == 2
    message = capsys.readouterr().err
    assert "no verb 'rum'; choose one of run, models; did you mean 'run'?" in message


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
            if field.default is not None:
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


@pytest.mark.parametrize("name", ["ethanol", "methane", "cu_slab_co", "water_box"])
def test_the_examples_are_structures_without_close_contacts(name):
    atoms = Source(path=EXAMPLES / f"{name}.xyz").load()
    distances = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    assert distances[distances > 0].min() > 0.9
    assert bool(atoms.constraints) == (name == "cu_slab_co")
