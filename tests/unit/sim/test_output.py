from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from jmp_calc.errors import DataError
from jmp_calc.sim.output import LineFile, save_summary, versions


def test_a_record_that_was_cut_off_is_dropped(tmp_path):
    file = LineFile(tmp_path / "a.csv", overwrite=False)
    file.append("one\n")
    file._file.write(b"tw")  # what an interrupt leaves
    file.close()
    assert (tmp_path / "a.csv").read_text() == "one\n"


def test_a_record_after_one_that_was_cut_off_takes_its_place(tmp_path):
    file = LineFile(tmp_path / "a.csv", overwrite=False)
    file.append("one\n")
    file._file.write(b"tw")
    file.append("two\n")
    file.close()
    assert (tmp_path / "a.csv").read_text() == "one\ntwo\n"


def test_a_summary_holds_numpy_and_paths_as_plain_data(tmp_path):
    data = {"a": np.float64(0.1), "b": np.arange(2), "c": Path("x"), "d": (True, None)}
    save_summary(data, tmp_path / "s.yml")
    loaded = yaml.safe_load((tmp_path / "s.yml").read_text())
    assert loaded == {"a": 0.1, "b": [0, 1], "c": "x", "d": [True, None]}


def test_a_summary_is_replaced_in_one_step(tmp_path):
    save_summary({"a": 1}, tmp_path / "s.yml")
    save_summary({"a": 2}, tmp_path / "s.yml")
    assert [path.name for path in tmp_path.iterdir()] == ["s.yml"]


def test_a_summary_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot write .*none/s.yml: No such file"):
        save_summary({}, tmp_path / "none" / "s.yml")


def test_versions_are_told_without_importing():
    code = (
        "import sys; from jmp_calc.sim.output import versions; v = versions(); "
        "assert 'torch' in v and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert versions()["python"].startswith("3.")


def test_a_long_path_stays_on_one_line(tmp_path):
    path = Path("/" + " and ".join(9 * ["a folder of many words"]))
    save_summary({"file": path}, tmp_path / "s.yml")
    assert (tmp_path / "s.yml").read_text() == f"file: {path}\n"
