"""The plain facts of a run that its checkpoints hold, strictly checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.records import record_from_json
from jmp_train.checkpoint import read_facts
from jmp_train.config import TrainConfig
from jmp_train.config_file import from_plain, result_settings, to_plain

_SHOWN_DIFFERENCES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epoch of the next step."""
    place: int = 0
    """Number of the next step in its epoch."""
    seconds: float = 0.0
    """Time spent in steps, over all sessions of the run."""
    seen: tuple[int, ...] = ()
    """Samples of each task seen, repeats counted."""
    skipped: int = 0
    """Steps without finite loss and gradient, which changed nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """Everything but tensors that a run needs to go on as if it had not stopped.

    No state of random numbers: the order of samples and what is dropped follow from
    the seed and the position, and nothing else is drawn at random after the start.
    """

    config: TrainConfig
    """Settings of the run."""
    headers: dict[str, dict[str, Any]]
    """Header of the training store, by task."""
    heads: tuple[HeadSpec, ...]
    """What the heads of the network assume, in their order."""
    info: dict[str, Any]
    """What the network says about itself: name, and the weights it started from."""
    position: Position
    """Where to go on."""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Plain states of the parts that have one (schedule, stopping, scaler), by name."""

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON holds it."""
        return {
            "config": to_plain(self.config),
            "headers": self.headers,
            "heads": [asdict(spec) for spec in self.heads],
            "info": self.info,
            "position": to_plain(self.position),
            "parts": self.parts,
        }

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of the training store, by task."""
        return {task: head["fingerprint"] for task, head in self.headers.items()}


def read_state(path: Path) -> RunState:
    """Return the plain facts of a checkpoint of a run.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: If it is damaged, foreign, of another version, or was written
            with settings that this version of jmp-train does not know.
    """
    facts = read_facts(path)
    names = [f.name for f in fields(RunState)]
    if sorted(facts) != sorted(names):
        raise CheckpointError(
            f"{path} holds the facts {sorted(facts)}; a run needs {names}. It was "
            "written by another version of jmp-train; use that one"
        )
    try:
        config = from_plain(TrainConfig, facts["config"])
        position = from_plain(Position, facts["position"], place="position")
        heads = tuple(
            record_from_json(HeadSpec, head, where=f"heads[{i}]")
            for i, head in enumerate(facts["heads"])
        )
    except (ArgumentError, CheckpointError, TypeError) as error:
        raise CheckpointError(
            f"{path} was written by another version of jmp-train ({error}); use that "
            "one"
        ) from error
    return RunState(
        config=config,
        headers=_mappings(path, facts, "headers"),
        heads=heads,
        info=dict(facts["info"]),
        position=position,
        parts=_mappings(path, facts, "parts"),
    )


def check_same_run(
    state: RunState, config: TrainConfig, fingerprints: Mapping[str, str]
) -> None:
    """Refuse to resume a run under settings or data that would change it.

    The number of processes may be another one.

    Args:
        state: What the run saved.
        config: Settings that it is resumed with.
        fingerprints: Fingerprint of the training store that it is resumed on, by task.

    Raises:
        ArgumentError: If a setting that decides the weights or a store differs.
    """
    old, new = result_settings(state.config), result_settings(config)
    differing = [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    differing += [
        f"the store of {task} has other samples"
        for task, fingerprint in state.fingerprints.items()
        if fingerprints.get(task) != fingerprint
    ]
    if differing:
        shown = "; ".join(differing[:_SHOWN_DIFFERENCES])
        raise ArgumentError(
            f"the run cannot be resumed with other settings or data: {shown}; "
            f"{len(differing)} in all. Resume with the same ones, or start in another "
            "folder"
        )


def _mappings(
    path: Path, facts: Mapping[str, Any], name: str
) -> dict[str, dict[str, Any]]:
    found = facts[name]
    if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):
        return found
    raise CheckpointError(
        f"{path} is damaged ({name} is {found!r}); delete it, and resume from the one "
        "before"
    )
