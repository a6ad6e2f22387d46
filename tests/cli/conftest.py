"""Where the tests of ``jmp-md run`` run, and with what."""

from __future__ import annotations

from pathlib import Path

import pytest

from jmp_calc.cli.options import ModelOptions
from toys.runs import EXAMPLES, DescribedEMT


@pytest.fixture
def asked(monkeypatch) -> list[ModelOptions]:
    """Options that reach the calculator, which is EMT in these tests."""
    seen: list[ModelOptions] = []

    def build(options):
        seen.append(options)
        return DescribedEMT(options)

    monkeypatch.setattr("jmp_calc.cli.job.build_calculator", build)
    return seen


@pytest.fixture
def slab(tmp_path, monkeypatch) -> Path:
    """A structure file in the folder that the command runs in."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "slab.xyz"
    path.write_text((EXAMPLES / "cu_slab_co.xyz").read_text())
    return path
