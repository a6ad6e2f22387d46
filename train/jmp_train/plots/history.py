"""The history of a run, read from its log, whatever happened to the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jmp_calc.errors import DataError

LOG = "log.jsonl"
"""Name of the log in the folder of a run."""

Series = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]
"""Steps, and a value at each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHistory:
    """What happened at which step of a run."""

    name: str
    """Name of the run, or of its folder."""
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    """Numbers of each logged step by name; those of a task begin with ``TASK/``."""
    validations: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Errors of each validation by task."""
    notes: tuple[str, ...] = ()
    """What of the log could not be used, and why."""

    @property
    def tasks(self) -> list[str]:
        """Tasks that were validated, in the order of the log."""
        return list(
            {task: None for found in self.validations.values() for task in found}
        )

    def names(self) -> list[str]:
        """Return the names of all numbers of the steps."""
        return list({key: None for values in self.steps.values() for key in values})

    def series(self, name: str) -> Series:
        """Return a number of the steps where it is known.

        Args:
            name: Such as ``loss`` or ``learning_rate``.
        """
        points = [
            (step, v[name]) for step, v in sorted(self.steps.items()) if name in v
        ]
        return _columns(points)

    def errors(self, task: str, name: str) -> Series:
        """Return an error of the validations where it is known.

        Args:
            task: Name of the task.
            name: Field of ``TaskErrors``, or of its class scores.
        """
        points = []
        for step, tasks in sorted(self.validations.items()):
            facts = tasks.get(task, {})
            value = facts.get(name, (facts.get("classes") or {}).get(name))
            if isinstance(value, int | float):
                points.append((step, float(value)))
        return _columns(points)

    def throughput(self) -> Series:
        """Return the systems per second between logged steps.

        Only the time of steps counts, not that of validations.
        """
        if "systems_per_second" in self.names():
            return self.series("systems_per_second")
        steps, seconds = self.series("seconds")
        known, systems = self.series("systems")
        if len(steps) < 2 or len(known) < len(steps):
            return _columns([])
        passed = np.diff(seconds)
        usable = passed > 0
        rate = np.diff(steps)[usable] * systems[1:][usable] / passed[usable]
        return steps[1:][usable], rate


def read_history(folder: Path) -> RunHistory:
    """Return the history of a run.

    A line that is cut off, because the run was killed, is left out. Where a run was
    resumed, what it had logged beyond the step that it went on from is replaced.

    Args:
        folder: Folder of the run.

    Raises:
        DataError: If there is no log, or nothing in it can be read.
    """
    path = folder / LOG
    if not path.is_file():
        raise DataError(
            f"{folder} has no {LOG}; name the folder of a run, as given to --out"
        )
    steps: dict[int, dict[str, float]] = {}
    validations: dict[int, dict[str, dict[str, Any]]] = {}
    name, broken = folder.name, []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        record = _record(line)
        if record is None:
            broken += [number] if line.strip() else []
            continue
        step = record["step"]
        if record["kind"] == "start":
            name = str(record.get("name", name))
            steps = {k: v for k, v in steps.items() if k <= step}
            validations = {k: v for k, v in validations.items() if k <= step}
        elif record["kind"] == "step":
            steps[step] = _numbers(record)
        elif record["kind"] == "evaluation":
            validations[step] = record["tasks"]
    if not steps and not validations:
        raise DataError(f"{path} has no step and no validation yet; wait for the first")
    notes: tuple[str, ...] = ()
    if broken:
        where = ", ".join(map(str, broken[:5]))
        notes = (
            f"{path}: {len(broken)} lines are damaged or cut off, and left out "
            f"({where})",
        )
    return RunHistory(name=name, steps=steps, validations=validations, notes=notes)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(record, dict) or "kind" not in record:
        return None
    record = {"step": 0, "tasks": {}, **record}
    tasks: Any = record["tasks"]
    is_record = isinstance(record["step"], int) and isinstance(tasks, dict)
    is_whole = is_record and all(isinstance(facts, dict) for facts in tasks.values())
    return record if is_whole else None


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers of a step under flat names."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = float(value)
        elif isinstance(value, list):
            found |= {f"{key} {i}": float(v) for i, v in enumerate(value)}
        elif key == "tasks":
            systems = [int(task.get("n_systems", 0)) for task in value.values()]
            found["systems"] = float(sum(systems))
            for task, facts in value.items():
                found |= {f"{task}/{name}": float(v) for name, v in facts.items() if v}
        elif isinstance(value, dict):
            found |= {f"{key} {k}": float(v) for k, v in value.items()}
    return found


def _columns(points: list[tuple[int, float]]) -> Series:
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
