from __future__ import annotations

import json

import torch

from jmp_train.runlog import RunLog, errors_name, hardware, versions


def test_records_are_appended_as_lines(tmp_path) -> None:
    log = RunLog(tmp_path / "run")
    record = log.append("start", {"unit": "eV/Å"})
    RunLog(tmp_path / "run").append("stop", {"step": 3})
    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert record == {"kind": "start", "unit": "eV/Å"}
    assert [json.loads(line) for line in lines] == [record, {"kind": "stop", "step": 3}]


def test_a_line_that_was_cut_off_does_not_swallow_the_next_one(tmp_path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "step", "lo')
    for _ in range(2):
        RunLog(tmp_path).append("start", {})
    assert path.read_text().splitlines()[1:] == 2 * ['{"kind": "start"}']


def test_a_file_of_its_own_is_replaced(tmp_path) -> None:
    log = RunLog(tmp_path)
    log.write(errors_name("test"), {"a": 1})
    log.write(errors_name("test"), {"a": 2})
    assert json.loads((tmp_path / "errors-test.json").read_text()) == {"a": 2}


def test_versions_and_hardware_are_told() -> None:
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "CPU" in hardware(torch.device("cpu"))
