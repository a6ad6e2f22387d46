"""Committees on the command line: averages, and a run that stops where they part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from jmp_calc.calculator.committee import Committee
from jmp_calc.cli import main
from jmp_calc.models.weights import save_weights
from toys.models import sibling
from toys.runs import error_line, run


class ScaledEMT(EMT):
    """EMT with forces that are too large by one percent."""

    def calculate(self, *args):
        super().calculate(*args)
        self.results["forces"] = 1.01 * self.results["forces"]


@pytest.fixture
def parting(monkeypatch):
    def build(options):
        return Committee([EMT(), ScaledEMT()])

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    monkeypatch.setattr("jmp_calc.cli.job.describe", lambda *_: {**ABOUT, "notes": []})


ABOUT = {
    "model": "a + b",
    "head": "toy",
    "level_of_theory": "effective medium theory",
    "forces": "gradient",
    "is_conservative": True,
    "weights_sha256": "0" * 64,
    "licence": None,
}


def test_a_run_stops_where_the_models_part(parting, slab, capsys):
    words = (slab, "--max-force-spread", 0.02, "--temperature-K", 3000)
    assert run(*words, "--steps", 400, "--out", "here") == 4
    error = capsys.readouterr().err
    assert "more than max_force_spread_eV_per_A = 0.02" in error
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "unstable"
    assert read("here/slab-traj.traj").info["step"] == summary["results"]["steps"]


class LostEMT(EMT):
    """EMT that does not know a force after some calls."""

    n_calls = 0

    def calculate(self, *args):
        super().calculate(*args)
        self.n_calls += 1
        if self.n_calls > 5:
            self.results["forces"][0, 0] = np.nan


def test_a_spread_that_is_no_number_stops_a_run_too(parting, slab, monkeypatch, capsys):
    def build(options):
        return Committee([EMT(), LostEMT()])

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    words = (slab, "--max-force-spread", 50, "--steps", 20, "--out", "here")
    assert run(*words) == 4
    assert "spread by nan eV/A" in capsys.readouterr().err
    # what is left is from before
    assert np.isfinite(read("here/slab-final.xyz").positions).all()


def test_a_run_below_the_threshold_completes(parting, slab):
    words = (slab, "--max-force-spread", 50, "--steps", 5, "--out", "here")
    assert run(*words) == 0
    assert (
        run(slab, "--max-force-spread", 50, "--steps", 9, "--out", "here", "--resume")
        == 0
    )


def test_a_threshold_needs_a_committee(slab, capsys):
    words = (slab, "--calculator", "emt", "--max-force-spread", 0.1)
    assert run(*words) == 2
    assert "has no spread of forces; give two models or more" in error_line(capsys)


def test_a_threshold_is_above_zero(slab, capsys):
    assert run(slab, "--max-force-spread", 0) == 2
    assert "max_force_spread_eV_per_A is 0" in error_line(capsys)


def test_a_committee_excludes_another_calculator(slab, capsys):
    assert run(slab, "--calculator", "emt", "--committee", "jmp-nano") == 2
    assert "leave one out" in error_line(capsys)


@pytest.fixture
def members(tmp_path, monkeypatch):
    """A folder with a molecule, a crystal and two models of one kind."""
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        save_weights(sibling(seed), tmp_path / f"toy-{seed}.safetensors")
    write("water.xyz", molecule("H2O"))
    return ("--model", "toy-1.safetensors", "--committee", "toy-2.safetensors")


def test_a_relaxation_tells_how_far_models_are_apart(members, capsys):
    assert main(["relax", "water.xyz", *members, "--steps", "1", "--out", "here"]) == 3
    spread = read("here/water-final.xyz").arrays["jmp_forces_std"]
    largest = np.linalg.norm(spread, axis=1).max()
    told = f"spread      of the models up to {largest:.3g} eV/Å on an atom (water)"
    assert told in capsys.readouterr().out


def test_two_models_are_named_in_the_summary(members, capsys):
    assert main(["energy", "water.xyz", *members, "--out", "here"]) == 0
    summary = yaml.safe_load(Path("here/water-summary.yml").read_text())
    spread = summary["results"]["max_force_std_eV_per_A"]
    assert f"up to {spread:.3g} eV/Å on an atom\n" in capsys.readouterr().out
    assert summary["model"]["model"] == "toy-1.safetensors + toy-2.safetensors"
    assert len(summary["model"]["weights_sha256"]) == 2 * 64 + 1


def test_the_same_model_twice_is_refused(members, capsys):
    words = ["energy", "water.xyz", *members[:2], "--committee", members[1]]
    assert main(words) == 2
    assert "toy-1.safetensors is twice in the committee" in error_line(capsys)
    assert not Path("runs").exists()


def test_check_takes_one_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "jmp-nano", "--committee", "jmp-nano"]) == 2
    assert "check each model on its own, without" in error_line(capsys)


def test_dispersion_excludes_another_calculator(slab, capsys):
    assert run(slab, "--calculator", "emt", "--d3", "pbe") == 2
    assert "--d3 pbe is for models" in error_line(capsys)
