"""``jmp-train experiment``: one question about pre-training, one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT, EXIT_INTERRUPTED
from jmp_train.cli import FOLDER

if TYPE_CHECKING:
    from jmp_train.cli.show import Stopper
    from jmp_train.experiments.arms import Announce, Arm, ArmResult
    from jmp_train.progress import RunResult
    from jmp_train.trainer import Trainer


@click.command(context_settings=CONTEXT)
@click.argument("name", required=False)
@click.option("--stores", type=FOLDER, help="Folder of the stores from data prepare.")
@click.option("--out", type=FOLDER, help="Folder for runs and report.")
@click.option(
    "--downstream",
    multiple=True,
    help="Store to fine-tune on and test with; may be repeated.",
)
@click.option(
    "--pretraining", multiple=True, help="Store to pre-train on; may be repeated."
)
@click.option(
    "--weights",
    default="jmp-nano",
    show_default=True,
    help="Trained weights, by name or file, for arms that start from given ones.",
)
@click.option("--target", help="Label to fine-tune on; by default energy and forces.")
@click.option(
    "--budget",
    default="small",
    show_default=True,
    type=click.Choice(["smoke", "small", "full"]),
    help="Cost of each run: minutes on two cores in all, hours, or days on a GPU.",
)
@click.option(
    "--seeds", type=click.IntRange(1), help="Repeats; by default as in the budget."
)
@click.option(
    "--train-systems",
    multiple=True,
    type=click.IntRange(0),
    help="Number of systems to fine-tune on, 0 for all; may be repeated. By default as "
    "in the budget.",
)
@click.option(
    "--pretrain-steps",
    type=click.IntRange(1),
    help="Steps of a pre-training; by default as in the budget.",
)
@click.option(
    "--finetune-steps",
    type=click.IntRange(1),
    help="Steps of a fine-tuning; by default as in the budget.",
)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    help="Arm to run beside scratch, by name (E1 and E7); may be repeated. By default "
    "all.",
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=float,
    help="Learning rate to try (E1 and E7); may be repeated. Each arm gets its best "
    "one by validation. By default all have that of the budget.",
)
@click.option(
    "--processes",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Runs at a time, which share the cores; two are faster than one on two cores.",
)
@click.option(
    "--equal",
    default="steps",
    show_default=True,
    type=click.Choice(["steps", "epochs"]),
    help="What the arms of E3 have in common.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where to train.",
)
def experiment(
    *,
    name: str | None,
    stores: Path | None,
    out: Path | None,
    downstream: tuple[str, ...],
    pretraining: tuple[str, ...],
    weights: str,
    target: str | None,
    budget: str,
    seeds: int | None,
    train_systems: tuple[int, ...],
    pretrain_steps: int | None,
    finetune_steps: int | None,
    arms: tuple[str, ...],
    rates: tuple[float, ...],
    processes: int,
    equal: Literal["steps", "epochs"],
    device: Literal["auto", "cpu", "cuda"],
) -> int:
    """Answer a question about pre-training with runs of equal cost.

    NAME is the name or number of an experiment; without it, all are listed. Every arm
    gets the same steps and seeds; runs that are done are not repeated when the command
    is given again, and one that was interrupted goes on. The answer is OUT/report.md,
    with results.json, curves.csv and a picture beside it.

    Example: jmp-train experiment E3 --stores stores --pretraining qm7x --pretraining
    wb97x --downstream rmd17-ethanol --budget smoke --out temperature
    """
    from jmp_calc.errors import ArgumentError
    from jmp_calc.heap import keep_freed_memory
    from jmp_train.cli.show import Stopper
    from jmp_train.experiments import EXPERIMENTS, experiment_named, run_experiment
    from jmp_train.experiments.arms import StoppedError, run_arms
    from jmp_train.experiments.budgets import budget_named
    from jmp_train.experiments.settings import ExperimentSettings

    if name is None:
        width = max(map(len, EXPERIMENTS))
        for known in EXPERIMENTS.values():
            click.echo(f"{known.id:4s} {known.name:{width}s}  {known.question}")
        return 0
    chosen = experiment_named(name)
    if stores is None or out is None:
        raise ArgumentError(
            f"experiment {chosen.name!r} needs the folder of the stores (--stores) and "
            "a folder for its runs (--out)"
        )
    cost = budget_named(budget)
    cost = replace(
        cost,
        n_train=train_systems or cost.n_train,
        pretrain_steps=pretrain_steps or cost.pretrain_steps,
        finetune_steps=finetune_steps or cost.finetune_steps,
    )
    settings = ExperimentSettings(
        out=out,
        stores=stores,
        pretraining=pretraining,
        downstream=downstream,
        weights=weights,
        budget=cost,
        seeds=seeds or cost.seeds,
        target=target,
        device=device,
        equal=equal,
        arms=arms,
        rates=tuple(sorted(set(rates))),
    )
    keep_freed_memory()
    with Stopper() as stopper:

        def announce(line: str) -> None:
            tqdm.write(line)
            # a run may be past its last step when it hears this, and so end as usual
            _heed(stopper)

        run = (
            partial(run_arms, announce=announce, train=partial(_train, stopper=stopper))
            if processes == 1
            else partial(
                _side_by_side, announce=announce, stopper=stopper, processes=processes
            )
        )
        try:
            report = run_experiment(chosen, settings, announce, run=run)
        except StoppedError as stop:
            click.echo(str(stop), err=True)
            return EXIT_INTERRUPTED
    click.echo(f"\n{report.read_text(encoding='utf-8')}\nreport      {report}")
    return 0


def _side_by_side(
    arms: Sequence[Arm], *, announce: Announce, stopper: Stopper, processes: int
) -> list[ArmResult]:
    """Run several trainings at a time with one bar for all."""
    from jmp_train.experiments.side_by_side import run_side_by_side

    with tqdm(unit="step", disable=None, smoothing=0.05) as bar:

        def show(done: int, total: int) -> None:
            _heed(stopper)
            bar.total = total
            bar.update(done - bar.n)

        return run_side_by_side(arms, announce, processes=processes, on_steps=show)


def _heed(stopper: Stopper) -> None:
    """Raise if somebody asked to stop."""
    from jmp_train.experiments.arms import StoppedError

    if stopper.is_asked:
        raise StoppedError("stopped; the same command goes on from here")


def _train(trainer: Trainer, *, stopper: Stopper) -> RunResult:
    """Run a training with a bar, until it ends or somebody asks to stop."""
    from jmp_train.cli.show import RunProgress
    from jmp_train.progress import Watcher

    with RunProgress(trainer, stopper) as progress:
        shown = progress.watcher
        # the errors of each validation are in curves.csv
        watcher = Watcher(on_step=shown.on_step, should_stop=shown.should_stop)
        return trainer.run(watcher)
