"""The blocks of the README run as written; its numbers are those of result files."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from jmp_calc.cli import VERBS, main
from jmp_train import cli as train_cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = runpy.run_path(str(ROOT / "benchmarks" / "readme_tables.py"))
"""What the script holds that fills in tables of results."""


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


@pytest.mark.parametrize(
    "path", TABLES["FILES"], ids=lambda path: str(path.relative_to(ROOT))
)
def test_tables_of_results_are_those_of_the_newest_files(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert TABLES["filled"](text) == text


def test_every_table_of_results_has_its_place_once() -> None:
    texts = [path.read_text(encoding="utf-8") for path in TABLES["FILES"]]
    marks = re.findall(r"<!-- table: (\w+) -->", "".join(texts))
    assert sorted(marks) == sorted(TABLES["TABLES"])
    assert "".join(texts).count("<!-- end -->") == len(marks)


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    """A folder of results without any."""
    monkeypatch.setitem(TABLES["filled"].__globals__, "RESULTS", tmp_path)
    return tmp_path


MARK = "<!-- table: speed_batches -->\n<!-- end -->"


def test_a_table_without_a_result_from_a_cpu_is_an_error(results) -> None:
    (results / "speed_batches_NVIDIA-H100_2026-11-27.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no file speed_batches_\*threads_"):
        TABLES["filled"](MARK)
    assert TABLES["filled"](MARK, ["speed_md"]) == MARK


def test_a_result_of_an_older_script_is_an_error(results) -> None:
    older = {"values": {"nano, 1 threads": {}}}
    path = results / "speed_batches_x86_64-2threads_2026-11-27.json"
    path.write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(ValueError, match="has no 'one at a time', which table"):
        TABLES["filled"](MARK)


def test_a_mark_without_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="no table 'speed'; choose from accuracy, "):
        TABLES["filled"]("<!-- table: speed --><!-- end -->")


def test_the_newest_result_counts_and_of_one_day_that_of_more_threads(results) -> None:
    for name in ("2threads_2026-11-26", "1threads_2026-11-27", "2threads_2026-11-27"):
        (results / f"speed_md_x86_64-{name}.json").write_text("{}", encoding="utf-8")
    found, _ = TABLES["newest"]("speed_md")
    assert found.name == "speed_md_x86_64-2threads_2026-11-27.json"


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
