"""``jmp-train`` through ``main()``: output, files, exit codes, help."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jmp_calc.models.weights import load_weights
from jmp_train import cli
from jmp_train.config_file import to_plain
from toys.training import toy_config, write_toy_stores


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def recipe(stores: Path, tmp_path: Path) -> Path:
    """A YAML file of the toy run."""
    path = tmp_path / "toy.yml"
    plain = to_plain(toy_config(stores, tmp_path / "run"))
    path.write_text(yaml.safe_dump(plain))
    return path


def jmp_train(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb != "data"])
def test_every_verb_has_help_with_an_example(verb, capsys) -> None:
    assert jmp_train(verb, "--help") == 0
    assert f"Example: jmp-train {verb}" in capsys.readouterr().out


def test_a_run_shows_its_tasks_and_ends_with_errors_and_weights(
    recipe, tmp_path, capsys
) -> None:
    assert jmp_train("pretrain", recipe) == 0
    text = capsys.readouterr().out
    assert "0 done of 4, each of 1 batches" in text
    assert re.search(r"qm7x +10 .* all +all", text)
    assert re.search(r"pbe +8 +1\.6 +Morse", text)
    assert "finished after 4 of 4 steps" in text
    assert "mean absolute errors, test part" in text
    model = load_weights(tmp_path / "run" / "toy.safetensors")
    assert list(model.heads) == ["qm7x", "pbe"]


def test_the_weights_say_what_they_were_trained_on(recipe, tmp_path) -> None:
    jmp_train("pretrain", recipe)
    info = load_weights(tmp_path / "run" / "toy.safetensors").info
    training = info["training"]
    assert training["step"] == 4
    assert training["tasks"]["pbe"]["n_systems"] == 5
    assert [d["title"] for d in training["tasks"]["qm7x"]["datasets"]] == ["toy qm7x"]
    assert training["test"]["qm7x"]["n_systems"] == 2
    assert info["licence"] == "MIT"


def test_exported_weights_are_the_averaged_ones(recipe, tmp_path) -> None:
    import torch

    from jmp_train.checkpoint import AVERAGE, load_state
    from jmp_train.checkpoint_folders import find_checkpoint

    jmp_train("pretrain", recipe)
    average = load_state(find_checkpoint(tmp_path / "run"), AVERAGE)
    model = load_weights(tmp_path / "run" / "toy.safetensors")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), average[name], rtol=0, atol=0)


def test_overrides_reach_the_configuration(recipe, tmp_path) -> None:
    words = ("--max-steps", 2, "--seed", 7, "--precision", "float64")
    words += ("--set", "optim.eps=1e-7", "--set", "data.tasks.pbe.force_weight=3")
    jmp_train("pretrain", recipe, *words)
    config = yaml.safe_load((tmp_path / "run" / "config.yml").read_text())
    assert (config["max_steps"], config["seed"]) == (2, 7)
    assert config["precision"] == "float64"
    assert config["optim"]["eps"] == 1e-7
    assert config["data"]["tasks"][1]["force_weight"] == 3


def test_a_setting_that_does_not_exist_is_an_error(recipe, capsys) -> None:
    assert jmp_train("pretrain", recipe, "--set", "optim.learningrate=1") == 2
    assert "did you mean 'learning_rate'?" in capsys.readouterr().err


def test_a_second_run_in_the_folder_is_refused_and_harms_nothing(
    recipe, tmp_path, capsys
) -> None:
    jmp_train("pretrain", recipe)
    before = files_of(tmp_path / "run")
    assert jmp_train("pretrain", recipe) == 2
    assert "already holds a run; resume it with --resume" in capsys.readouterr().err
    assert files_of(tmp_path / "run") == before


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_auto_resume_starts_a_run_and_then_goes_on_with_it(recipe, capsys) -> None:
    assert jmp_train("pretrain", recipe, "--auto-resume") == 0
    assert "0 done of 4" in capsys.readouterr().out
    assert jmp_train("pretrain", recipe, "--auto-resume") == 0
    assert "4 done of 4" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_job_that_is_started_again_goes_on(recipe, monkeypatch, capsys, name) -> None:
    assert jmp_train("pretrain", recipe) == 0
    monkeypatch.setenv(name, "1")
    capsys.readouterr()
    assert jmp_train("pretrain", recipe) == 0
    assert "4 done of 4" in capsys.readouterr().out


@pytest.mark.slow
def test_torchrun_starts_the_command_in_several_processes(recipe, tmp_path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words += ["--nproc-per-node=2", "-m", "jmp_train", "pretrain", str(recipe)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished after 4 of 4 steps") == 1
    assert "processes   2, ddp" in done.stdout
    assert (tmp_path / "run" / "toy.safetensors").is_file()


def test_an_unknown_recipe_is_an_error_with_a_suggestion(tmp_path, capsys) -> None:
    words = ("--stores", tmp_path, "--out", tmp_path / "run")
    assert jmp_train("pretrain", "nanno", *words) == 2
    assert "did you mean 'nano'?" in capsys.readouterr().err


def test_missing_stores_say_how_to_make_them(tmp_path, capsys) -> None:
    words = ("--stores", tmp_path / "none", "--out", tmp_path / "run")
    assert jmp_train("pretrain", "nano", *words) == 2
    assert "jmp-train data prepare" in capsys.readouterr().err


def test_export_writes_where_it_is_told(recipe, tmp_path, capsys) -> None:
    jmp_train("pretrain", recipe)
    capsys.readouterr()
    target = tmp_path / "elsewhere" / "mine.safetensors"
    assert jmp_train("export", tmp_path / "run", "--out", target) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert load_weights(target).info["name"] == "toy"


def test_export_of_a_folder_without_a_run_is_an_error(tmp_path, capsys) -> None:
    assert jmp_train("export", tmp_path) == 2
    assert "there is no whole checkpoint" in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(recipe, monkeypatch, capsys) -> None:
    for name in list(sys.modules):
        if name.startswith(("jmp_train.data", "jmp_train.trainer")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert jmp_train("pretrain", recipe) == 2
    assert "pip install 'jmp-calc[train]'" in capsys.readouterr().err


def test_sigterm_saves_a_checkpoint_and_resume_finishes(
    stores, recipe, tmp_path
) -> None:
    words = [sys.executable, "-m", "jmp_train", "pretrain", str(recipe)]
    words += ["--max-steps", "2000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):  # the validation before the first step
                break
        os.kill(process.pid, signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted after" in rest
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert jmp_train("pretrain", recipe, "--resume", "--max-steps", 4) == 2
