"""What the log of a run says about the run and about its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jmp_train.config_file import config_hash
from jmp_train.progress import StepResult, TermSums
from jmp_train.runlog import hardware, versions

if TYPE_CHECKING:
    from jmp_train.trainer import Trainer

_NAMES = {
    "energy": "energy_loss",
    "forces": "force_loss",
    "stress": "stress_loss",
    "target": "target_loss",
}


class Pace:
    """How fast a run is since its last line in the log."""

    def __init__(self) -> None:
        self._systems, self._seconds, self._waiting = 0, 0.0, 0.0

    def add(self, result: StepResult) -> None:
        """Count a step.

        Args:
            result: What it did.
        """
        self._systems += result.n_systems
        self._seconds += result.seconds
        self._waiting += result.waiting

    def facts(self) -> dict[str, float]:
        """Return systems per second and the share of waiting, and begin anew."""
        seconds = max(self._seconds, 1e-9)
        found = {
            "systems_per_second": self._systems / seconds,
            "waiting_share": self._waiting / seconds,
        }
        self._systems, self._seconds, self._waiting = 0, 0.0, 0.0
        return found


def run_facts(trainer: Trainer) -> dict[str, Any]:
    """Return what is true of a run and how far it has come.

    Args:
        trainer: The run.
    """
    position = trainer.position
    return {
        "name": trainer.config.name,
        "config_hash": config_hash(trainer.config),
        "step": position.step,
        "n_steps": trainer.plan.n_steps,
        "n_parameters": sum(p.numel() for p in trainer.model.parameters()),
        "seconds": position.seconds,
        "skipped": position.skipped,
        "processes": trainer.group.world_size,
        "hardware": hardware(trainer.device),
        "versions": versions(),
        "tasks": {
            task: {
                "n_systems": statistics.n_systems,
                "systems_seen": seen,
                "epochs": _epochs(trainer, task),
                "fingerprint": trainer.fingerprints[task],
            }
            for (task, statistics), seen in zip(
                trainer.statistics.items(), position.seen, strict=True
            )
        },
    }


def step_facts(trainer: Trainer, result: StepResult) -> dict[str, Any]:
    """Return what the log says about a step.

    Args:
        trainer: The run, after the step.
        result: What the step did.
    """
    position = trainer.position
    facts: dict[str, Any] = {
        "step": position.step,
        "epoch": position.epoch,
        "seconds": position.seconds,
        "loss": result.loss,
        **{key: result.term(term) for term, key in _NAMES.items() if result.term(term)},
        "gradient_norm": result.gradient_norm,
        "learning_rate": result.learning_rate,
        "skipped": position.skipped,
        "tasks": {
            task: _task_facts(sums) | {"epochs": _epochs(trainer, task)}
            for task, sums in result.tasks.items()
        },
    }
    if trainer.config.precision == "fp16":
        facts["loss_scale"] = trainer.maker.loss_scale.value
        facts["energy_multiplier"] = trainer.maker.objective.multiplier.value
    return facts


def _epochs(trainer: Trainer, task: str) -> float:
    """Return how often the samples of a task were seen, on average."""
    seen = dict(zip(trainer.statistics, trainer.position.seen, strict=True))[task]
    return seen / trainer.statistics[task].n_systems


def _task_facts(sums: TermSums) -> dict[str, Any]:
    means = {
        key: getattr(sums, term) / sums.n_systems
        for term, key in _NAMES.items()
        if getattr(sums, term)
    }
    return {"n_systems": sums.n_systems, **means}
