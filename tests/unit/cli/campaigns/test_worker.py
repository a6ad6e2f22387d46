"""A worker tells what is wrong with its machine, and survives bad parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk

from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.campaigns.parts import (
    Done,
    Ended,
    Failed,
    Lost,
    fingerprints_of,
    split,
)
from jmp_calc.cli.campaigns.ray_pool import ray_pool
from jmp_calc.cli.campaigns.worker import Worker, WorkerPlan
from jmp_calc.cli.options import ModelOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, DataError


class Toy:
    """A verb that does what it is told."""

    can_go_on = False

    def __init__(self, answer):
        self.answer = answer

    def do(self, structures, job, stem):
        if isinstance(self.answer, Exception):
            raise self.answer
        (job.folder / "cu-summary.yml").write_text(f"file: {job.folder}/cu.xyz\n")
        return [Ended(name="cu", status="ok", exit_code=self.answer)]

    def common(self, structures, folder, stem):
        return {}


def plan_of(tmp_path: Path, answer=0, weights=None) -> WorkerPlan:
    seen = tmp_path / "campaign.yml"
    seen.touch()
    return WorkerPlan(
        model=ModelOptions(calculator="emt"),
        weights_sha256=weights,
        work=Toy(answer),
        seen=seen,
        provenance={"inputs": {"files": [{"file": Path("cu.xyz"), "sha256": "0"}]}},
    )


def outcome_of(tmp_path: Path, answer=0, weights=None):
    worker = Worker(plan_of(tmp_path, answer, weights))
    worker.prepare()
    crystal = Structure(path=Path("cu.xyz"), frame=-1, name="cu", atoms=bulk("Cu"))
    (part,) = split([crystal], 1, fingerprints_of([crystal], {}))
    folder = tmp_path / ".work" / "cu.0.0"
    folder.mkdir(parents=True)
    return worker.do(part, folder)


def test_files_of_a_part_are_told_where_they_will_be(tmp_path):
    outcome = outcome_of(tmp_path)
    assert isinstance(outcome, Done)
    text = (tmp_path / ".work/cu.0.0/cu-summary.yml").read_text()
    assert text == f"file: {tmp_path}/parts/cu/cu.xyz\n"


def test_an_error_is_an_outcome(tmp_path):
    outcome = outcome_of(tmp_path, DataError("disk\nfull"))
    assert outcome == Failed(reason="disk full", exit_code=2)


def test_a_bug_in_one_part_is_an_outcome_too(tmp_path):
    outcome = outcome_of(tmp_path, KeyError("x"))
    assert isinstance(outcome, Failed)
    assert (outcome.reason, outcome.exit_code) == ("KeyError: 'x'", 1)
    assert "in _ended" in outcome.traceback


def test_an_interrupted_part_is_done_again(tmp_path):
    assert isinstance(outcome_of(tmp_path, 130), Lost)


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    outcome = outcome_of(tmp_path, weights="0" * 64)
    assert isinstance(outcome, Failed)
    assert "are not those of the machine" in outcome.reason


def test_a_machine_that_does_not_see_the_results_is_told(tmp_path):
    plan = plan_of(tmp_path)
    plan.seen.unlink()
    with pytest.raises(DataError, match="choose an --out on a file system that all"):
        Worker(plan).prepare()


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path):
    pytest.importorskip("ray", reason="Ray is missing")
    # nobody listens at port 1
    options = CampaignOptions(ray="127.0.0.1:1")
    with (
        pytest.raises(ArgumentError, match=r"nobody answers at 127.0.0.1:1 "),
        ray_pool(plan_of(tmp_path), options, n_tasks=1),
    ):
        pass
