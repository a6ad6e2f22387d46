"""Arm: one training run of an experiment; run once, remembered, never dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from jmp_calc.errors import DataError, JMPError
from jmp_calc.files import file_hash, replace_text
from jmp_train.config import StartConfig, TrainConfig
from jmp_train.config_file import config_hash
from jmp_train.data.header import read_header
from jmp_train.data.store import store_path

if TYPE_CHECKING:
    from jmp_train.progress import RunResult
    from jmp_train.trainer import Trainer

RESULT = "result.json"
"""File in the folder of an arm that says it is done."""
SPLITS = ("train", "val", "test")
"""Parts of a set."""


class StoppedError(JMPError):
    """Somebody asked to stop; what is done is kept."""


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
        """Name, stage, set and seed."""
        known = [str(self.tags[k]) for k in ("stage", "store") if k in self.tags]
        if "n_train" in self.tags:
            known.append(f"{self.tags['n_train'] or 'all'} systems")
        if "rate" in self.tags:
            known.append(f"rate {self.tags['rate']:g}")
        return ", ".join([self.name, *known, f"seed {self.config.seed}"])


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
    train_errors: Mapping[str, Mapping[str, Any]]
    """Errors of the same weights on systems that were trained on."""
    val_errors: Mapping[str, Mapping[str, Any]]
    """Errors of the same weights on the validation part."""
    curve: Sequence[Mapping[str, Any]]
    """Step and errors of each validation during the run."""
    n_steps: int
    """Optimizer steps."""
    n_systems: int
    """Training systems."""
    n_parameters: int
    """Parameters of the network."""
    seconds: float
    """Time in training steps."""
    gpu_memory_GB: float | None
    """Largest memory on the GPU; None on a CPU."""
    device: str
    """What computed."""
    config_hash: str
    """Hash of the settings that decide the weights."""
    fingerprints: Mapping[str, str]
    """Fingerprint of each store by name and part."""
    weights: str
    """The weights file; empty if the run failed."""
    problem: str = ""
    """Why there are no errors; empty if there are."""


Announce = Callable[[str], None]
"""Called with a line of text before and after each run."""


def train_quietly(trainer: Trainer) -> RunResult:
    """Run a training and show nothing.

    Args:
        trainer: The run.
    """
    return trainer.run()


RunArms = Callable[[Sequence[Arm]], list[ArmResult]]
"""Trains all arms that are not done yet, and returns the results in order."""


def run_arms(
    arms: Sequence[Arm],
    announce: Announce,
    *,
    train: Callable[[Trainer], RunResult] = train_quietly,
) -> list[ArmResult]:
    """Train every arm that is not done yet, and return all results in order.

    An arm whose loss is not finite, that does not fit the GPU, or that starts from one
    that failed, stays in the list with its problem.

    Args:
        arms: In an order in which each comes after the one that it starts from.
        announce: Hears about progress.
        train: Runs a training to its end, or until somebody asks to stop.

    Raises:
        DataError: If the folder of an arm holds another run.
        StoppedError: If a run was interrupted.
    """
    results: list[ArmResult] = []
    for number, arm in enumerate(arms, start=1):
        place = f"[{number}/{len(arms)}] {arm.label}"
        known = finished(arm)
        if known is None:
            announce(f"{place}: training")
            known = run_arm(arm, train)
        announce(f"{place}: {summary_line(known)}")
        results.append(known)
    return results


def summary_line(result: ArmResult) -> str:
    """Return steps, time and main errors on one line.

    Args:
        result: Of a finished arm.
    """
    if result.problem:
        return f"FAILED: {result.problem}"
    errors = "  ".join(
        f"{task} {headline(values)}" for task, values in result.errors.items()
    )
    return f"{result.n_steps} steps in {result.seconds:.0f} s  {errors}".rstrip()


def headline(errors: Mapping[str, Any]) -> str:
    """Return the main error of a task in words.

    Args:
        errors: Of one task, from ``TaskErrors.to_json``.
    """
    keys = ("force_mae_eV_per_A", "target_mae", "energy_mae_meV_per_atom")
    force, target, energy = (errors.get(key) for key in keys)
    if is_number(force):
        return f"{1000 * force:.1f} meV/Å"
    if is_number(target):
        return f"{target:.4g} {errors.get('target_unit', '')}".strip()
    return f"{energy:.2f} meV/atom" if is_number(energy) else "no error"


def is_number(value: Any) -> TypeGuard[float]:
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


def fingerprints_of(config: TrainConfig) -> dict[str, str]:
    """Return the fingerprint of each store of a run, by name and part.

    Args:
        config: Settings.

    Raises:
        DataError: If the training part of a task is missing.
    """
    found = {}
    for task in config.data.tasks:
        for split in SPLITS:
            path = store_path(config.data.stores, task.store or task.name, split)
            if split == "train" or path.is_dir():
                found[path.name] = str(read_header(path)["fingerprint"])
    return found


def finished(arm: Arm) -> ArmResult | None:
    """Return the result of an arm that is done; None: it is not.

    Args:
        arm: Any arm; the one that it starts from is done, or not begun.

    Raises:
        DataError: If its folder holds another run, or a damaged result.
    """
    path = arm.config.out / RESULT
    if not path.is_file():
        return None
    try:
        result = ArmResult(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); delete the folder of this run, and it is "
            "trained again"
        ) from error
    if _is_orphan(arm):
        return result
    config = _started(arm)
    if result.config_hash != config_hash(config):
        changed = "other settings"
    elif result.fingerprints != fingerprints_of(config):
        changed = "other data"
    else:
        return result
    raise DataError(
        f"{arm.config.out} holds a run of {arm.label} with {changed}; choose another "
        "--out, or delete that folder"
    )


def _is_orphan(arm: Arm) -> bool:
    """Return whether the run that this one starts from failed."""
    return arm.after is not None and not weights_of(arm.after).is_file()


def _started(arm: Arm) -> TrainConfig:
    """Return the settings with weights to start from and their hash."""
    start = arm.config.start
    if arm.after is not None:
        path = weights_of(arm.after)
        start = replace(
            start or StartConfig(weights=""), weights=str(path), sha256=file_hash(path)
        )
    elif start is not None:
        from jmp_calc.pretrained import load_model

        sha256 = str(load_model(start.weights).info.get("weights_sha256", ""))
        start = replace(start, sha256=sha256)
    return replace(arm.config, start=start)


def run_arm(arm: Arm, train: Callable[[Trainer], RunResult]) -> ArmResult:
    """Train an arm, or go on with it, and remember its result.

    Args:
        arm: The arm; the one that it starts from is done.
        train: Runs a training to its end, or until somebody asks to stop.

    Raises:
        StoppedError: If it was interrupted.
    """
    arm.config.out.mkdir(parents=True, exist_ok=True)
    if _is_orphan(arm):
        assert arm.after is not None
        result = _failed(arm, f"there are no weights of {arm.after.label}")
    else:
        result = _trained(arm, _started(arm), train)
    replace_text(arm.config.out / RESULT, json.dumps(asdict(result), indent=1))
    return result


def _trained(
    arm: Arm, config: TrainConfig, train: Callable[[Trainer], RunResult]
) -> ArmResult:
    import torch

    from jmp_train.checkpoint_folders import CHECKPOINTS, latest
    from jmp_train.export import export_weights
    from jmp_train.nonfinite import NONFINITE
    from jmp_train.runlog import SUMMARY, errors_to_json
    from jmp_train.trainer import Trainer

    is_resumed = latest(config.out / CHECKPOINTS) is not None
    (config.out / NONFINITE).unlink(missing_ok=True)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer.build(config, is_resumed=is_resumed)
    try:
        reason = train(trainer).reason
    except torch.OutOfMemoryError:
        return _failed(arm, "it does not fit the memory of the GPU", trainer)
    except DataError as error:
        if not (config.out / NONFINITE).is_file():
            raise
        return _failed(arm, str(error).split(";")[0], trainer)
    if reason == "interrupted":
        raise StoppedError(
            f"stopped in {arm.label}; the same command goes on from here"
        )
    weights = export_weights(config.out, weights_of(arm), is_best=trainer.has_best)
    summary = json.loads((config.out / SUMMARY).read_text(encoding="utf-8"))
    limit = config.evaluate_systems
    return ArmResult(
        name=arm.name,
        seed=config.seed,
        tags=dict(arm.tags),
        errors=summary["test"],
        train_errors=errors_to_json(trainer.evaluate("train", per_task=limit)),
        val_errors=errors_to_json(trainer.evaluate("val", per_task=limit)),
        curve=_curve(config.out),
        n_steps=summary["step"],
        n_systems=len(trainer.dataset),
        n_parameters=summary["n_parameters"],
        seconds=summary["seconds"],
        gpu_memory_GB=_gpu_memory(trainer),
        device=summary["hardware"],
        config_hash=config_hash(config),
        fingerprints=fingerprints_of(config),
        weights=str(weights),
    )


def _failed(arm: Arm, problem: str, trainer: Trainer | None = None) -> ArmResult:
    n_parameters, n_steps, seconds, n_systems, device = 0, 0, 0.0, 0, ""
    if trainer is not None:
        from jmp_train.runlog import hardware

        n_parameters = sum(p.numel() for p in trainer.model.parameters())
        n_steps, seconds = trainer.position.step, trainer.position.seconds
        n_systems, device = len(trainer.dataset), hardware(trainer.device)
    return ArmResult(
        name=arm.name,
        seed=arm.config.seed,
        tags=dict(arm.tags),
        errors={},
        train_errors={},
        val_errors={},
        curve=_curve(arm.config.out),
        n_steps=n_steps,
        n_systems=n_systems,
        n_parameters=n_parameters,
        seconds=seconds,
        gpu_memory_GB=None,
        device=device,
        config_hash="" if trainer is None else config_hash(trainer.config),
        fingerprints=fingerprints_of(arm.config),
        weights="",
        problem=problem,
    )


def _gpu_memory(trainer: Trainer) -> float | None:
    import torch

    if trainer.device.type != "cuda":
        return None
    return float(torch.cuda.max_memory_allocated(trainer.device) / 1e9)


def _curve(run: Path) -> list[dict[str, Any]]:
    from jmp_train.plots.history import LOG, read_history

    # the history knows lines that a kill has cut off, and what a resume has replaced
    if not (run / LOG).is_file():
        return []
    found = read_history(run).validations
    return [{"step": step, "tasks": found[step]} for step in sorted(found)]
