from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from jmp_calc.heap import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    return [np.ones(3_000_000) for _ in range(3)]  # 24 MB each
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_arrays_are_used_again_without_asking_the_system() -> None:
    given_back, kept = page_faults("give back"), page_faults("keep")
    assert kept < 0.1 * given_back
