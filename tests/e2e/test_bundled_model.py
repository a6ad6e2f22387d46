"""The bundled jmp-nano is what its files say it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from jmp_calc import JMPCalculator, load_model
from jmp_calc.files import file_hash
from jmp_calc.pretrained import locate
from jmp_calc.sim.dynamics.md import MDSettings, RecordSettings, run_md
from jmp_train.data.families import FAMILIES
from jmp_train.data.source import FamilyOptions
from jmp_train.data.store import Store, store_path
from jmp_train.data.tasks import MADE_TASKS, TASKS
from jmp_train.prepare import prepare

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    """The training summary in the header."""
    summary: dict[str, Any] = load_model("jmp-nano").info["training"]
    return summary


def test_it_is_small_and_free() -> None:
    path = locate("jmp-nano")
    assert path.stat().st_size < 12e6
    assert load_model("jmp-nano").info["licence"] == "MIT"


def test_it_has_a_head_for_every_task(training) -> None:
    model = load_model("jmp-nano")
    tasks = [*MADE_TASKS, *TASKS]
    assert list(model.heads) == tasks
    assert set(training["tasks"]) == set(tasks)
    assert [name for name, head in model.heads.items() if head.is_default] == ["xtb"]


def test_all_its_forces_are_gradients_under_the_smooth_rules() -> None:
    for spec in load_model("jmp-nano").heads.values():
        assert spec.forces == "gradient"
        assert spec.graph.rules == "smooth"
        assert spec.references is not None


def test_its_measured_errors_are_those_of_the_benchmark(training) -> None:
    (path,) = (ROOT / "benchmarks" / "results").glob("accuracy_nano_*.json")
    values = json.loads(path.read_text(encoding="utf-8"))["values"]
    assert values["weights_sha256"] == file_hash(locate("jmp-nano"))
    for task, errors in values["tasks"].items():
        of_run = dict(training["test"][task])
        del of_run["loss"]  # the weights of its terms are those of the run alone
        for name, error in of_run.items():
            assert errors[name] == pytest.approx(error, rel=1e-3), (task, name)


@pytest.mark.slow
@pytest.mark.skipif(
    not DATA.is_dir(), reason="the reference data are not beside the project"
)
def test_it_was_trained_on_the_stores_that_leave_out_what_is_kept(
    training, tmp_path
) -> None:
    """Fingerprints tie the weights to data that other tests show to be clean.

    Data that a recipe makes are not here; ``test_making`` shows that they are clean.
    """
    sources = FAMILIES["nano"].open(DATA, FamilyOptions())
    prepare(sources, tmp_path, has_picture=False)
    for task in TASKS:
        facts = training["tasks"][task]
        header = Store(store_path(tmp_path, task, "train")).header
        assert facts["n_systems"] == header["n_systems"]
        assert facts["fingerprint"] == header["fingerprint"]


@pytest.mark.parametrize("name", ["ethanol", "water_box"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, tmp_path):
    atoms = read(EXAMPLES / f"{name}.xyz")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, steps in ((whole, 6), (parts, 3), (parts, 6)):
        atoms.calc = JMPCalculator("jmp-nano")
        run_md(
            atoms,
            MDSettings(ensemble="nvt-bussi", steps=steps),
            record=RecordSettings(trajectory_stride=1),
            out=folder,
            resume=folder is parts and steps == 6,
        )
    frames = [read(folder / "md-traj.traj", ":") for folder in (whole, parts)]
    for one, other in zip(*frames, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.get_momenta(), other.get_momenta())
        assert one.get_potential_energy() == other.get_potential_energy()
