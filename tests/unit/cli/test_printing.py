"""What is printed may go nowhere; results are files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

CODE = "import sys; from jmp_calc.cli import main; sys.exit(main())"


def start(*words: str, stdout) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-u", "-c", CODE, *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_line():
    with Path("/dev/full").open("w") as full, start("models", stdout=full) as process:
        text = process.stderr.read()
    assert text == "jmp-md: error: No space left on device: standard output\n"
    assert process.returncode == 2
