"""What an experiment leaves: report.md, results.json, curves.csv and a picture."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmp_calc.files import replacing
from jmp_train.experiments.arms import ArmResult, is_number
from jmp_train.experiments.statistics import Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    def to_markdown(self) -> str:
        """Return the table as text."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append("|" + " --- |" * len(self.columns))
        lines += ["| " + " | ".join(map(_text, row)) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Answer of an experiment."""

    question: str
    """What was asked."""
    findings: tuple[str, ...]
    """What the numbers say, and what they cannot resolve, in sentences."""
    tables: tuple[Table, ...]
    """Tables, the main one first."""
    draw: Callable[[Axes], None] | None = None
    """Draws the picture; None: none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More numbers for results.json."""


def write_report(
    out: Path,
    report: Report,
    results: Sequence[ArmResult],
    *,
    title: str,
    settings: Mapping[str, Any],
) -> Path:
    """Write all files and return report.md.

    Args:
        out: Folder.
        report: The answer.
        results: All runs, also those no table shows.
        title: Name of the experiment.
        settings: Plain data: budget, stores, versions.
    """
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "title": title,
        "question": report.question,
        "settings": dict(settings),
        "findings": list(report.findings),
        "facts": dict(report.facts),
        "runs": [asdict(result) for result in results],
    }
    _write(out / "results.json", json.dumps(facts, indent=1, default=str) + "\n")
    _write(out / "curves.csv", _curves(results))
    if report.draw is not None:
        _draw(out / "figure.png", report.draw)
    _write(out / "report.md", _markdown(report, results, title, settings))
    return out / "report.md"


def _markdown(
    report: Report,
    results: Sequence[ArmResult],
    title: str,
    settings: Mapping[str, Any],
) -> str:
    parts = [f"# {title}", report.question]
    parts += [f"- {finding}" for finding in report.findings]
    if report.draw is not None:
        parts.append("![figure](figure.png)")
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
    return Table(
        title="Runs",
        columns=(
            "arm",
            "seed",
            "training systems",
            "parameters",
            "steps",
            "hours",
            "device",
        ),
        rows=tuple(
            (
                r.name,
                r.seed,
                r.n_systems,
                r.n_parameters,
                r.n_steps,
                f"{r.seconds / 3600:.3f}",
                r.device,
            )
            for r in results
        ),
    )


METRICS: dict[str, tuple[str, str, float]] = {
    "energy": ("energy_mae_meV_per_atom", "energy MAE, meV/atom", 1.0),
    "forces": ("force_mae_eV_per_A", "force MAE, meV/Å", 1000.0),
    "target": ("target_mae", "target MAE", 1.0),
}
"""Errors by short name: key of ``TaskErrors``, words with the unit, factor."""


def error_of(errors: Mapping[str, Any], metric: str) -> float:
    """Return one error of a task in the unit of ``METRICS``; NaN if not measured.

    Args:
        errors: Of one task.
        metric: Key of ``METRICS``.
    """
    key, _, factor = METRICS[metric]
    value = errors.get(key)
    return factor * float(value) if is_number(value) else math.nan  # type: ignore[arg-type]  # a number


def by_seed(
    results: Sequence[ArmResult], name: str, task: str, metric: str, **tags: Any
) -> list[float]:
    """Return the test errors of an arm, one per seed, in order of the seeds.

    Args:
        results: All runs.
        name: Name of the arm.
        task: Task that is scored.
        metric: Key of ``METRICS``.
        tags: Only runs with these tags.
    """
    chosen = sorted(
        (r for r in results if r.name == name and _has_tags(r, tags)),
        key=lambda r: r.seed,
    )
    return [error_of(r.errors[task], metric) for r in chosen if task in r.errors]


def estimate_of(values: Sequence[float]) -> Cell:
    """Return mean ± spread, or "not measured".

    Args:
        values: One per seed; NaN where not measured.
    """
    finite = [value for value in values if math.isfinite(value)]
    return estimate(finite) if finite else "not measured"


def steps_to_reach(
    result: ArmResult, task: str, metric: str, error: float
) -> int | None:
    """Return the first validation that is at least as good; None: never.

    Args:
        result: A run.
        task: Task that is scored.
        metric: Key of ``METRICS``.
        error: Error to reach, in the unit of ``METRICS``.
    """
    for point in result.curve:
        if error_of(point["tasks"].get(task, {}), metric) <= error:
            return int(point["step"])
    return None


def _has_tags(result: ArmResult, tags: Mapping[str, Any]) -> bool:
    return all(result.tags.get(key) == value for key, value in tags.items())


def _curves(results: Sequence[ArmResult]) -> str:
    text = StringIO()
    writer = csv.writer(text)
    names = list(METRICS)
    writer.writerow(
        ["arm", "seed", "step", "task", *(METRICS[name][1] for name in names)]
    )
    for result in results:
        for point in result.curve:
            for task, errors in point["tasks"].items():
                values = [error_of(errors, name) for name in names]
                writer.writerow(
                    [result.name, result.seed, point["step"], task, *values]
                )
    return text.getvalue()


def _draw(path: Path, draw: Callable[[Axes], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    draw(figure.subplots())
    with replacing(path) as new:
        figure.savefig(new, dpi=160, format="png")


def _write(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def _text(cell: Cell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
