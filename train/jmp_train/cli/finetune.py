"""``jmp-train finetune``: a recipe or the user's data -> a run and a weights file."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT, EXIT_INTERRUPTED, EXIT_USAGE
from jmp_calc.cli.options import field_help
from jmp_calc.errors import ArgumentError
from jmp_train.cli import FOLDER
from jmp_train.finetune.settings import FinetuneSettings, RecipeSettings

if TYPE_CHECKING:
    from jmp_train.config import TrainConfig
    from jmp_train.finetune.run import Outcome
    from jmp_train.parallel import Group
    from jmp_train.prepare import PrepareProgress
    from jmp_train.progress import RunResult
    from jmp_train.trainer import Trainer

_NAMES = {
    "weights": "--from",
    "has_layer_rates": "--layer-rates/--no-layer-rates",
    "frozen": "--freeze",
    "max_steps": "--steps",
    "batch_systems": "--batch",
    "learning_rate": "--lr",
    "values": "--recipe-values",
    "ema_decay": "--ema",
}
_USERS = ("data", "val")
_SHARED_DEFAULTS = ("out", "recipe")


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of both kinds of settings; None: not given."""
    helps = field_help(RecipeSettings) | field_help(FinetuneSettings)
    hints = typing.get_type_hints(RecipeSettings)
    hints |= typing.get_type_hints(FinetuneSettings)
    for name in reversed(hints):
        if name in _SHARED_DEFAULTS:
            continue
        kind, is_many = _click_type(hints[name])
        word = _NAMES.get(name, "--" + name.replace("_", "-"))
        command = click.option(
            word,
            name,
            type=None if "/" in word else kind,
            multiple=is_many,
            default=None,
            help=helps[name],
        )(command)
    return command


def _click_type(hint: Any) -> tuple[Any, bool]:
    """Return the click type of a field, and whether the option may be repeated."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return _click_type(arguments[0])[0], True
    if type(None) in arguments:
        (hint,) = (part for part in arguments if part is not type(None))
        return _click_type(hint)
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice(list(arguments)), False
    return (click.Path(path_type=Path) if hint is Path else hint), False


@click.command(context_settings=CONTEXT)
@click.argument("recipe", required=False)
@click.option("--list", "is_list", is_flag=True, help="List all recipes, and stop.")
@click.option("--out", type=FOLDER, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@_options
def finetune(
    *, recipe: str | None, is_list: bool, out: Path | None, resume: bool, **given: Any
) -> int:
    """Fine-tune trained weights on your own data or on a published task.

    With --data, any labelled structures that ASE reads are enough: labels are found,
    references and a head are chosen and shown, the errors before the first update are
    printed, and the run ends with one weights file for JMPCalculator and jmp-md.

    With RECIPE (such as rmd17:aspirin, md22:DHA, qm9:U_0, matbench:phonons, qmof; all
    with --list) it repeats a published fine-tuning on stores from 'data prepare'.

    On several GPUs or cores: torchrun --nproc-per-node 4 -m jmp_train finetune ...

    Example: jmp-train finetune --data mine.extxyz --from jmp-nano --out runs/mine
    """
    if is_list:
        return _list_recipes()
    given = {key: value for key, value in given.items() if value not in (None, ())}
    out = _out_folder(out, given)
    if resume:
        return _run(lambda _group: _resumed(out, given), given, is_resumed=True)
    if ("data" in given) == (recipe is not None):
        raise ArgumentError(
            "give either --data with your own structures, or the name of a recipe "
            "('jmp-train finetune --list' shows all)"
        )
    if recipe is None:
        settings = _settings(FinetuneSettings, {"out": out, **given}, "your own data")
        return _run(lambda group: _begin_user(settings, group), given)
    chosen = _settings(
        RecipeSettings, {"recipe": recipe, "out": out, **given}, "a recipe"
    )
    return _run(lambda group: _begin_recipe(chosen, group), given)


def _out_folder(out: Path | None, given: dict[str, Any]) -> Path:
    if out is None:
        name = given["data"][0].name.split(".")[0] if "data" in given else "NAME"
        raise ArgumentError(
            f"--out is missing; give a folder for the run, such as runs/{name}"
        )
    return out


def _settings(kind: Any, values: dict[str, Any], what: str) -> Any:
    """Return the settings, or say which option does not belong to them."""
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            word = _NAMES.get(name, "--" + name.replace("_", "-"))
            raise ArgumentError(f"{word.split('/')[0]} means nothing for {what}")
    if kind is RecipeSettings and "stores" not in values:
        raise ArgumentError(
            f"recipe {values['recipe']!r} needs the folder of the stores (--stores)"
        )
    return kind(**values)


def _begin_user(settings: FinetuneSettings, group: Group) -> TrainConfig:
    from jmp_train.finetune.run import begin_user_run

    with tqdm(unit="part", desc="reading", disable=None, leave=False) as bar:

        def show(progress: PrepareProgress) -> None:
            bar.total, bar.n = progress.total, progress.done
            bar.set_postfix_str(f"{progress.n_systems} systems")

        return begin_user_run(settings, group, click.echo, progress=show)


def _begin_recipe(settings: RecipeSettings, group: Group) -> TrainConfig:
    from jmp_train.finetune.run import begin_recipe_run

    return begin_recipe_run(settings, group, click.echo)


def _resumed(out: Path, given: dict[str, Any]) -> TrainConfig:
    from jmp_train.finetune.run import resumed_config

    allowed = ("max_minutes", "device", "workers")
    for name in given:
        if name not in allowed:
            word = _NAMES.get(name, "--" + name.replace("_", "-")).split("/")[0]
            raise ArgumentError(
                f"{word} cannot be changed when a run is resumed; the settings are "
                f"those in {out}"
            )
    config = resumed_config(out)
    if "workers" in given:
        workers = given.pop("workers")
        config = replace(config, data=replace(config.data, workers=workers))
    return replace(config, **given)


def _run(
    begin: Callable[[Group], TrainConfig],
    given: dict[str, Any],
    *,
    is_resumed: bool = False,
) -> int:
    from jmp_calc.heap import keep_freed_memory
    from jmp_train.parallel import OtherProcessError, start_group

    keep_freed_memory()
    with start_group(given.get("device", "auto")) as group:
        try:
            return _train(begin(group), group, is_resumed=is_resumed)
        except OtherProcessError:
            return EXIT_USAGE  # the one that failed says why


def _train(config: TrainConfig, group: Group, *, is_resumed: bool) -> int:
    from jmp_train.cli.show import RunProgress, Stopper, print_start
    from jmp_train.finetune.run import finish_run
    from jmp_train.finetune.tables import group_table
    from jmp_train.trainer import Trainer

    trainer = Trainer.build(config, group=group, is_resumed=is_resumed)
    if group.is_main:
        click.echo(f"\n{group_table(trainer.maker.groups, config)}\n")
        print_start(trainer)
    with (
        Stopper(is_quiet=not group.is_main) as stopper,
        RunProgress(trainer, stopper) as progress,
    ):
        result = trainer.run(progress.watcher)
    outcome = finish_run(trainer, result)
    if group.is_main:
        _report(trainer, result, outcome)
    return EXIT_INTERRUPTED if result.reason == "interrupted" else 0


def _report(trainer: Trainer, result: RunResult, outcome: Outcome) -> None:
    from jmp_train.metrics import error_table

    why = f": {result.explanation}" if result.explanation else ""
    click.echo(
        f"{result.reason} after {result.step} of {trainer.plan.n_steps} steps{why}"
    )
    for split, errors in outcome.errors.items():
        click.echo(f"\nmean absolute errors, {split} part\n{error_table(errors)}")
    for note in outcome.notes:
        click.echo(f"note: {note}")
    click.echo(f"\nweights     {outcome.weights}")
    if result.reason == "interrupted":
        click.echo("go on with --resume", err=True)
        return
    is_energy = any(s.target is None for s in trainer.model.heads.values())
    verb = "run --model" if is_energy else "predict --model"
    click.echo(f"use it      jmp-md {verb} {outcome.weights} FILE")


def _list_recipes() -> int:
    from jmp_train.recipes.finetune import EXTRA, FINETUNE, finetune_recipe

    for name in FINETUNE:
        extra = "  (not among the 40 tasks of the paper)" if name in EXTRA else ""
        click.echo(f"{name:30s}{finetune_recipe(name).title}{extra}")
    return 0
