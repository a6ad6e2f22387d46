"""A fine-tuning from files to finished weights, in one process or in many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from jmp_calc.errors import ArgumentError
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import read_header, specs_of
from jmp_calc.pretrained import load_model
from jmp_train.checkpoint_folders import CHECKPOINTS, latest
from jmp_train.config import TrainConfig
from jmp_train.config_file import load_config
from jmp_train.data.splits import SPLITS, Split
from jmp_train.data.store import Store, store_path
from jmp_train.export import export_weights
from jmp_train.finetune.finish import finish_weights, no_gain, record_errors
from jmp_train.finetune.graphs import graph_rules, is_published
from jmp_train.finetune.pace import fit_to_time
from jmp_train.finetune.recipeplan import plan_recipe_run
from jmp_train.finetune.references import reference_table
from jmp_train.finetune.settings import SCRATCH, FinetuneSettings, RecipeSettings
from jmp_train.finetune.tables import graph_line, head_lines, start_line
from jmp_train.finetune.units import unit_doubts
from jmp_train.finetune.userdata import open_data, task_name
from jmp_train.finetune.userplan import UserData, plan_user_run
from jmp_train.finetune.zero_shot import feature_change
from jmp_train.labels import check_labels, label_table, unit_warnings
from jmp_train.metrics import TaskErrors
from jmp_train.parallel import Group
from jmp_train.prepare import PrepareProgress, prepare
from jmp_train.progress import RunResult
from jmp_train.runlog import CONFIG, RunLog, errors_name, errors_to_json
from jmp_train.trainer import Trainer
from jmp_train.validation import has_part

STORES = "stores"
"""Name of the folder of the user's stores in the folder of the run."""
N_COMPARED = 16
"""Systems on which other graph rules are compared."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a fine-tuning leaves."""

    weights: Path
    """The weights file."""
    errors: dict[str, dict[str, TaskErrors]]
    """Errors of these weights by part and task."""
    notes: list[str]
    """What was done to the file after training."""


def begin_user_run(
    settings: FinetuneSettings,
    group: Group,
    say: Say,
    *,
    progress: Callable[[PrepareProgress], None] | None = None,
) -> TrainConfig:
    """Prepare the data of a user and decide on the run.

    Args:
        settings: What the user said.
        group: The processes, which all call this.
        say: Hears lines of text, in the first process.
        progress: Called while the data are read.

    Raises:
        ArgumentError: If the folder holds a run, or a setting does not fit.
        DataError: If the data lack something.
        CheckpointError: If the weights are damaged.
    """
    config = group.on_main(lambda: _plan_user(settings, group, say, progress))
    has_length = settings.max_steps is not None or settings.epochs is not None
    if settings.max_minutes is None or has_length:
        return config
    config = fit_to_time(config, settings.max_minutes, group)
    if group.is_main:
        say(f"length      {config.max_steps} steps fit into the time that is given")
    return config


def _plan_user(
    settings: FinetuneSettings,
    group: Group,
    say: Say,
    progress: Callable[[PrepareProgress], None] | None,
) -> TrainConfig:
    check_folder(settings.out)
    source = None
    if settings.starts_from_weights:
        source = load_model(settings.weights).to(group.device)
    data = prepare_data(settings, say, progress=progress)
    plan = plan_user_run(settings, data, source, device=group.device)
    config = plan.config
    warnings = check_labels(config, train_headers(config))
    if settings.target is None and not unit_warnings(data.facts.name, data.header):
        warnings += unit_doubts(
            data.stores["train"], source, plan.scores, device=group.device
        )
    for line in warnings:
        say(f"warning: {line}")
    say("")
    say(start_line(config, source))
    say(head_lines(config, plan.scores))
    say(_graphs(config, source, data, settings))
    if plan.references is not None:
        say(reference_table(plan.references, plan.counts))
    for note in plan.notes:
        say(f"note: {note}")
    return config


def prepare_data(
    settings: FinetuneSettings,
    say: Say,
    *,
    progress: Callable[[PrepareProgress], None] | None = None,
) -> UserData:
    """Turn the files of a user into stores in the folder of the run.

    Args:
        settings: Files and names of labels.
        say: Hears what the data are.
        progress: Called while they are read.

    Raises:
        DataError: If the data lack something, or a file is damaged.
    """
    source = open_data(settings)
    folder = settings.out / STORES
    (done,) = prepare([source], folder, progress=progress)
    stores: dict[Split, Store] = {
        split: Store(store_path(folder, task_name(settings), split))
        for split in SPLITS
        if store_path(folder, task_name(settings), split).exists()
    }
    data = UserData(folder=folder, facts=source.facts, stores=stores)
    headers = {f"{data.facts.name} {split}": s.header for split, s in stores.items()}
    say(label_table(headers))
    say(f"report      {done.report}")
    for reason, count in done.skipped.items():
        say(f"left out    {count} ({reason})")
    for note in source.notes:
        say(f"note: {note}")
    return data


def begin_recipe_run(settings: RecipeSettings, group: Group, say: Say) -> TrainConfig:
    """Decide on the run of a published recipe.

    Args:
        settings: Which recipe, and what differs from it.
        group: The processes, which all call this.
        say: Hears lines of text, in the first process.

    Raises:
        ArgumentError: If the folder holds a run, or a setting does not fit.
        DataError: If the stores are not there or lack a label.
        CheckpointError: If the weights are damaged.
    """

    def plan() -> TrainConfig:
        check_folder(settings.out)
        source = None
        if settings.weights != SCRATCH:
            source = load_model(settings.weights).to(group.device)
        config = plan_recipe_run(settings, source)
        headers = train_headers(config)
        say(label_table(headers))
        for line in check_labels(config, headers):
            say(f"warning: {line}")
        say("")
        say(f"recipe      {settings.recipe}, values {settings.values}")
        say(start_line(config, source))
        say(head_lines(config, ()))
        store = _store(config)
        say(_change_line(config, source, store, is_asked=False))
        return config

    return group.on_main(plan)


def resumed_config(out: Path) -> TrainConfig:
    """Return the settings of the run in a folder, to go on with it.

    Args:
        out: Folder of the run.

    Raises:
        ArgumentError: If there is no run.
    """
    path = out / CONFIG
    if not path.is_file():
        raise ArgumentError(f"there is no run in {out} to go on with: no {CONFIG}")
    return replace(load_config(path), out=out)


def check_folder(out: Path) -> None:
    """Refuse a folder that holds a run already.

    Args:
        out: Folder for the run.

    Raises:
        ArgumentError: If it does.
    """
    if latest(out / CHECKPOINTS) is not None:
        raise ArgumentError(
            f"{out} already holds a run; resume it with --resume, or choose another "
            "folder"
        )


def train_headers(config: TrainConfig) -> dict[str, Mapping[str, object]]:
    """Return the headers of the training stores by task.

    Args:
        config: The run.
    """
    return {
        task.name: Store(
            store_path(config.data.stores, task.store or task.name, "train")
        ).header
        for task in config.data.tasks
    }


def finish_run(trainer: Trainer, result: RunResult) -> Outcome:
    """Write the weights file of a run and measure it; all processes call this.

    Args:
        trainer: The run, after it has ended; it holds the best weights.
        result: How it ended.

    Raises:
        StorageError: If the folder of the run cannot be written to.
    """
    config, group = trainer.config, trainer.group

    def write() -> tuple[Path, list[str]]:
        path = export_weights(config.out, is_best=trainer.has_best)
        if result.reason == "interrupted":
            return path, []
        stores = trainer.dataset.stores
        return path, finish_weights(path, config, stores, device=group.device)

    path, notes = group.on_main(write)
    if result.reason == "interrupted":
        return Outcome(weights=path, errors={}, notes=[])
    if notes:
        _take_heads(trainer.model, path)
    errors = {"val": trainer.evaluate("val")}
    if has_part(config, "test"):
        errors["test"] = trainer.evaluate("test") if notes else result.errors
        if notes:
            tasks = errors_to_json(errors["test"])
            group.on_main(lambda: record_errors(path, tasks))
    log = RunLog(config.out, is_writing=group.is_main)
    for split, found in errors.items():
        facts = {"split": split, "step": trainer.position.step}
        log.write(errors_name(split), {**facts, "tasks": errors_to_json(found)})
    log.close()
    if trainer.stopping is not None and config.stopping is not None:
        best, monitor = trainer.stopping.best, config.stopping.monitor
        notes += group.on_main(lambda: no_gain(config.out, best=best, monitor=monitor))
    return Outcome(weights=path, errors=errors, notes=notes)


def _take_heads(model: JMPModel, path: Path) -> None:
    """Let a model mean by its numbers what its finished file says."""
    for spec in specs_of(read_header(path))[1]:
        model.heads[spec.name] = spec


def _graphs(
    config: TrainConfig,
    source: JMPModel | None,
    data: UserData,
    settings: FinetuneSettings,
) -> str:
    is_asked = settings.cutoff is not None or settings.max_neighbors is not None
    return _change_line(config, source, data.stores["train"], is_asked=is_asked)


def _store(config: TrainConfig) -> Store:
    task = config.data.tasks[0]
    return Store(store_path(config.data.stores, task.store or task.name, "train"))


def _change_line(
    config: TrainConfig, source: JMPModel | None, store: Store, *, is_asked: bool
) -> str:
    """Return the graph rules, and what it changes that they are not the weights'."""
    task = config.data.tasks[0]
    new = task.graph
    if source is None:
        return graph_line(new, change=None, old=None)
    kept = dict(config.start.heads).get(task.name) if config.start else None
    if is_published(source) and kept is None:
        periodic = bool(new.is_periodic)
        heads = [s for s in source.heads.values() if s.graph.is_periodic == periodic]
        old = heads[0].graph if heads else new
    else:
        old = graph_rules(source, kept=kept, size=source.config, is_periodic=False)
    if old == new and not is_asked:
        return graph_line(new, change=None, old=None)
    systems = [store[i].to_atoms() for i in islice(range(len(store)), N_COMPARED)]
    device = next(source.parameters()).device
    change = feature_change(source, systems, old=old, new=new, device=device)
    return graph_line(new, change=change, old=old.cutoff)
