"""What is printed may go nowhere; results are files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

CODE = "import sys; from jmp_calc.cli import main; sys.exit(main())"


def start(*words: str, stdout, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", CODE, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **variables},
        text=True,
    )


def test_work_goes_on_when_nobody_reads_what_it_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu"))
    words = ("energy", "cu.xyz", "--calculator", "emt", "--out", "out")
    # as '| head -1' does, here before the first line
    with start(*words, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert Path("out/cu-summary.yml").exists()


def test_what_only_prints_ends_quietly_with_the_code_of_a_broken_pipe():
    with start("models", stdout=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_broken_pipe_of_a_calculator_is_not_taken_for_one_of_the_screen(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write("cu.xyz", bulk("Cu"))
    Path("dead.py").write_text("def make():\n    raise BrokenPipeError(32, 'dead')\n")
    words = ("energy", "cu.xyz", "--calculator", "dead:make", "--out", "out")
    with start(*words, stdout=subprocess.PIPE, PYTHONPATH=".") as process:
        _, error = process.communicate()
    assert "dead" in error
    assert process.returncode not in (0, 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full, start("models", stdout=full) as process:
        text = process.stderr.read()
    assert text == "jmp-md: error: No space left on device: standard output\n"
    assert process.returncode == 2


def test_a_terminal_without_angstroms_shows_the_rest():
    words = ("models", "show", "jmp-nano")
    with start(*words, stdout=subprocess.PIPE, PYTHONIOENCODING="ascii") as process:
        text, error = process.communicate()
    lines = [line for line in text.splitlines() if "cutoffs" in line]
    assert lines
    assert all(" ?" in line for line in lines)
    assert (error, process.returncode) == ("", 0)
