"""What an experiment leaves: report.md, results.json, curves.csv and a picture."""

from __future__ import annotations

import csv
import json
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmp_calc.files import replace_text
from jmp_train.experiments.arms import ArmResult
from jmp_train.experiments.results import METRICS, NOT_MEASURED, error_of
from jmp_train.experiments.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = "results.json"
"""Name of the file with every number."""
Cell = str | float | int | Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table of a report."""

    title: str
    """What it shows, with units."""
    columns: tuple[str, ...]
    """Heads of the columns."""
    rows: tuple[tuple[Cell, ...], ...]
    """Cells."""
    note: str = ""
    """A sentence below the table; empty: none."""

    def to_markdown(self) -> str:
        """Return the table as text; columns of numbers are flush right."""
        sides = [
            "---:" if any(_is_numeric(row[k]) for row in self.rows) else "---"
            for k in range(len(self.columns))
        ]
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("| " + " | ".join(sides) + " |")
        lines += ["| " + " | ".join(map(_text, row)) + " |" for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """How the picture of a report is drawn."""

    draw: Callable[[Figure], None]
    """Draws into an empty figure."""
    words: str
    """Caption."""
    size: tuple[float, float] = (6.8, 3.6)
    """Width and height, inches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Answer of an experiment."""

    question: str
    """What was asked."""
    findings: tuple[str, ...]
    """What the numbers say, and what they cannot resolve, in sentences."""
    tables: tuple[Table, ...]
    """Tables, the main one first."""
    picture: Picture | None = None
    """The picture; None: none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More numbers for results.json."""


def write_report(
    out: Path,
    report: Report,
    results: Sequence[ArmResult],
    *,
    title: str,
    settings: Mapping[str, Any],
    details: Mapping[str, Any],
) -> Path:
    """Write all files and return report.md.

    Args:
        out: Folder.
        report: The answer.
        results: All runs, also those no table shows.
        title: Name of the experiment.
        settings: Plain data that the report shows, in words.
        details: More of it, for results.json only.
    """
    from jmp_calc.pictures import new_figure, save_figure

    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "title": title,
        "question": report.question,
        "settings": dict(settings),
        **details,
        "commit": _commit(),
        "findings": list(report.findings),
        "facts": dict(report.facts),
        "tables": report.tables,
        "runs": results,
    }
    text = json.dumps(_plain(facts), indent=1, allow_nan=False, ensure_ascii=False)
    replace_text(out / RESULTS, text + "\n")
    replace_text(out / "curves.csv", curves_text(results))
    if report.picture is not None:
        figure = new_figure(*report.picture.size)
        report.picture.draw(figure)
        save_figure(figure, out / "figure.png")
    replace_text(out / "report.md", _markdown(report, results, title, settings))
    return out / "report.md"


def _markdown(
    report: Report,
    results: Sequence[ArmResult],
    title: str,
    settings: Mapping[str, Any],
) -> str:
    parts = [f"# {title}", f"**{report.question}**"]
    failures = [f"FAILED: {r.name}, seed {r.seed}: {r.problem}" for r in results]
    failed = [text for text, r in zip(failures, results, strict=True) if r.problem]
    parts.append("\n".join(f"- {line}" for line in (*failed, *report.findings)))
    if report.picture is not None:
        parts.append(f"![{report.picture.words}](figure.png)")
        parts.append(f"*{report.picture.words}*")
    parts += [table.to_markdown() for table in report.tables]
    parts.append(runs_table(results).to_markdown())
    parts.append("### Settings")
    parts.append("\n".join(f"- {key}: {value}" for key, value in settings.items()))
    return "\n\n".join(parts) + "\n"


def runs_table(results: Sequence[ArmResult]) -> Table:
    """Return the cost of every run; none is left out.

    Args:
        results: All runs.
    """
    has_gpu = any(r.gpu_memory_GB is not None for r in results)
    return Table(
        title="Runs",
        columns=(
            "arm",
            "stage",
            "set",
            "seed",
            "training systems",
            "parameters",
            "steps",
            "hours",
            *(("GPU memory, GB",) if has_gpu else ()),
            "end",
        ),
        rows=tuple(
            (
                r.name,
                r.tags.get("stage", "training"),
                r.tags.get("store", "all"),
                r.seed,
                f"{r.n_systems:,}",
                f"{r.n_parameters:,}",
                f"{r.n_steps:,}",
                f"{r.seconds / 3600:.4f}",
                *((_memory(r),) if has_gpu else ()),
                "failed" if r.problem else "done",
            )
            for r in results
        ),
        note="Hours are those of training steps, without validation, on: "
        + "; ".join(dict.fromkeys(r.device for r in results if r.device))
        + ". In all tables ± is the standard deviation over seeds (n - 1), and [95 %] "
        "is Student's interval of the mean difference between runs of equal seed.",
    )


def _memory(result: ArmResult) -> str:
    memory = result.gpu_memory_GB
    return NOT_MEASURED if memory is None else f"{memory:.2f}"


def curves_text(results: Sequence[ArmResult]) -> str:
    """Return the validations of all runs as comma-separated values.

    Args:
        results: All runs.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(METRICS)
    writer.writerow(
        ["arm", "stage", "set", "n_train", "seed", "step", "task"]
        + [METRICS[name].words for name in names]
    )
    for r in results:
        for point in r.curve:
            for task, errors in point["tasks"].items():
                writer.writerow(
                    [
                        r.name,
                        r.tags.get("stage", "training"),
                        r.tags.get("store", ""),
                        r.n_systems,
                        r.seed,
                        point["step"],
                        task,
                        *(error_of(errors, name) for name in names),
                    ]
                )
    return text.getvalue()


def _plain(value: Any) -> Any:
    """Return data as JSON knows it: numbers that were not measured become null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in fields(value)})
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _commit() -> str | None:
    """Return the commit of the code, if it runs from a working tree."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.4g}" if cell == cell else NOT_MEASURED
    return str(cell)


def _is_numeric(cell: Cell) -> bool:
    if not isinstance(cell, str):
        return True
    return cell.replace(",", "").replace(".", "").replace("-", "").isdecimal()
