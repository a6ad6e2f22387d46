from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from jmp_calc.pretrained.storage import MIRROR_VARIABLE, OFFLINE_VARIABLE
from range_server import RangeServer, serve

CONTENT = random.Random(0).randbytes(3_000_000)


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serve(CONTENT) as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no setting of the person who runs the tests."""
    folder = tmp_path / "home"
    monkeypatch.setenv("JMP_CALC_HOME", str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in (MIRROR_VARIABLE, OFFLINE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return folder
