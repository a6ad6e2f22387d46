"""What a run tells while it goes and when it ends, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jmp_train.metrics import TaskErrors

StopReason = Literal["finished", "time", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one optimizer step did."""

    loss: float
    """Energy plus force term, network units."""
    energy_loss: float
    """Energy term."""
    force_loss: float
    """Force term."""
    gradient_norm: float
    """Global norm before clipping."""
    learning_rate: float
    """Rate of this step."""
    task_losses: dict[str, tuple[int, float, float]]
    """Systems and sums of their energy and force terms, by task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a run ended."""

    reason: StopReason
    """Why it stopped."""
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
    """Asked after each step."""
