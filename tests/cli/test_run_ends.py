"""How ``jmp-md run`` ends other than well: signals, errors, explosions."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ase.io import read

from jmp_calc.errors import DataError
from toys.runs import DescribedEMT, error_line, run


def test_an_unstable_run_exits_with_4_and_keeps_its_files(asked, slab, capsys):
    words = (slab, "--steps", 500, "--timestep-fs", 40, "--out", "here")
    assert run(*words) == 4
    captured = capsys.readouterr()
    assert "jmp-md: unstable: " in captured.err
    assert "unstable    " in captured.out
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "unstable"
    assert read("here/slab-traj.traj").info["step"] == summary["results"]["steps"]


def interrupting(monkeypatch, error):
    class Interrupted(DescribedEMT):
        n_calls = 0

        def calculate(self, *args):
            self.n_calls += 1
            if self.n_calls > 5:
                raise error
            super().calculate(*args)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", Interrupted)


def test_ctrl_c_exits_with_130_and_keeps_its_files(slab, capsys, monkeypatch):
    interrupting(monkeypatch, KeyboardInterrupt())
    assert run(slab, "--out", "here") == 130
    assert "interrupted: Ctrl-C after step 4" in capsys.readouterr().err
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "interrupted"
    assert read("here/slab-final.xyz").info["step"] == summary["results"]["steps"]


def test_ctrl_c_before_the_run_exits_with_130(slab, capsys, monkeypatch):
    def build(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    assert run(slab) == 130
    assert error_line(capsys) == "jmp-md: interrupted"


RUN_SLOWLY = """
import sys, time
from ase.calculators.emt import EMT
import jmp_calc.cli, jmp_calc.cli.run

class Slow(EMT):
    def calculate(self, *args):
        time.sleep(0.005)
        super().calculate(*args)
    def describe(self, atoms):
        return dict(model="m", head="h", level_of_theory="l", forces="gradient",
                    is_conservative=True, weights_sha256=None, notes=[])

jmp_calc.cli.job.build_calculator = lambda options: Slow()
sys.exit(jmp_calc.cli.main(sys.argv[1:]))
"""


def killed(slab, number, kind) -> subprocess.Popen:
    """Send a signal to a real run that has logged ten rows."""
    words = ["run", slab, "--steps", "100000", "--log-stride", "1", "--out", "here"]
    words += ["--trajectory-stride", "1", "--trajectory-format", kind]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_SLOWLY, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    table = Path("here/slab-md.csv")
    deadline = time.monotonic() + 60
    while not (table.is_file() and table.read_text().count("\n") > 10):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_real_run_with_complete_files(name, slab):
    process = killed(slab, getattr(signal, name), "traj")
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    cause = "Ctrl-C" if name == "SIGINT" else name
    assert f"jmp-md: interrupted: {cause} after step " in message
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "interrupted"
    steps = summary["results"]["steps"]
    assert read("here/slab-final.xyz").info["step"] == steps
    assert read("here/slab-traj.traj").info["step"] == steps


@pytest.mark.parametrize("kind", ["traj", "xyz"])
def test_a_run_that_is_killed_leaves_files_that_can_be_read(kind, slab):
    killed(slab, signal.SIGKILL, kind).communicate(timeout=60)
    frames = read(f"here/slab-traj.{kind}", index=":")
    assert [f.info["step"] for f in frames] == list(range(len(frames)))
    # ten rows were there; the frame of the last may have been on its way
    assert len(frames) >= 9
    lines = Path("here/slab-md.csv").read_text().splitlines()
    assert all(line.count(",") == lines[0].count(",") for line in lines)
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "running"


def test_handlers_of_signals_are_put_back(asked, slab):
    before = signal.getsignal(signal.SIGTERM)
    run(slab, "--steps", 1)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_force_error_during_the_run_is_one_line_that_says_what_is_kept(
    slab, capsys, monkeypatch
):
    interrupting(monkeypatch, DataError("the table ended"))
    assert run(slab, "--out", "here") == 2
    line = error_line(capsys)
    assert "the table ended; stopped after step" in line
    assert line.endswith("is in here")


def test_a_bug_is_not_hidden(slab, monkeypatch):
    interrupting(monkeypatch, KeyError("a bug"))
    with pytest.raises(KeyError, match="a bug"):
        run(slab)


def test_a_calculator_that_fails_is_one_line_and_an_exit_code(
    slab, capsys, monkeypatch
):
    interrupting(monkeypatch, ValueError("no convergence"))
    assert run(slab, "--out", "here") == 4
    line = error_line(capsys)
    assert "after step 4: the calculator failed (ValueError: no convergence)" in line
    summary = yaml.safe_load(Path("here/slab-summary.yml").read_text())
    assert summary["status"] == "unstable"
