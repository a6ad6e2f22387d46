"""``jmp-train pretrain``: a recipe -> a run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jmp_calc.cli import CONTEXT, EXIT_INTERRUPTED, EXIT_USAGE
from jmp_calc.cli.options import field_help
from jmp_train.cli import FOLDER
from jmp_train.config import TrainConfig

if TYPE_CHECKING:
    from jmp_train.parallel import Group

_HELP = field_help(TrainConfig)
_RESTARTS = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")


@click.command(context_settings=CONTEXT)
@click.argument("recipe")
@click.option("--stores", type=FOLDER, help="Folder of the stores from data prepare.")
@click.option("--out", type=FOLDER, help=_HELP["out"])
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--auto-resume",
    is_flag=True,
    help="Go on with the run in --out if there is one, else start it; on by itself "
    "after a restart by torchrun or SLURM.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, such as optim.learning_rate=1e-3 or "
    "data.tasks.oc20.force_weight=10; may be repeated.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(1),
    help="Optimizer steps of the run and of its schedule; by default as in the recipe.",
)
@click.option(
    "--max-minutes",
    type=float,
    help="Stop with a checkpoint after so many minutes; by default when all steps are "
    "done.",
)
@click.option("--seed", type=int, help=_HELP["seed"])
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help=_HELP["device"]
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float64", "bf16", "fp16"]),
    help=_HELP["precision"],
)
@click.option("--parallel", type=click.Choice(["ddp", "fsdp"]), help=_HELP["parallel"])
def pretrain(
    *,
    recipe: str,
    stores: Path | None,
    out: Path | None,
    resume: bool,
    auto_resume: bool,
    assignments: tuple[str, ...],
    **overrides: Any,
) -> int:
    """Pre-train a model on several tasks.

    RECIPE is the name of a recipe (nano, smoke, jmp-small, jmp-large) or a YAML file
    with the fields of TrainConfig. Ctrl-C or SIGTERM saves a checkpoint; --resume goes
    on as if nothing had happened. The run ends with errors on held-out structures and a
    weights file for JMPCalculator.

    On several GPUs or cores: torchrun --nproc-per-node 4 -m jmp_train pretrain ...

    Example: jmp-train pretrain nano --stores stores --out runs/nano
    """
    from jmp_train.config_file import with_settings
    from jmp_train.recipes import recipe_config

    changes = {name: value for name, value in overrides.items() if value is not None}
    config = replace(recipe_config(recipe, stores=stores, out=out), **changes)
    config = with_settings(config, assignments)
    return train(config, is_resumed=resume, is_auto=auto_resume or _is_restarted())


def train(config: TrainConfig, *, is_resumed: bool, is_auto: bool) -> int:
    """Run a training in this process, or in all those of torchrun, and show it.

    Args:
        config: Settings.
        is_resumed: Go on with the run in the folder.
        is_auto: Go on with it if there is one.

    Returns:
        The exit code.
    """
    from jmp_calc.heap import keep_freed_memory
    from jmp_train.parallel import OtherProcessError, start_group

    keep_freed_memory()
    with start_group(config.device) as group:
        try:
            return _train(config, group, is_resumed=is_resumed, is_auto=is_auto)
        except OtherProcessError:
            return EXIT_USAGE  # the one that failed says why


def _train(
    config: TrainConfig, group: Group, *, is_resumed: bool, is_auto: bool
) -> int:
    from jmp_train.checkpoint_folders import CHECKPOINTS, latest
    from jmp_train.cli.show import RunProgress, Stopper, print_start
    from jmp_train.export import export_weights
    from jmp_train.metrics import error_table
    from jmp_train.trainer import Trainer

    if is_auto and not is_resumed:
        folder = config.out / CHECKPOINTS
        is_resumed = group.on_main(lambda: latest(folder) is not None)
    trainer = Trainer.build(config, group=group, is_resumed=is_resumed)
    if group.is_main:
        print_start(trainer)
    with (
        Stopper(is_quiet=not group.is_main) as stopper,
        RunProgress(trainer, stopper) as progress,
    ):
        result = trainer.run(progress.watcher)
    code = EXIT_INTERRUPTED if result.reason == "interrupted" else 0
    if not group.is_main:
        return code
    path = export_weights(config.out, is_best=trainer.has_best)
    why = f": {result.explanation}" if result.explanation else ""
    click.echo(
        f"{result.reason} after {result.step} of {trainer.plan.n_steps} steps{why}"
    )
    if result.errors:
        click.echo(f"\nmean absolute errors, test part\n{error_table(result.errors)}\n")
    click.echo(f"weights     {path}")
    if code:
        click.echo("go on with --resume", err=True)
    return code


def _is_restarted() -> bool:
    """Return whether torchrun or SLURM has started the job again."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in _RESTARTS)
