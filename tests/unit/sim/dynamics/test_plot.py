from __future__ import annotations

import sys

import pytest

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.dynamics.md import MDSettings, run_md
from jmp_calc.sim.dynamics.picture import plot_md


def test_a_run_becomes_a_picture(ethanol, tmp_path):
    pytest.importorskip("matplotlib", reason="extra 'plot' is not installed")
    result = run_md(ethanol(), MDSettings(steps=30), out=tmp_path)
    picture = tmp_path / "a.png"
    plot_md(result.files.observables, picture, title="ethanol", settings=MDSettings())
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("ensemble", "n_curves"), [("nvt", 3), ("nve", 2)])
def test_the_heat_of_a_thermostat_is_drawn_only_if_there_was_one(
    ensemble, n_curves, ethanol, tmp_path, monkeypatch
):
    figure = pytest.importorskip("matplotlib.figure", reason="extra 'plot' is missing")
    drawn = []

    def save(self, path, **_):
        drawn.append(self)
        path.touch()

    monkeypatch.setattr(figure.Figure, "savefig", save)
    settings = MDSettings(ensemble=ensemble, steps=30)
    result = run_md(ethanol(), settings, out=tmp_path)
    picture = tmp_path / "a.png"
    plot_md(result.files.observables, picture, title="ethanol", settings=settings)
    energy, temperature = drawn[0].axes
    assert len(energy.lines) == n_curves
    assert energy.get_ylabel() == "energy change (eV)"
    assert temperature.get_xlabel() == "time (ps)"


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ArgumentError, match=r"pip install 'jmp-calc\[plot\]'"):
        plot_md(tmp_path / "a.csv", tmp_path / "a.png", title="", settings=MDSettings())
