from __future__ import annotations

import sys

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.md import MDSettings, run_md
from jmp_calc.sim.plot import plot_md


def test_a_run_becomes_a_picture(ethanol, tmp_path):
    pytest.importorskip("matplotlib", reason="extra 'plot' is not installed")
    result = run_md(ethanol(), MDSettings(steps=30), out=tmp_path)
    picture = tmp_path / "a.png"
    plot_md(result.files.observables, picture, title="ethanol", target_K=300.0)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match=r"pip install 'jmp-calc\[plot\]'"):
        plot_md(tmp_path / "a.csv", tmp_path / "a.png", title="")
