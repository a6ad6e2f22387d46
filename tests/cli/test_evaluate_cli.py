"""``jmp-train evaluate`` and ``jmp-train plot`` through ``main()``."""

from __future__ import annotations

import json

import pytest

from jmp_train import cli
from toys.evaluation import save_toy, write_frames


def jmp_train(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("verb", ["evaluate", "plot"])
def test_help_has_an_example(verb, capsys) -> None:
    assert jmp_train(verb, "--help") == 0
    assert f"Example: jmp-train {verb}" in capsys.readouterr().out


def test_a_weights_file_is_measured_on_a_file_of_structures(tmp_path, capsys) -> None:
    weights = save_toy(tmp_path, "qm7x")
    data = write_frames(tmp_path / "mine.extxyz", 3)
    words = ("--data", data, "--out", tmp_path / "report", "--no-pictures")
    assert jmp_train("evaluate", weights, *words, "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert "forces meV/Å" in text
    assert f"report: {tmp_path / 'report' / 'report.md'}" in text
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["sets"]["mine"]["errors"]["n_systems"] == 3


def test_a_file_without_labels_is_an_error_before_anything_is_written(
    tmp_path, capsys
) -> None:
    weights = save_toy(tmp_path, "qm7x")
    (tmp_path / "bare.xyz").write_text("1\n\nHe 0 0 0\n")
    out = tmp_path / "report"
    words = ("--data", tmp_path / "bare.xyz", "--out", out, "--device", "cpu")
    assert jmp_train("evaluate", weights, *words) == 2
    assert "have no energy" in capsys.readouterr().err
    assert not (out / "report.json").exists()


def test_unknown_weights_are_an_error(capsys) -> None:
    assert jmp_train("evaluate", "jmp-nanno", "--stores", ".") == 2
    assert "jmp-nano" in capsys.readouterr().err


def test_plot_says_where_the_picture_is(tmp_path, capsys) -> None:
    records = [{"kind": "step", "step": n, "loss": 1.0 / n} for n in (1, 2)]
    lines = [*map(json.dumps, records), '{"kind": "st']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert jmp_train("plot", tmp_path) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "curves.png")
    assert "cut off" in shown.err
    assert (tmp_path / "curves.png").is_file()


def test_plot_of_a_folder_without_a_run_is_an_error(tmp_path, capsys) -> None:
    assert jmp_train("plot", tmp_path) == 2
    assert "has no log.jsonl" in capsys.readouterr().err
