"""Completion of the shell is as quick as the table of verbs."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, click
from jmp_calc.cli import jmp_md
found = [one.value for one in jmp_md.shell_complete(click.Context(jmp_md), "re")]
print(found, "jmp_calc.cli.relax" in sys.modules)
"""


def test_verbs_are_completed_without_importing_them():
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['relax'] False\n"
