"""The commands of train/README.md run as written, at a smaller size."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from jmp_calc.cli import main as md
from jmp_train.cli import main as train
from jmp_train.experiments import EXPERIMENTS
from jmp_train.recipes import RECIPES
from toys.published_files import write_rmd17

ROOT = Path(__file__).parents[2]
README = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
SHORTER = {"finetune": ["--steps", "2"], "run": ["--steps", "2"]}
"""Options that make a command a matter of seconds."""
PROGRAMS = {"jmp-train": train, "jmp-md": md}


def words_of(block: str) -> list[list[str]]:
    return [line.split() for line in block.splitlines()]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples and a small file of rMD17, as after unpacking."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    folder = tmp_path / "downloads" / "rmd17" / "npz_data"
    folder.mkdir(parents=True)
    ethanol = molecule("CH3CH2OH").numbers
    write_rmd17(folder / "rmd17_ethanol.npz", n=40, numbers=ethanol.tolist())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    arguments = [*words[1:], *SHORTER.get(words[1], [])]
    if "--max-minutes" in arguments:
        place = arguments.index("--max-minutes")
        del arguments[place : place + 2]
    monkeypatch.setattr(sys, "argv", [words[0], *arguments])
    return PROGRAMS[words[0]](arguments)


def test_there_are_ten_commands_from_download_to_dynamics() -> None:
    assert len(words_of(BLOCKS[0])) == 10


@pytest.mark.slow
def test_download_to_dynamics(checkout, monkeypatch, capsys) -> None:
    ours = [words for words in words_of(BLOCKS[0]) if words[0] in PROGRAMS]
    for words in ours:
        if "download" not in words:
            assert run(words, monkeypatch) == 0, (words, capsys.readouterr().err)
    assert (checkout / "ethanol.safetensors").is_file()
    assert (checkout / "runs" / "ethanol" / "curves.png").is_file()


@pytest.mark.slow
def test_geometries_labels_and_a_model_of_ones_own(
    checkout, monkeypatch, capsys
) -> None:
    pytest.importorskip("tblite", reason="needs the extra xtb")
    for words in [*words_of(BLOCKS[2]), *words_of(BLOCKS[1])]:
        small = [("12" if word == "100" else word) for word in words]
        assert run(small, monkeypatch) == 0, (words, capsys.readouterr().err)
    assert len(list((checkout / "runs" / "mine").glob("*.safetensors"))) == 1


def test_recipes_and_experiments_are_those_that_exist() -> None:
    assert all(f"`{name}`" in README for name in RECIPES)
    numbers = {experiment.id for experiment in EXPERIMENTS.values()}
    assert numbers == {*(f"E{n}" for n in range(1, 9)), "E12"}


def test_the_toy_file_of_rmd17_can_be_read(checkout) -> None:
    path = checkout / "downloads" / "rmd17" / "npz_data" / "rmd17_ethanol.npz"
    with np.load(path) as file:
        assert file["coords"].shape == (40, 9, 3)
