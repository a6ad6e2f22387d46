"""One HTML file with all results: numbers, pictures, settings; nothing is loaded."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmp_calc.sim.analysis.drawing import draw_section
from jmp_calc.sim.analysis.sections import Fact, Section

STYLE = """
:root { color-scheme: light; }
body { font: 17px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  color: #1c1c1c; background: #fff; margin: 0 auto; padding: 1.5rem; max-width: 60rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 2.4rem 0 .4rem; padding-top: .6rem;
  border-top: 3px solid #0072b2; overflow-wrap: anywhere; }
h3 { font-size: 1.1rem; margin: 1.8rem 0 .2rem; }
p { margin: .3rem 0 .7rem; }
.about, .small, figcaption { color: #555; font-size: .88rem; }
.note { background: #fff6e0; border-left: 4px solid #e69f00; padding: .35rem .7rem;
  font-size: .92rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .94rem; }
th, td { text-align: left; padding: .22rem 1.1rem .22rem 0; vertical-align: top;
  border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
figure { margin: .4rem 0; }
img { width: 100%; max-width: 46rem; height: auto; display: block; }
nav a { margin-right: 1rem; } a { color: #0072b2; }
details { margin-top: 2rem; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .82rem; }
@media print { body { max-width: none; } figure, table { break-inside: avoid; } }
"""
"""The look: light, readable from some distance, fit for paper."""

KEY_FACTS = (
    "temperature",
    "drift of the total energy",
    "drift of the conserved energy",
    "stable to the end",
    "largest bond stretch",
    "D of ",
    "MAE of h(r) against the reference, total",
    "MAE of g(r) against the reference, total",
)
"""Starts of the names of facts that the overview shows."""
NOT_KEY_FACTS = ("cm²/s",)
"""Ends of names that it does not show: the same in another unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportPart:
    """One trajectory of a report."""

    name: str
    """What it is called."""
    facts: Sequence[Fact]
    """What it is: file, atoms, frames, time."""
    sections: Sequence[Section]
    """Its results."""
    notes: Sequence[str]
    """What to know of the file."""


def report_html(
    parts: Sequence[ReportPart],
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """Return the report as HTML that needs no other file and no network.

    Args:
        parts: The trajectories.
        settings: What was asked for; shown at the end.
        versions: Of the packages; shown at the end.
    """
    title = (
        f"Analysis of {parts[0].name}"
        if len(parts) == 1
        else f"Analysis of {len(parts)} trajectories"
    )
    body = [f"<h1>{_text(title)}</h1>", "<p class='small'>Made by jmp-md analyze.</p>"]
    if len(parts) > 1:
        links = (
            f"<a href='#t{k}'>{_text(part.name)}</a>" for k, part in enumerate(parts)
        )
        body.append(f"<nav>{''.join(links)}</nav>")
    body.append(_overview(parts))
    for k, part in enumerate(parts):
        body += _part(part, f"t{k}")
    lines = [f"{key}: {value}" for key, value in settings.items()]
    lines += [f"{key} {value}" for key, value in versions.items()]
    body.append(
        "<details><summary>Settings and versions</summary><pre>"
        f"{_text(chr(10).join(lines))}</pre></details>"
    )
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def key_facts(sections: Sequence[Section]) -> list[Fact]:
    """Return the numbers that people ask for first.

    Args:
        sections: Results of one trajectory.
    """
    return [
        fact
        for section in sections
        for fact in section.facts
        if fact.name.startswith(KEY_FACTS) and not fact.name.endswith(NOT_KEY_FACTS)
    ]


def _overview(parts: Sequence[ReportPart]) -> str:
    names: dict[str, None] = {}
    table = []
    for part in parts:
        found = {fact.name: fact for fact in key_facts(part.sections)}
        names |= dict.fromkeys(found)
        table.append(found)
    if not names:
        return ""
    head = "".join(f"<th>{_text(part.name)}</th>" for part in parts)
    rows = []
    for name in names:
        cells = "".join(
            f"<td class='number'>{_value(found[name]) if name in found else '–'}</td>"
            for found in table
        )
        rows.append(f"<tr><th>{_text(name)}</th>{cells}</tr>")
    return (
        "<div class='wide'><table><tr><th></th>"
        f"{head}</tr>{''.join(rows)}</table></div>"
    )


def _part(part: ReportPart, anchor: str) -> list[str]:
    found = [f"<h2 id='{anchor}'>{_text(part.name)}</h2>", _table(part.facts)]
    found += [_note(note) for note in part.notes]
    for section in part.sections:
        found.append(f"<h3>{_text(section.title)}</h3>")
        found += [_note(note) for note in section.notes]
        if section.columns:
            found.append(_picture(section))
            found.append(f"<p class='about'>{_text(section.about)}</p>")
        if section.facts:
            found.append(_table(section.facts))
    return found


def _picture(section: Section) -> str:
    data = io.BytesIO()
    draw_section(section).savefig(data, format="svg", metadata={"Date": None})
    code = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f"<figure><img alt='{_text(section.title)}' "
        f"src='data:image/svg+xml;base64,{code}'></figure>"
    )


def _table(facts: Sequence[Fact]) -> str:
    rows = "".join(
        f"<tr><th>{_text(fact.name)}</th><td class='number'>{_value(fact)}</td></tr>"
        for fact in facts
    )
    return f"<table>{rows}</table>"


def _value(fact: Fact) -> str:
    return _text(f"{fact.text} {fact.unit}".strip())


def _note(note: str) -> str:
    return f"<p class='note'>{_text(note)}</p>"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
