"""``jmp-train finetune`` through ``main()``: output, files, exit codes, help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import yaml

from jmp_calc import JMPCalculator
from jmp_calc.models.weights import load_weights
from jmp_train import cli
from jmp_train.data.store import store_path
from toys.finetuning import to_frame, write_toy_weights, write_user_file
from toys.training import toy_molecules, write_toy_stores

SHORT = ("--steps", 4, "--batch", 4, "--device", "cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, stores and files of a user; read only."""
    folder = tmp_path_factory.mktemp("files")
    write_toy_weights(folder / "toy.safetensors")
    write_user_file(folder / "mine.xyz", 10)
    write_user_file(folder / "more.xyz", 3, seed=1)
    write_toy_stores(folder / "stores")
    for split in ("train", "val", "test"):
        store_path(folder / "stores", "rmd17-ethanol", split).symlink_to(
            store_path(folder / "stores", "qm7x", split)
        )
    return folder


def finetune(*words: object) -> int:
    return cli.main(["finetune", *map(str, words)])


def error_of(capsys) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run on user data, and what it printed."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("runs") / "run"
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = finetune(
            *("--data", files / "mine.xyz", "--test", files / "more.xyz"),
            *("--from", files / "toy.safetensors", "--head", "qm7x", "--out", out),
            *SHORT,
        )
    assert code == 0
    return out, text.getvalue()


def test_help_has_an_example_and_imports_no_torch() -> None:
    program = (
        "import sys; from jmp_train.cli import main; main(['finetune', '--help']); "
        "sys.exit(str({'torch', 'lmdb'} & set(sys.modules)) "
        "if {'torch', 'lmdb'} & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example: jmp-train finetune --data" in done.stdout


def test_the_list_names_all_recipes(capsys) -> None:
    assert finetune("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 41
    assert sum("not among the 40" in line for line in lines) == 1


def test_everything_that_was_chosen_is_shown_before_training(run) -> None:
    _, text = run
    before, _, _ = text.partition("step      0")
    for words in (
        "mine train",
        "toy-weights (toy licence)",
        "mine: kept, from head 'qm7x'",
        "smooth rules, cutoff 3 Å",
        "least squares over what the kept head leaves",
        "peak rate",
        "interpolated by depth",
    ):
        assert words in before


def test_errors_come_before_the_first_update_and_at_the_end(run) -> None:
    _, text = run
    assert "step      0  mine: E " in text
    assert "mean absolute errors, val part" in text
    assert "mean absolute errors, test part" in text
    assert "use it      jmp-md run --model" in text


def test_the_run_leaves_its_errors_as_files(run) -> None:
    out, _ = run
    for split, n in (("val", 2), ("test", 3)):
        found = json.loads((out / f"errors-{split}.json").read_text())
        assert found["tasks"]["mine"]["n_systems"] == n


def test_the_weights_say_what_they_are_made_of(run) -> None:
    out, _ = run
    model = load_weights(out / "mine.safetensors")
    spec = model.heads["mine"]
    assert spec.coverage == "the systems of mine"
    assert spec.elements == (1, 6, 7, 8)
    start = model.info["training"]["start"]
    assert start["weights"] == "toy-weights"
    assert start["heads"] == {"mine": "qm7x"}
    assert "toy licence" in model.info["licence"]


def test_the_calculator_takes_the_weights_and_agrees_with_the_errors(run) -> None:
    out, _ = run
    errors = []
    for sample in toy_molecules(3, seed=1):
        atoms = to_frame(sample)
        atoms.calc = JMPCalculator(out / "mine.safetensors")
        errors.append(np.abs(atoms.get_forces() - sample.forces).ravel())
    found = json.loads((out / "errors-test.json").read_text())
    expected = found["tasks"]["mine"]["force_mae_eV_per_A"]
    # network in float32 on both sides, batched on one of them
    assert np.concatenate(errors).mean() == pytest.approx(expected, rel=1e-4)


def test_a_finished_folder_is_not_used_again(run, files, capsys) -> None:
    out, _ = run
    words = ("--data", files / "mine.xyz", "--out", out)
    assert finetune(*words, "--from", files / "toy.safetensors", *SHORT) == 2
    assert "already holds a run; resume it with --resume" in error_of(capsys)


@pytest.mark.slow
def test_a_run_is_resumed_from_its_folder(run, capsys) -> None:
    out, _ = run
    assert finetune("--resume", "--out", out, "--device", "cpu") == 0
    assert "steps       4 done of 4" in capsys.readouterr().out


def test_settings_cannot_change_when_a_run_is_resumed(run, capsys) -> None:
    out, _ = run
    assert finetune("--resume", "--out", out, "--lr", 1e-3) == 2
    assert "--lr cannot be changed when a run is resumed" in error_of(capsys)


def test_a_recipe_runs_on_its_stores(files, tmp_path, capsys) -> None:
    words = ("--stores", files / "stores", "--from", files / "toy.safetensors")
    code = finetune("rmd17:ethanol", *words, "--out", tmp_path / "run", *SHORT)
    text = capsys.readouterr().out
    assert code == 0
    assert "recipe      rmd17:ethanol, values jmp-paper" in text
    assert "rmd17-ethanol: new" in text
    assert "trained on forces alone; the zero of the energy was fitted" in text
    config = yaml.safe_load((tmp_path / "run" / "config.yml").read_text())
    assert config["optim"]["clip_value"] == 1.0
    # what is exported has the fitted zero, which no checkpoint has
    out = tmp_path / "ethanol.safetensors"
    assert cli.main(["export", str(tmp_path / "run"), "--out", str(out)]) == 0
    (left,) = (tmp_path / "run").glob("*.safetensors")
    assert out.read_bytes() == left.read_bytes()


@pytest.mark.slow
def test_a_changed_cutoff_is_shown_with_its_effect(files, tmp_path, capsys) -> None:
    code = finetune(
        *("--data", files / "mine.xyz", "--from", files / "toy.safetensors"),
        *("--head", "new", "--cutoff", 2.5, "--out", tmp_path / "run", *SHORT),
    )
    assert code == 0
    assert "cutoff 2.5 Å; changed from 3 Å, which changes" in capsys.readouterr().out


@pytest.mark.slow
def test_a_property_ends_with_weights_for_predict(files, tmp_path, capsys) -> None:
    frames = [to_frame(s) for s in toy_molecules(8)]
    for index, atoms in enumerate(frames):
        atoms.info["gap"] = 1.0 + index
    ase.io.write(tmp_path / "gaps.xyz", frames)
    code = finetune(
        *("--data", tmp_path / "gaps.xyz", "--target", "gap:eV", "--reduction", "mean"),
        *("--from", files / "toy.safetensors", "--out", tmp_path / "run", *SHORT),
    )
    assert code == 0
    assert "jmp-md predict --model" in capsys.readouterr().out
    target = load_weights(tmp_path / "run" / "gaps.safetensors").heads["gaps"].target
    assert target is not None
    assert (target.name, target.unit, target.reduction) == ("gap", "eV", "mean")


@pytest.mark.slow
def test_a_time_limit_decides_the_length_of_the_schedule(
    files, tmp_path, capsys
) -> None:
    code = finetune(
        *("--data", files / "mine.xyz", "--from", files / "toy.safetensors"),
        *("--out", tmp_path / "run", "--max-minutes", 0.02, "--device", "cpu"),
    )
    assert code == 0
    assert "steps fit into the time that is given" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "a.xyz"), r"--out is missing; give a folder for the run, such as"),
        (("--out", "run"), r"give either --data .* or the name of a recipe"),
        (
            ("qmof", "--data", "a.xyz", "--out", "run"),
            r"give either --data .* or the name of a recipe",
        ),
        (("qmof", "--out", "run"), r"needs the folder of the stores \(--stores\)"),
        (
            ("qmof", "--out", "run", "--stores", "s", "--val", "v.xyz"),
            r"--val means nothing for a recipe",
        ),
        (
            ("--data", "a.xyz", "--out", "run", "--fold", "1"),
            r"--fold means nothing for your own data",
        ),
        (
            ("rmd17:asprin", "--out", "run", "--stores", "s", "--from", "scratch"),
            r"unknown recipe 'rmd17:asprin'; .* did you mean 'rmd17:aspirin'",
        ),
    ],
)
def test_wrong_usage_says_what_to_do(words, message, capsys, tmp_path, monkeypatch):
    import re

    monkeypatch.chdir(tmp_path)
    assert finetune(*words) == 2
    assert re.search(message, error_of(capsys))


def test_bad_data_leave_no_run_behind(tmp_path, files, capsys) -> None:
    (tmp_path / "mine.xyz").write_text("2\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    words = ("--data", tmp_path / "mine.xyz", "--from", files / "toy.safetensors")
    assert finetune(*words, "--out", tmp_path / "run") == 2
    assert "mine.xyz" in error_of(capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()
