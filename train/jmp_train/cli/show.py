"""What a run shows on the terminal while it goes, and how it is asked to stop."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from jmp_train.progress import StepResult
    from jmp_train.trainer import Trainer

_TWICE = 1.0


class Stopper:
    """Remembers that someone asked the process to stop."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *, is_quiet: bool = False) -> None:
        """Wait for nothing yet.

        Args:
            is_quiet: Say nothing when asked to stop.
        """
        self.is_asked = False
        self._is_quiet = is_quiet
        self._asked_at = 0.0

    def __enter__(self) -> Stopper:
        self._before = {s: signal.signal(s, self._ask) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        # The terminal, torchrun and SLURM all pass on one signal, so that it comes
        # several times at once; only Ctrl-C, and only later, means haste.
        is_again = self.is_asked and time.monotonic() - self._asked_at > _TWICE
        if is_again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.is_asked and not self._is_quiet:
            print(
                "\nstopping after this step; Ctrl-C once more to stop at once",
                file=sys.stderr,
            )
        if not self.is_asked:
            self.is_asked, self._asked_at = True, time.monotonic()


class RunProgress:
    """Shows a run: a bar with losses, and a line for each validation."""

    def __init__(self, trainer: Trainer, stopper: Stopper) -> None:
        """Start the bar; only the first process has one.

        Args:
            trainer: The run.
            stopper: Knows whether to stop.
        """
        from jmp_train.progress import Watcher

        self._is_shown = trainer.group.is_main
        self._bar = tqdm(
            total=trainer.plan.n_steps,
            initial=trainer.position.step,
            unit="step",
            disable=None if self._is_shown else True,
            smoothing=0.05,
        )
        self._rate = 0.0
        self.watcher = Watcher(
            on_step=self._step,
            on_record=self._record,
            should_stop=lambda: stopper.is_asked,
        )

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def _step(self, _step: int, _total: int, result: StepResult) -> None:
        # A mean over about ten steps: the bar itself shows steps, and time left.
        rate = result.n_systems / max(result.seconds, 1e-9)
        self._rate += (rate - self._rate) * (0.1 if self._rate else 1.0)
        if result.is_skipped:
            text = "not finite, skipped"
        else:
            text = f"loss {result.loss:.3g} (E {result.term('energy'):.3g})"
        self._bar.set_postfix_str(f"{text}, {self._rate:.3g} systems/s", refresh=False)
        self._bar.update()

    def _record(self, record: dict[str, Any]) -> None:
        from jmp_train.metrics import error_line

        if record["kind"] != "evaluation" or not self._is_shown:
            return
        parts = (f"{name}: {error_line(e)}" for name, e in record["tasks"].items())
        best = "  (best)" if record.get("is_best") else ""
        text = f"step {record['step']:6d}  {'; '.join(parts)}{best}"
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()


def print_start(trainer: Trainer) -> None:
    """Print what a run is, its labels and what is doubtful about them, and its tasks.

    Args:
        trainer: The run.
    """
    from jmp_train.labels import check_labels, label_table
    from jmp_train.text_table import text_table

    config, group = trainer.config, trainer.group
    n_parameters = sum(p.numel() for p in trainer.model.parameters())
    learning = sum(g.n_numbers for g in trainer.maker.groups)
    frozen = f" ({n_parameters - learning} frozen)" if learning < n_parameters else ""
    lines = {
        "run": f"{config.name} in {config.out}",
        "network": f"{n_parameters} parameters{frozen}, {config.forces or 'no'} "
        f"forces, {config.precision}, {trainer.device}",
        "steps": f"{trainer.position.step} done of {trainer.plan.n_steps}, each of "
        f"{config.data.batches_per_step} batches",
    }
    if group.world_size > 1:
        lines["processes"] = f"{group.world_size}, {config.parallel}"
    for label, text in lines.items():
        click.echo(f"{label:12s}{text}")
    click.echo(f"\n{label_table(trainer.headers)}\n")
    mixture = trainer.plan.mixture
    rows = [("task", "in an epoch", "epochs", "level of theory")]
    for name, n, m in zip(
        trainer.dataset.stores, mixture.sizes, mixture.expanded, strict=True
    ):
        theory = trainer.model.heads[name].level_of_theory
        rows.append((name, str(m), f"{m / n:.3g}", theory))
    click.echo(text_table(rows, is_number=(False, True, True)) + "\n")
    sys.stdout.flush()
    for warning in check_labels(config, trainer.headers):
        click.echo(f"warning: {warning}", err=True)
