"""``jmp-train experiment``: one question about pre-training, one command."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from jmp_calc.cli import CONTEXT, EXIT_INTERRUPTED
from jmp_train.cli import FOLDER

if TYPE_CHECKING:
    from jmp_train.cli.show import Stopper
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
    from jmp_train.cli.show import Stopper
    from jmp_train.experiments import EXPERIMENTS, experiment_named, run_experiment
    from jmp_train.experiments.arms import StoppedError
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
    )
    with Stopper() as stopper:

        def announce(line: str) -> None:
            click.echo(line)
            # a run may be past its last step when it hears this, and so end as usual
            if stopper.is_asked:
                raise StoppedError("stopped; the same command goes on from here")

        try:
            report = run_experiment(
                chosen, settings, announce, train=partial(_train, stopper=stopper)
            )
        except StoppedError as stop:
            click.echo(str(stop), err=True)
            return EXIT_INTERRUPTED
    click.echo(f"\n{report.read_text(encoding='utf-8')}\nreport      {report}")
    return 0


def _train(trainer: Trainer, *, stopper: Stopper) -> RunResult:
    """Run a training with a bar, until it ends or somebody asks to stop."""
    from jmp_train.cli.show import RunProgress
    from jmp_train.progress import Watcher

    with RunProgress(trainer, stopper) as progress:
        shown = progress.watcher
        # the errors of each validation are in curves.csv
        watcher = Watcher(on_step=shown.on_step, should_stop=shown.should_stop)
        return trainer.run(watcher)
