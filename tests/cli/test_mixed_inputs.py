"""Inputs that different heads of a model compute: each summary tells of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ase import Atoms
from ase.build import bulk, fcc111, molecule
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
    write("slab.traj", fcc111("Cu", (1, 1, 3), vacuum=8.0, periodic=True))
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
    call("eos", "slab.traj", "copper.xyz", "copper.xyz", "--points", 5)
    assert model_of("slab-summary.yml")["head"] == "slabs"
    assert model_of("copper-2-summary.yml")["head"] == "crystals"
    out = capsys.readouterr().out
    assert out.count("head crystals (crystals-DFT)") == 1


def test_what_cannot_be_computed_may_come_first(capsys):
    words = ["nothing.xyz", "water.xyz", "--steps", 1]
    assert call("relax", *words) == 2
    assert "nothing: refused: atom 0 is Og" in capsys.readouterr().err
    assert read("here/water-final.xyz").info["relax_status"] == "not converged"
    model = model_of("all-summary.yml")
    assert model["head"] == "organic"
    assert "atom 0 is Og" in model["differing"]["nothing"]["problem"]
