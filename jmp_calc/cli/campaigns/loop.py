"""Hand parts to workers until all are done; knows neither Ray nor verbs."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from jmp_calc.cli import EXIT_USAGE
from jmp_calc.cli.campaigns.ledger import Ledger
from jmp_calc.cli.campaigns.parts import Done, Failed, Lost, Outcome, Part

ATTEMPTS = 3
"""Workers that may be lost with a part before it is given up."""


@runtime_checkable
class Executor(Protocol):
    """Whatever does parts: processes here or elsewhere."""

    @property
    def n_free(self) -> int:
        """Workers that wait for a part."""

    def submit(self, part: Part, folder: Path) -> None:
        """Let a free worker do a part.

        Args:
            part: What to do.
            folder: Where its files go; empty, nobody else's.
        """

    def wait(self) -> Sequence[tuple[Part, Outcome]]:
        """Wait for news, some seconds at most, and return what has ended.

        Raises:
            JMPError: If no worker can be had.
        """


@dataclass
class Tally:
    """How a campaign went."""

    failed: dict[str, Failed] = field(default_factory=dict)
    """Structures without results, by name."""
    n_lost: int = 0
    """Workers that were lost."""
    interruption: str | None = None
    """What stopped the work; None if nothing did."""


def work_off(
    parts: Sequence[Part],
    executor: Executor,
    ledger: Ledger,
    tally: Tally,
    *,
    progress: Callable[[Part], None],
) -> None:
    """Do parts; those whose worker is lost are done again by another.

    Structures of a part that failed or took two workers with it are tried one by one,
    so that a bad one does not take the others with it. What is done, the ledger knows;
    Ctrl-C ends the work early.

    Args:
        parts: What is to be done.
        executor: Does it.
        ledger: Keeps what is done.
        tally: Takes note of what goes wrong.
        progress: Called after each part that has ended or failed.

    Raises:
        JMPError: If nothing can be written, or no worker can be had.
    """
    with _interruptible(tally):
        queue = deque(parts)
        attempts: Counter[str] = Counter()
        folders: dict[str, Path] = {}
        while queue or folders:
            while queue and executor.n_free:
                part = queue.popleft()
                attempts[part.name] += 1
                folders[part.name] = ledger.new_work_folder(part)
                executor.submit(part, folders[part.name])
            for part, outcome in executor.wait():
                folder = folders.pop(part.name)
                attempt = attempts[part.name]
                if isinstance(outcome, Done):
                    ledger.publish(part, outcome, folder, attempt)
                    progress(part)
                    continue
                tally.n_lost += isinstance(outcome, Lost)
                again = _tried_again(part, outcome, attempt)
                queue.extend(again)
                if not again:
                    (structure,) = part.structures
                    tally.failed[structure.name] = _given_up(outcome, attempt)
                    progress(part)


def _tried_again(part: Part, outcome: Failed | Lost, attempt: int) -> list[Part]:
    """Return what is to be done after a part gave no results."""
    is_lost = isinstance(outcome, Lost)
    if len(part.structures) > 1:
        return [part] if is_lost and attempt == 1 else part.singles()
    return [part] if is_lost and attempt < ATTEMPTS else []


@contextlib.contextmanager
def _interruptible(tally: Tally) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        tally.interruption = str(error) or "Ctrl-C"


def _given_up(outcome: Failed | Lost, attempts: int) -> Failed:
    if isinstance(outcome, Failed):
        return outcome
    return Failed(
        reason=f"{attempts} workers died while computing it, the last: "
        f"{outcome.reason}; did it crash, or was it killed for want of memory? fewer "
        "--workers need less",
        exit_code=EXIT_USAGE,
    )
