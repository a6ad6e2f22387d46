"""The report: complete in one file, readable numbers."""

from __future__ import annotations

import numpy as np
import pytest

from jmp_calc.sim.analysis.report import ReportPart, report_html
from jmp_calc.sim.analysis.sections import Fact, Section


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (299.7, 2.3, "299.7 ± 2.3"),
        (12345.0, 230.0, "12345 ± 230"),
        (2.1e-5, 3.3e-7, "2.100e-05 ± 3.3e-07"),
        (0.00001234, None, "1.234e-05"),
        (3, None, "3"),
        (True, None, "yes"),
        (0.0, 0.0, "0"),
        (7642.8296, 9.2e-13, "7643"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value, error, text) -> None:
    assert Fact(name="x", value=value, error=error).text == text


def part(name: str) -> ReportPart:
    section = Section(
        key="vacf",
        title="A <title>",
        about="About.",
        facts=(Fact(name="D of O", value=1.5, error=0.1, unit="Å²/ps"),),
        columns={"time_ps": np.arange(5.0), "vacf_total": np.ones(5)},
        notes=("take care & time",),
    )
    facts = (Fact(name="file", value=f"{name}.traj"),)
    return ReportPart(name=name, facts=facts, sections=[section], notes=[])


def test_the_report_needs_no_other_file_and_no_network() -> None:
    text = report_html([part("one"), part("<two>")], {"start": 0}, {"numpy": "2"})
    for word in ("http:", "https:", "src='/", "<script", "<link", "url("):
        assert word not in text
    assert text.count("src='data:image/svg+xml;base64,") == 2
    assert "<h1>Analysis of 2 trajectories</h1>" in text
    assert "&lt;two&gt;" in text
    assert "<two>" not in text
    assert "A &lt;title&gt;" in text
    assert "take care &amp; time" in text
    # in the overview once for each, and in the sections
    assert text.count("1.50 ± 0.10 Å²/ps") == 4
    assert "start: 0" in text


def test_the_same_results_give_the_same_report() -> None:
    texts = [report_html([part("one")], {}, {}) for _ in range(2)]
    assert len(texts[0]) == len(texts[1])
