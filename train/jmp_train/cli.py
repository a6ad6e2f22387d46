"""The ``jmp-train`` command: prepare data, pre-train, evaluate, export."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jmp_calc.cli import (
    CONTEXT,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    run_group,
    version_option,
)
from jmp_calc.cli.options import field_help
from jmp_train.config import TrainConfig

if TYPE_CHECKING:
    from jmp_train.progress import StepResult
    from jmp_train.trainer import Trainer

# Verbs import torch and the trainer when they are called, so that help is instant.

TRAINING_PACKAGES = ("h5py", "lmdb", "scipy")
"""Packages of the extra ``train``."""

_HELP = field_help(TrainConfig)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(name="jmp-train", context_settings=CONTEXT)
@version_option
def jmp_train() -> None:
    """Train JMP models. See 'jmp-train VERB --help'."""


@jmp_train.group()
def data() -> None:
    """Turn published data files into stores."""


@data.command()
@click.argument("root", type=_FOLDER)
@click.option(
    "--out",
    type=_FOLDER,
    required=True,
    help="Folder for the stores; stores of the same name are replaced.",
)
@click.option("--task", "tasks", multiple=True, help="Only this task; may be repeated.")
def prepare(*, root: Path, out: Path, tasks: tuple[str, ...]) -> None:
    """Write the stores of all tasks from the data sets in ROOT.

    ROOT has one folder per data set, with the files as published. Molecules that are
    kept for tests (those of rMD17) are left out; the rest is split into train, val and
    test by a hash of each structure, so that the parts never change.

    Example: jmp-train data prepare ~/data --out stores
    """
    from jmp_train.prepare import label_table
    from jmp_train.prepare import prepare as write_stores

    written = write_stores(root, out, tasks=tasks or None, progress=click.echo)
    click.echo(f"\n{label_table(written)}\n\nstores are in {out}")


@jmp_train.command()
@click.argument("recipe")
@click.option("--stores", type=_FOLDER, help="Folder of the stores from data prepare.")
@click.option("--out", type=_FOLDER, help=_HELP["out"])
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
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
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Batches of a step that are computed at the same time, on one core each; the "
    "result does not depend on it.",
)
def pretrain(
    *,
    recipe: str,
    stores: Path | None,
    out: Path | None,
    resume: bool,
    threads: int,
    **overrides: Any,
) -> int:
    """Pre-train a model on several tasks.

    RECIPE is the name of a recipe (nano, smoke) or a YAML file with the fields of
    TrainConfig. Ctrl-C or SIGTERM saves a checkpoint; --resume goes on as if nothing
    had happened. The run ends with errors on held-out structures and a weights file
    for JMPCalculator.

    Example: jmp-train pretrain nano --stores stores --out runs/nano --threads 2
    """
    import torch

    from jmp_train.export import export_weights
    from jmp_train.metrics import error_table
    from jmp_train.recipes import recipe_config
    from jmp_train.trainer import Trainer

    changes = {name: value for name, value in overrides.items() if value is not None}
    config = replace(recipe_config(recipe, stores=stores, out=out), **changes)
    if threads > 1:
        torch.set_num_threads(1)
    trainer = Trainer.build(config, is_resumed=resume, threads=threads)
    _print_start(trainer)
    with _Stopper() as stopper, _Progress(trainer, stopper) as watcher:
        result = trainer.run(watcher.watcher)
    path = export_weights(config.out)
    click.echo(f"{result.reason} after {result.step} of {trainer.plan.n_steps} steps")
    if result.errors:
        click.echo(f"\nmean absolute errors, test part\n{error_table(result.errors)}\n")
    click.echo(f"weights     {path}")
    if result.reason == "interrupted":
        click.echo("go on with --resume", err=True)
        return EXIT_INTERRUPTED
    return 0


@jmp_train.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Part to score.",
)
@click.option(
    "--stores", type=_FOLDER, help="Folder of the stores, if they have moved."
)
def evaluate(*, run: Path, split: str, stores: Path | None) -> None:
    """Print the errors of the averaged weights of a run.

    Example: jmp-train evaluate runs/nano --split val
    """
    from jmp_train.checkpoint import load_checkpoint
    from jmp_train.metrics import error_table
    from jmp_train.runlog import CHECKPOINT, RunLog, errors_name, errors_to_json
    from jmp_train.trainer import Trainer

    config = replace(load_checkpoint(run / CHECKPOINT).config, out=run)
    if stores is not None:
        config = replace(config, data=replace(config.data, stores=stores))
    trainer = Trainer.build(config, is_resumed=True)
    errors = trainer.evaluate(split)
    step = trainer.position.step
    facts = {"split": split, "step": step, "tasks": errors_to_json(errors)}
    RunLog(run).write(errors_name(split), facts)
    click.echo(
        f"mean absolute errors, {split} part, step {step}\n{error_table(errors)}"
    )


@jmp_train.command()
@click.argument("run", type=_FOLDER)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file; by default NAME.safetensors in RUN.",
)
def export(*, run: Path, out: Path | None) -> None:
    """Write the averaged weights of a run as a weights file.

    Example: jmp-train export runs/nano --out mine.safetensors
    """
    from jmp_train.export import export_weights

    click.echo(export_weights(run, out))


class _Stopper:
    """Remembers that someone asked the process to stop."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.is_asked = False

    def __enter__(self) -> _Stopper:
        self._before = {s: signal.signal(s, self._ask) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        print("\nstopping after this step; once more to stop at once", file=sys.stderr)


class _Progress:
    """Shows a run: a bar with losses, and a line for each validation."""

    def __init__(self, trainer: Trainer, stopper: _Stopper) -> None:
        from jmp_train.progress import Watcher

        self._bar = tqdm(
            total=trainer.plan.n_steps,
            initial=trainer.position.step,
            unit="step",
            disable=None,
            smoothing=0.05,
        )
        self.watcher = Watcher(
            on_step=self._step,
            on_record=self._record,
            should_stop=lambda: stopper.is_asked,
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _step(self, _step: int, _total: int, result: StepResult) -> None:
        losses = f"loss {result.loss:.3g} (E {result.energy_loss:.3g})"
        self._bar.set_postfix_str(losses, refresh=False)
        self._bar.update()

    def _record(self, record: dict[str, Any]) -> None:
        if record["kind"] != "evaluation":
            return
        tasks = "  ".join(
            f"{name} {e['energy_mae_meV_per_atom']:.1f} / "
            f"{1000 * e['force_mae_eV_per_A']:.0f}"
            for name, e in record["tasks"].items()
        )
        text = f"step {record['step']:6d}  meV/atom / meV/Å:  {tasks}"
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()


def _print_start(trainer: Trainer) -> None:
    config = trainer.config
    n_parameters = sum(p.numel() for p in trainer.model.parameters())
    lines = {
        "run": f"{config.name} in {config.out}",
        "network": f"{n_parameters} parameters, {config.forces} forces, "
        f"{config.precision}, {trainer.device}",
        "steps": f"{trainer.position.step} done of {trainer.plan.n_steps}",
    }
    for label, text in lines.items():
        click.echo(f"{label:12s}{text}")
    click.echo("\ntask        systems   in an epoch  sigma_F eV/Å  level of theory")
    mixture = trainer.plan.mixture
    for name, n, m in zip(
        trainer.dataset.stores, mixture.sizes, mixture.expanded, strict=True
    ):
        theory = trainer.model.heads[name].level_of_theory
        sigma = trainer.statistics[name].force_rms
        click.echo(f"{name:12s}{n:<10d}{m:<13d}{sigma:<14.4f}{theory}")
    click.echo("")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``jmp-train`` and return its exit code.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    try:
        return run_group(jmp_train, "jmp-train", arguments)
    except ModuleNotFoundError as error:
        if error.name not in TRAINING_PACKAGES:
            raise
        print(
            f"jmp-train: error: training needs {error.name}, which is not installed; "
            "run: pip install 'jmp-calc[train]'",
            file=sys.stderr,
        )
        return EXIT_USAGE
