"""Arms of an experiment, several at a time in processes of their own.

A small network gains little from a second core; two runs at a time gain all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jmp_train.experiments.arms import (
    Announce,
    Arm,
    ArmResult,
    finished,
    run_arm,
    summary_line,
)
from jmp_train.workers import Pulse, StoppedError, Workers, available_cores

if TYPE_CHECKING:
    from jmp_train.progress import RunResult
    from jmp_train.trainer import Trainer

OnSteps = Callable[[int, int], None]
"""Is told the steps done and the steps of all runs; what it raises stops the runs."""


def run_side_by_side(
    arms: Sequence[Arm],
    announce: Announce,
    *,
    processes: int,
    on_steps: OnSteps = lambda _done, _total: None,
) -> list[ArmResult]:
    """Train every arm that is not done yet, and return all results in order.

    As :func:`~jmp_train.experiments.arms.run_arms`, but several runs at a time. Each
    has its share of the cores, so the times of runs can be compared with each other
    only.

    Args:
        arms: In an order in which each comes after the one that it starts from.
        announce: Hears of each run that is done.
        processes: Runs at a time.
        on_steps: Hears of progress now and then. If it raises, all runs stop with a
            checkpoint, and the same call goes on from there.

    Raises:
        DataError: If the folder of an arm holds another run, or a process died.
        ArgumentError: If there is no process.
    """
    results: dict[int, ArmResult] = {}
    places = {id(arm): place for place, arm in enumerate(arms)}
    total = sum(arm.config.max_steps or 0 for arm in arms)
    threads = max(1, available_cores() // processes)

    n_known = 0  # steps of runs that were done before

    def tell(place: int, result: ArmResult) -> None:
        results[place] = result
        where = f"[{len(results)}/{len(arms)}] {arms[place].label}"
        announce(f"{where}: {summary_line(result)}")

    def count(steps: int) -> None:
        on_steps(min(n_known + steps, total), total)

    with Workers(processes, threads, on_count=count, beats_per_count=1) as workers:
        while len(results) < len(arms):
            todo = []
            for place, arm in enumerate(arms):
                is_due = arm.after is None or places[id(arm.after)] in results
                if place in results or not is_due:
                    continue
                known = finished(arm)
                if known is None:
                    todo.append((place, arm))
                else:
                    n_known += known.n_steps
                    tell(place, known)
            for place, result in workers.run(_train, todo):
                tell(place, result)
    return [results[place] for place in range(len(arms))]


def _train(threads: int, job: tuple[int, Arm], pulse: Pulse) -> tuple[int, ArmResult]:
    """Train one arm in a process of its own."""
    import torch

    from jmp_calc.heap import keep_freed_memory
    from jmp_train.progress import Watcher

    torch.set_num_threads(threads)
    keep_freed_memory()
    is_asked = False

    def on_step(*_: object) -> None:
        nonlocal is_asked
        try:
            pulse()
        except StoppedError:
            is_asked = True

    def train(trainer: Trainer) -> RunResult:
        return trainer.run(Watcher(on_step=on_step, should_stop=lambda: is_asked))

    place, arm = job
    return place, run_arm(arm, train)
