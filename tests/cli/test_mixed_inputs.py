"""Inputs that different heads of a model compute: each summary tells of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from jmp_calc.cli import main
from jmp_calc.models.weights import save_weights
from toys.models import smooth_model


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a molecule, a crystal, and what no head covers."""
    monkeypatch.chdir(tmp_path)
    save_weights(smooth_model(), tmp_path / "toy.safetensors")
    write("water.xyz", molecule("H2O"))
    write("copper.xyz", bulk("Cu", cubic=True))
    write("fluoride.xyz", molecule("HF"))
    write("nothing.xyz", Atoms("Og"))
    return tmp_path


def call(verb: str, *words) -> int:
    return main([verb, *map(str, words), "--model", "toy.safetensors", "--out", "here"])


def model_of(summary: str) -> dict:
    return yaml.safe_load(Path("here", summary).read_text())["model"]


@pytest.mark.parametrize(("verb", "words"), [("relax", ["--steps", 1]), ("energy", [])])
def test_one_summary_of_all_tells_what_differs(verb, words):
    call(verb, "water.xyz", "copper.xyz", *words)
    model = model_of("all-summary.yml")
    assert model["head"] == "organic"
    assert list(model["differing"]) == ["copper"]
    copper = model["differing"]["copper"]
    assert (copper["head"], copper["level_of_theory"]) == ("crystals", "crystals-DFT")
    assert "weights_sha256" not in copper


def test_a_summary_of_each_tells_of_its_own(capsys):
    call("run", "water.xyz", "copper.xyz", "--steps", 1)
    assert model_of("water-summary.yml")["head"] == "organic"
    assert model_of("copper-summary.yml")["head"] == "crystals"
    assert "head crystals (crystals-DFT)" in capsys.readouterr().out


def test_verbs_that_take_one_after_another_tell_of_each(capsys):
    call("vibrations", "water.xyz", "fluoride.xyz", "fluoride.xyz")
    assert model_of("water-summary.yml")["head"] == "organic"
    assert model_of("fluoride-2-summary.yml")["head"] == "radicals"
    assert capsys.readouterr().out.count("head radicals (radicals-DFT)") == 1


def test_what_cannot_be_computed_may_come_first(capsys):
    words = ["nothing.xyz", "water.xyz", "--steps", 1]
    assert call("relax", *words) == 2
    assert "nothing: refused: atom 0 is Og" in capsys.readouterr().err
    assert read("here/water-final.xyz").info["relax_status"] == "not converged"
    model = model_of("all-summary.yml")
    assert model["head"] == "organic"
    assert "atom 0 is Og" in model["differing"]["nothing"]["problem"]


def test_the_first_structure_of_a_file_may_be_one_that_cannot_be_computed(capsys):
    write("mixed.xyz", [Atoms("Og"), molecule("H2O"), bulk("Cu")])
    assert call("energy", "mixed.xyz") == 2
    assert (
        "1 of 3 structures could not be computed; the first: mixed, frame 0: atom"
        in (capsys.readouterr().err)
    )
    summary = yaml.safe_load(Path("here/mixed-summary.yml").read_text())
    assert summary["results"]["heads"] == {"organic": 1, "crystals": 1}
    assert summary["model"]["head"] == "organic"


def test_files_whose_names_are_like_numbered_ones_are_all_computed():
    for name in ("a.xyz", "a.traj", "a-1.xyz"):
        write(name, molecule("H2O"))
    assert call("energy", "a.xyz", "a.traj", "a-1.xyz") == 0
    assert len(Path("here/all-energy.csv").read_text().splitlines()) == 4
