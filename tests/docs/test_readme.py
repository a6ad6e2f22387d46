"""The blocks of the README run as written; its numbers are those of result files."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from jmp_calc.cli import VERBS, main
from jmp_train import cli as train_cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """The lines of all shell blocks that call a program, as words."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [line.split("#")[0].split() for line in lines]
    return [line for line in words if line and line[0] == program]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples, as after cloning; the current folder."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example_prints_what_the_readme_says(checkout, capsys) -> None:
    (program,) = blocks("python")
    (printed,) = blocks("text")
    exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip() == printed.strip()


def test_every_verb_has_a_command() -> None:
    assert {words[1] for words in commands("jmp-md")} == set(VERBS)


SHORTER = {
    "run": ["--steps", "2"],
    "relax": ["--steps", "3"],
    "neb": ["--images", "3", "--steps", "2"],
    "check": ["--quick"],
}
"""The same command at a smaller size."""
UNFINISHED = {"relax", "neb"}
"""Verbs that say by their exit code that a smaller size is not enough."""


def test_the_commands_of_jmp_md_run_one_after_the_other(checkout, capsys, monkeypatch):
    for words in commands("jmp-md"):
        if "download" in words or "serve" in words:
            # the one reaches out, tests/unit/pretrained downloads from a local server;
            # the other needs a program that listens, as in tests/cli/test_serve_cli.py
            continue
        verb = words[1]
        arguments = words[1:]
        if "--time-ps" in words:
            place = words.index("--time-ps") - 1
            steps = ["--steps", "4" if "--resume" in words else "2"]
            arguments = [*arguments[:place], *steps, *arguments[place + 2 :]]
        else:
            arguments = [*arguments, *SHORTER.get(verb, [])]
        monkeypatch.setattr(sys, "argv", ["jmp-md", *arguments])
        code = main(arguments)
        allowed = (0, 3) if verb in UNFINISHED else (0,)
        assert code in allowed, (words, capsys.readouterr().err)


@pytest.mark.parametrize("words", commands("jmp-train"), ids=" ".join)
def test_a_command_of_jmp_train_is_understood(words, capsys) -> None:
    verb = 3 if words[1] == "data" else 2
    assert train_cli.main([*words[1:verb], "--help"]) == 0
    text = capsys.readouterr().out
    options = [word for word in words[verb:] if word.startswith("--")]
    assert all(option in text for option in options)


def result_of(name: str) -> dict:
    (path,) = sorted((ROOT / "benchmarks" / "results").glob(f"{name}_*.json"))
    return json.loads(path.read_text(encoding="utf-8"))["values"]


def test_the_accuracy_table_is_that_of_the_result_file() -> None:
    for task, errors in result_of("accuracy_nano")["tasks"].items():
        row = next(line for line in README.splitlines() if f"| `{task}` |" in line)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[-5:] == [
            str(errors["n_systems"]),
            f"{errors['energy_mae_meV_per_atom']:.1f}",
            f"{errors['baseline_energy_mae_meV_per_atom']:.1f}",
            f"{1000 * errors['force_mae_eV_per_A']:.0f}",
            f"{1000 * errors['baseline_force_mae_eV_per_A']:.0f}",
        ]


def test_the_speed_table_is_that_of_the_result_file() -> None:
    for run, facts in result_of("speed_md")["runs"].items():
        name, dtype = run.split(", ")
        row = next(
            line for line in README.splitlines() if f"| `{name}` | {dtype} |" in line
        )
        assert f"| {facts['median_ms_per_step']:.1f} |" in row


def test_links_to_files_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_fine_tuning_table_is_that_of_the_result_file() -> None:
    for molecule, arms in result_of("finetune_rmd17")["molecules"].items():
        nano, scratch = arms["jmp-nano"], arms["scratch"]
        assert nano["steps"] == scratch["steps"]
        row = (
            f"| {molecule} | {nano['steps']} | {nano['test_force_mae_meV_per_A']:.1f} "
            f"| {scratch['test_force_mae_meV_per_A']:.1f} |"
        )
        assert row in README
