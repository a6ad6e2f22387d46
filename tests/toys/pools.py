"""Executors of campaigns in this process, some of whose workers die."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from jmp_calc.cli.campaigns.parts import Lost, Outcome, Part
from jmp_calc.cli.campaigns.worker import Worker

Do = Callable[[Part, Path], Outcome]


class InProcess:
    """Does parts one after the other, when it is asked for news.

    Args:
        do: What a worker does.
        n_workers: How many parts are taken at a time.
        kills: Name of a part -> how many workers die with it, after their work.
        n_before_interrupt: Parts that are done before Ctrl-C; None: it never comes.
        interrupt: What is raised then.
    """

    def __init__(
        self,
        do: Do,
        *,
        n_workers: int = 2,
        kills: dict[str, int] | None = None,
        n_before_interrupt: int | None = None,
        interrupt: BaseException | None = None,
    ) -> None:
        self.seen: list[str] = []
        """Names of the parts that were done, or tried."""
        self._do = do
        self._n_workers = n_workers
        self._kills = dict(kills or {})
        self._n_left = n_before_interrupt
        self._interrupt = interrupt or KeyboardInterrupt()
        self._queue: list[tuple[Part, Path]] = []

    @property
    def n_free(self) -> int:
        return self._n_workers - len(self._queue)

    def submit(self, part: Part, folder: Path) -> None:
        assert self.n_free > 0
        assert list(folder.iterdir()) == []
        self._queue.append((part, folder))

    def wait(self) -> list[tuple[Part, Outcome]]:
        if self._n_left is not None:
            if self._n_left == 0:
                raise self._interrupt
            self._n_left -= 1
        # the last comes first: parts end in any order
        part, folder = self._queue.pop()
        self.seen.append(part.name)
        outcome = self._do(part, folder)
        if self._kills.get(part.name, 0):
            self._kills[part.name] -= 1
            outcome = Lost(reason="it was killed")
        return [(part, outcome)]


class Pools:
    """Takes the place of ``ray_pool``: remembers what was done."""

    def __init__(self) -> None:
        self.kills: dict[str, int] = {}
        self.n_before_interrupt: int | None = None
        self.interrupt: BaseException | None = None
        self.seen: list[str] = []

    @contextlib.contextmanager
    def __call__(self, plan, options, *, n_tasks) -> Iterator[InProcess]:
        assert n_tasks > 0
        worker = Worker(plan)
        worker.prepare()
        pool = InProcess(
            worker.do,
            kills=self.kills,
            n_before_interrupt=self.n_before_interrupt,
            interrupt=self.interrupt,
        )
        self.seen = pool.seen
        yield pool
