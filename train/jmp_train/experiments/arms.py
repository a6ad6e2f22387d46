"""Arm: one training run of an experiment; run once, remembered, never dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jmp_calc.errors import DataError
from jmp_calc.files import replacing
from jmp_train.config import StartConfig, TrainConfig
from jmp_train.config_file import config_hash

RESULT = "result.json"
"""File in the folder of an arm that says it is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One run: what is varied, and everything that it depends on."""

    name: str
    """Name in tables; equal for all seeds of the arm."""
    config: TrainConfig
    """Settings; ``out`` and ``seed`` are those of this run."""
    after: Arm | None = None
    """Run whose weights this one starts from; None: as the settings say."""
    tags: Mapping[str, Any] = field(default_factory=dict)
    """What an experiment wants to remember, such as the number of systems."""

    @property
    def label(self) -> str:
        """Name and seed."""
        return f"{self.name}, seed {self.config.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmResult:
    """What a run gave."""

    name: str
    """Name of the arm."""
    seed: int
    """Seed of the run."""
    tags: Mapping[str, Any]
    """As given in the arm."""
    errors: Mapping[str, Mapping[str, Any]]
    """Errors of the test part by task, as in ``errors-test.json``."""
    curve: Sequence[Mapping[str, Any]]
    """Step, seconds and errors of each validation."""
    n_steps: int
    """Optimizer steps."""
    n_systems: int
    """Training systems."""
    n_parameters: int
    """Parameters of the network."""
    seconds: float
    """Time in training steps."""
    device: str
    """What computed."""
    config_hash: str
    """Hash of the settings that decide the weights."""
    weights: str
    """The weights file."""


Announce = Callable[[str], None]
"""Called with a line of text before and after each run."""


def run_arms(arms: Sequence[Arm], announce: Announce) -> list[ArmResult]:
    """Train every arm that is not done yet, and return all results in order.

    Args:
        arms: In an order in which each comes after the one that it starts from.
        announce: Hears about progress.

    Raises:
        DataError: If the folder of an arm holds another run.
    """
    results: list[ArmResult] = []
    for number, arm in enumerate(arms, start=1):
        place = f"[{number}/{len(arms)}] {arm.label}"
        known = _finished(arm)
        if known is None:
            announce(f"{place}: training")
            known = _run(arm)
        announce(f"{place}: {summary_line(known)}")
        results.append(known)
    return results


def summary_line(result: ArmResult) -> str:
    """Return steps, time and main errors on one line.

    Args:
        result: Of a finished arm.
    """
    errors = "  ".join(
        f"{task} {headline(values)}" for task, values in result.errors.items()
    )
    return f"{result.n_steps} steps in {result.seconds:.0f} s  {errors}"


def headline(errors: Mapping[str, Any]) -> str:
    """Return the main error of a task in words.

    Args:
        errors: Of one task, from ``TaskErrors.to_json``.
    """
    force, target = errors.get("force_mae_eV_per_A"), errors.get("target_mae")
    if is_number(force):
        return f"{1000 * float(force):.1f} meV/Å"
    if is_number(target):
        return f"{float(target):.4g} {errors.get('target_unit', '')}".strip()
    if is_number(errors.get("energy_mae_meV_per_atom")):
        return f"{float(errors['energy_mae_meV_per_atom']):.2f} meV/atom"
    return "no error"


def is_number(value: Any) -> bool:
    """Return whether a value of a file of errors was measured.

    Args:
        value: A number, NaN, text or None.
    """
    return isinstance(value, int | float) and value == value


def weights_of(arm: Arm) -> Path:
    """Return where the weights file of an arm lies when it is done.

    Args:
        arm: Any arm.
    """
    return arm.config.out / f"{arm.config.name}.safetensors"


def _finished(arm: Arm) -> ArmResult | None:
    path = arm.config.out / RESULT
    if not path.is_file():
        return None
    result = ArmResult(**json.loads(path.read_text(encoding="utf-8")))
    if result.config_hash != config_hash(_started(arm)):
        raise DataError(
            f"{arm.config.out} holds a run of {arm.label} with other settings; choose "
            "another --out, or delete that folder"
        )
    return result


def _started(arm: Arm) -> TrainConfig:
    """Return the settings with the weights of the arm before, if there is one."""
    if arm.after is None:
        return arm.config
    start = arm.config.start or StartConfig(weights="")
    return replace(arm.config, start=replace(start, weights=str(weights_of(arm.after))))


def _run(arm: Arm) -> ArmResult:
    from jmp_train.checkpoint import Checkpointer
    from jmp_train.export import export_weights
    from jmp_train.runlog import CHECKPOINTS, SUMMARY
    from jmp_train.trainer import Trainer

    config = _started(arm)
    folder = config.out / CHECKPOINTS
    is_resumed = Checkpointer(folder, keep=1).latest() is not None
    trainer = Trainer.build(config, is_resumed=is_resumed)
    trainer.run()
    weights = export_weights(config.out, weights_of(arm))
    summary = json.loads((config.out / SUMMARY).read_text(encoding="utf-8"))
    result = ArmResult(
        name=arm.name,
        seed=config.seed,
        tags=dict(arm.tags),
        errors=summary["test"],
        curve=_curve(config.out),
        n_steps=summary["step"],
        n_systems=sum(task["n_systems"] for task in summary["tasks"].values()),
        n_parameters=summary["n_parameters"],
        seconds=summary["seconds"],
        device=summary["hardware"],
        config_hash=config_hash(config),
        weights=str(weights),
    )
    with replacing(config.out / RESULT) as new:
        new.write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


def _curve(run: Path) -> list[dict[str, Any]]:
    from jmp_train.runlog import LOG

    found: dict[int, dict[str, Any]] = {}
    for line in (run / LOG).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "evaluation":
            found[record["step"]] = {
                key: record.get(key) for key in ("step", "seconds", "tasks")
            }
    return [found[step] for step in sorted(found)]
