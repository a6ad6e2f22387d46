"""User data and weights -> the configuration of a run, and why it is so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.config import SIZES, HeadSpec, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import (
    DataConfig,
    StartConfig,
    StoppingConfig,
    TaskConfig,
    TaskScales,
    TrainConfig,
)
from jmp_train.data.source import SetFacts
from jmp_train.data.splits import Split
from jmp_train.data.store import Store
from jmp_train.finetune.defaults import (
    default_rate,
    defaults_for,
    evaluation_interval,
    run_length,
    user_optim,
)
from jmp_train.finetune.graphs import changed_rules, graph_rules
from jmp_train.finetune.references import ReferenceChoice, choose_references
from jmp_train.finetune.replay import replay_tasks
from jmp_train.finetune.settings import AUTO, NEW_HEAD, FinetuneSettings
from jmp_train.finetune.zero_shot import (
    HeadScore,
    best_head,
    candidate_heads,
    find_head,
    residual_references,
    score_heads,
)
from jmp_train.groups import layer_factors
from jmp_train.start import resolve_start

MIN_PATIENCE = 10
"""Validations without improvement before a run on user data ends, at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPlan:
    """A run on user data, and what was decided on the way."""

    config: TrainConfig
    """The run."""
    scores: tuple[HeadScore, ...]
    """Errors of the heads that were compared, the best first."""
    head: str | None
    """Head of the weights that is kept; None: the head is new."""
    references: ReferenceChoice | None
    """References of the elements; None: the target has its own."""
    counts: dict[int, int]
    """Training systems that hold each element."""
    notes: tuple[str, ...]
    """What else a user should know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserData:
    """What the stores of a run hold."""

    folder: Path
    """Folder of the stores."""
    facts: SetFacts
    """What the set is."""
    stores: Mapping[Split, Store]
    """Store of each part."""

    @property
    def header(self) -> Mapping[str, Any]:
        """Header of the training part."""
        return cast(Mapping[str, Any], self.stores["train"].header)

    @property
    def labels(self) -> Mapping[str, int]:
        """Training systems that have each label."""
        return cast(Mapping[str, int], self.header["labels"])

    @property
    def counts(self) -> dict[int, int]:
        """Training systems that hold each element, by atomic number."""
        found = self.header["element_systems"]
        return {int(z): int(n) for z, n in found.items()}

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in all parts."""
        found = {
            int(z)
            for store in self.stores.values()
            for z in store.header["element_systems"]
        }
        return tuple(sorted(found))

    @property
    def is_periodic(self) -> bool:
        """Whether the first training system is periodic."""
        return self.stores["train"][0].is_periodic

    @property
    def is_mixed(self) -> bool:
        """Whether some systems are periodic and others are not."""
        kinds = {
            sample.is_periodic for store in self.stores.values() for sample in store
        }
        return len(kinds) > 1


def plan_user_run(
    settings: FinetuneSettings,
    data: UserData,
    source: JMPModel | None,
    *,
    device: torch.device | str = "cpu",
) -> UserPlan:
    """Return the run on the data of a user.

    Args:
        settings: What the user said.
        data: The stores made of the files.
        source: Weights to start from, on that device; None: from scratch.
        device: Where heads are compared.

    Raises:
        ArgumentError: If a head or a replayed task does not exist or does not fit.
        DataError: If the data lack a label or a reference.
    """
    _check_labels(settings, data)
    scores, kept = _choose_head(settings, data, source, device)
    references = _references(settings, data, source, kept, device)
    task = _task(settings, data, source, kept, references)
    replayed = replay_tasks(settings, data, source) if source is not None else ()
    config = _config(settings, data, (task, *replayed), source, kept)
    return UserPlan(
        config=config,
        scores=tuple(scores),
        head=None if kept is None else kept.name,
        references=references,
        counts=data.counts,
        notes=_notes(settings, data, task),
    )


def _check_labels(settings: FinetuneSettings, data: UserData) -> None:
    if settings.target is None and not (data.labels["forces"] or data.labels["energy"]):
        raise DataError(
            "the training part has neither energies nor forces; give their names with "
            "--energy-key and --forces-key, or a --target"
        )
    if settings.forces == "direct" and not data.labels["forces"]:
        raise DataError(
            "direct forces cannot be learned without force labels; train gradient "
            "forces, or give the name of the forces with --forces-key"
        )


def _choose_head(
    settings: FinetuneSettings,
    data: UserData,
    source: JMPModel | None,
    device: torch.device | str,
) -> tuple[list[HeadScore], HeadSpec | None]:
    if source is None or settings.target is not None or settings.head == NEW_HEAD:
        return [], None
    if settings.head != AUTO:
        return [], find_head(source, settings.head)
    if not data.labels["forces"]:
        return [], None
    heads = candidate_heads(
        source, elements=data.elements, is_periodic=data.is_periodic
    )
    if settings.forces == "direct":
        heads = [name for name in heads if source.heads[name].has_direct_forces]
    scores = score_heads(source, data.stores["train"], heads, device=device)
    best = best_head(scores)
    return scores, None if best is None else source.heads[best]


def _references(
    settings: FinetuneSettings,
    data: UserData,
    source: JMPModel | None,
    kept: HeadSpec | None,
    device: torch.device | str,
) -> ReferenceChoice | None:
    if settings.target is not None:
        return None

    def find(name: str) -> HeadSpec:
        if source is None:
            raise ArgumentError(f"a run from scratch has no head {name!r}")
        return find_head(source, name)

    def fit_kept() -> Any:
        assert source is not None
        assert kept is not None
        return residual_references(
            source, data.stores["train"], kept.name, device=device
        )

    fitted = data.header["statistics"]["references"]
    return choose_references(
        settings.references,
        elements=data.elements,
        has_energies=bool(data.labels["energy"]),
        free_atoms=data.facts.atom_energies,
        fitted={int(z): float(value) for z, value in fitted.items()},
        find=find,
        fit_kept=None if kept is None else fit_kept,
    )


def _task(
    settings: FinetuneSettings,
    data: UserData,
    source: JMPModel | None,
    kept: HeadSpec | None,
    references: ReferenceChoice | None,
) -> TaskConfig:
    name, labels = data.facts.name, data.labels
    graph = changed_rules(
        graph_rules(
            source,
            kept=None if kept is None else kept.name,
            size=SIZES[settings.size],
            is_periodic=data.is_periodic,
        ),
        cutoff=settings.cutoff,
        max_neighbors=settings.max_neighbors,
    )
    if graph.rules == "published" and data.is_mixed:
        raise DataError(
            "some systems are periodic and others are not, and the published graph "
            "rules take all for one kind; train them apart, or use a network with "
            "smooth rules (--from jmp-nano, --size nano)"
        )
    if settings.target is not None:
        return TaskConfig(
            name=name,
            graph=graph,
            kind=settings.kind,
            forces=None,
            target=settings.target.partition(":")[0],
            reduction=settings.reduction,
            classes=settings.classes,
            scales=TaskScales(has_references=settings.references != "none"),
        )
    assert references is not None
    values = references.values
    has_stress = bool(labels["stress"]) and settings.forces == "gradient"
    return TaskConfig(
        name=name,
        graph=graph,
        forces=settings.forces if labels["forces"] else None,
        energy_weight=_weight(settings.energy_weight, float(bool(labels["energy"]))),
        force_weight=settings.force_weight,
        stress_weight=_weight(settings.stress_weight, float(has_stress)),
        scales=TaskScales(
            has_references=values is not None,
            references=None if values is None else tuple(sorted(values.items())),
        ),
    )


def _weight(given: float | None, default: float) -> float:
    return default if given is None else given


def _config(
    settings: FinetuneSettings,
    data: UserData,
    tasks: tuple[TaskConfig, ...],
    source: JMPModel | None,
    kept: HeadSpec | None,
) -> TrainConfig:
    n_systems = len(data.stores["train"])
    row = defaults_for(n_systems)
    batch = settings.batch_systems or min(row.batch_systems, n_systems)
    n_steps = settings.max_steps or run_length(
        n_systems,
        batch_systems=batch,
        epochs=settings.epochs or row.epochs,
        n_tasks=len(tasks),
    )
    model = _model(settings, source)
    interval = evaluation_interval(n_steps, -(-len(tasks) * n_systems // batch))
    main = tasks[0]
    config = TrainConfig(
        name=main.name,
        data=DataConfig(
            stores=data.folder,
            tasks=tasks,
            temperature=math.inf if len(tasks) > 1 else 1.0,
            batch_systems=batch,
            workers=settings.workers,
            graph_cache=20_000,
        ),
        model=replace(model, has_direct_forces=main.forces == "direct"),
        optim=user_optim(
            learning_rate=settings.learning_rate or default_rate(n_parameters(model)),
            n_steps=n_steps,
            ema_decay=settings.ema_decay,
        ),
        out=settings.out,
        stopping=StoppingConfig(
            monitor=_monitor(main), patience=max(MIN_PATIENCE, n_steps // interval // 3)
        ),
        max_steps=n_steps,
        max_minutes=settings.max_minutes,
        seed=settings.seed,
        device=settings.device,
        precision=settings.precision,
        evaluate_every=interval,
        checkpoint_every=max(interval, 200),
        log_every=min(50, interval),
    )
    if source is None:
        return config
    start = StartConfig(
        weights=settings.weights,
        heads=(
            *(() if kept is None else ((main.name, kept.name),)),
            *((task.name, task.name) for task in tasks[1:]),
        ),
        frozen=settings.frozen,
        layer_rates=layer_factors(source.config.num_blocks)
        if settings.has_layer_rates
        else (),
    )
    return resolve_start(replace(config, start=start), source)


def _model(settings: FinetuneSettings, source: JMPModel | None) -> ModelConfig:
    return SIZES[settings.size] if source is None else source.config


def n_parameters(config: ModelConfig) -> int:
    """Return the numbers that a network without heads learns.

    Args:
        config: Its shape.
    """
    with torch.device("meta"):
        model = JMPModel(config, [])
    return sum(parameter.numel() for parameter in model.parameters())


def _monitor(task: TaskConfig) -> str:
    if task.target is not None:
        return "target"
    if task.energy_weight and task.forces is not None:
        return "loss"
    return "forces" if task.forces is not None else "energy"


def _notes(
    settings: FinetuneSettings, data: UserData, task: TaskConfig
) -> tuple[str, ...]:
    notes = []
    if settings.target is None and task.forces is None:
        notes.append(
            "there are no forces to learn from; those of the result are derivatives of "
            "its energy, and nothing tells how good they are"
        )
    if data.labels["stress"] and not task.stress_weight and settings.target is None:
        notes.append("stress labels are not trained on")
    return tuple(notes)
