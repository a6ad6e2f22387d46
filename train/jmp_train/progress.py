"""What a run tells while it goes and when it ends, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jmp_train.metrics import TaskErrors

StopReason = Literal["finished", "early", "time", "interrupted"]
"""All steps are done, early stopping, ``max_minutes``, or someone asked to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TermSums:
    """Sums over the systems of a task in a step, weighted, in network units."""

    n_systems: int
    """Systems of the task in the step."""
    energy: float
    """Sum of their energy terms."""
    forces: float
    """Sum of their force terms, each a mean over atoms."""
    stress: float
    """Sum of their stress terms."""
    target: float
    """Sum of the terms of their targets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one optimizer step did, in all processes together."""

    loss: float
    """The loss, network units."""
    gradient_norm: float
    """Global norm before clipping."""
    learning_rate: float
    """Largest rate of the parameter groups in this step."""
    is_skipped: bool
    """Whether loss or gradient was not finite, so that no weight has changed."""
    tasks: dict[str, TermSums]
    """Terms of the loss by task, of tasks that were in the step."""
    seconds: float = 0.0
    """Time that the step took, waiting included."""
    waiting: float = 0.0
    """Part of it that the first process waited for data, s."""

    @property
    def n_systems(self) -> int:
        """Systems of all tasks."""
        return sum(sums.n_systems for sums in self.tasks.values())

    def term(self, name: str) -> float:
        """Return the mean over systems of a term.

        Args:
            name: energy, forces, stress or target.
        """
        total = sum(getattr(sums, name) for sums in self.tasks.values())
        return float(total) / max(self.n_systems, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended."""

    reason: StopReason
    """Why it stopped."""
    explanation: str = ""
    """More about that, in words; empty: there is no more."""
    step: int
    """Optimizer steps done."""
    errors: dict[str, TaskErrors]
    """Errors on the test part, by task; empty if the run was interrupted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watcher:
    """Whom a run tells what it does, and asks whether to stop."""

    on_step: Callable[[int, int, StepResult], None] = lambda *_: None
    """Called after each step with its number, their total and the result."""
    on_record: Callable[[dict[str, Any]], None] = lambda _record: None
    """Called with each line of the log."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked after each step in every process; the run stops if one says so."""
