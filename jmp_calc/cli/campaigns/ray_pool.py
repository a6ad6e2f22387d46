"""Workers in processes that Ray starts, here or on other machines."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jmp_calc.cli.campaigns.loop import ATTEMPTS
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.campaigns.parts import Lost, Outcome, Part
from jmp_calc.cli.campaigns.worker import Worker, WorkerPlan
from jmp_calc.errors import ArgumentError, DataError, JMPError

QUIET = {
    # neither asks the user nor sends anything
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # a page for each worker or machine that dies, among the results; we count them
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
"""Environment of Ray while it is imported and starts."""

STORE_BYTES = 128 * 1024**2
"""Shared memory of a local cluster; structures and outcomes are small."""

PATIENCE_S = 2.0
"""Longest wait for news, so that Ctrl-C is heard and progress moves, s."""


TOKEN = "~/.ray/auth_token"
"""Where Ray keeps the token of its clusters."""

CONNECT_S = 10.0
"""Longest wait for a cluster to answer at all, s."""


class RayPool:
    """Actors that do parts; one that dies is replaced.

    Args:
        ray: The module.
        plan: What each worker does.
        n_workers: How many there are.
        n_cpus: Cores of each.
        n_gpus: GPUs of each.
    """

    def __init__(
        self, ray: Any, plan: WorkerPlan, n_workers: int, n_cpus: int, n_gpus: int
    ) -> None:
        self._ray = ray
        self._plan = ray.put(plan)
        # a worker that dies is replaced by us, for its part must be done again
        self._kind = ray.remote(num_cpus=n_cpus, num_gpus=n_gpus, max_restarts=0)(
            Worker
        )
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Part | None]] = {}
        self._n_false_starts = 0
        for _ in range(n_workers):
            self._hire()

    def _hire(self) -> None:
        worker = self._kind.remote(self._plan)
        self._busy[worker.prepare.remote()] = (worker, None)

    @property
    def n_free(self) -> int:
        """Workers that have loaded the model and wait for a part."""
        return len(self._idle)

    def submit(self, part: Part, folder: Path) -> None:
        """Let a free worker do a part; see :class:`Executor`."""
        worker = self._idle.pop()
        self._busy[worker.do.remote(part, folder)] = (worker, part)

    def wait(self) -> list[tuple[Part, Outcome]]:
        """Wait for news; see :class:`Executor`."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=PATIENCE_S)
        found = []
        for reference in ready:
            worker, part = self._busy.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                # only of prepare: do() turns errors into outcomes
                raise _cause(error) from error
            except self._ray.exceptions.RayError as error:
                outcome = Lost(reason=_last_words(error))
                self._count(part, outcome)
                self._hire()
            else:
                self._n_false_starts = 0
                self._idle.append(worker)
            if part is not None:
                found.append((part, outcome))
        return found

    def _count(self, part: Part | None, lost: Lost) -> None:
        if part is not None:
            return
        self._n_false_starts += 1
        if self._n_false_starts >= ATTEMPTS:
            raise DataError(
                f"{ATTEMPTS} workers died before they had loaded the model, the last: "
                f"{lost.reason}; is there enough memory? try fewer --workers"
            )

    def close(self) -> None:
        """End all workers."""
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._ray.kill(worker)


@contextlib.contextmanager
def ray_pool(
    plan: WorkerPlan, options: CampaignOptions, *, n_tasks: int
) -> Iterator[RayPool]:
    """Give workers, and end them afterwards.

    Args:
        plan: What each worker does.
        options: Where, and how many.
        n_tasks: More workers than that are not started.

    Raises:
        ArgumentError: If Ray is not installed, cannot be reached, or has no room.
    """
    ray = import_ray()
    n_gpus = int(plan.model.device.startswith("cuda"))
    with _connected(ray, options):
        room = _room(ray, options.cpus_per_worker, n_gpus)
        wanted = min(options.workers or max(room, 1), n_tasks)
        if room < 1:
            raise ArgumentError(
                f"no machine of the Ray cluster has {options.cpus_per_worker} cores"
                f"{' and a GPU' if n_gpus else ''} for a worker; lower "
                "--cpus-per-worker, or use --device cpu"
            )
        pool = RayPool(ray, plan, wanted, options.cpus_per_worker, n_gpus)
        try:
            yield pool
        finally:
            pool.close()


def import_ray() -> Any:
    """Return the module.

    Raises:
        ArgumentError: If it is not installed.
    """
    try:
        with _unchanged_process(), _restored({"RAY_AUTH_MODE"}):
            _expect_token()
            import ray
    except ModuleNotFoundError as error:
        raise ArgumentError(
            "campaigns (--workers, --ray) need Ray, which is not installed; run: "
            "pip install 'jmp-calc[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _connected(ray: Any, options: CampaignOptions) -> Iterator[None]:
    """Connect, and disconnect; a connection that exists is used and left alone."""
    if ray.is_initialized():
        yield
        return
    # Ray asks for a token by default, and notes that in the environment
    with _restored({"RAY_AUTH_MODE"}):
        with _unchanged_process():
            _start(ray, options)
        try:
            yield
        except DataError as error:
            if options.ray and os.environ.get("RAY_AUTH_MODE") == "token":
                error.add_note("a cluster without a token needs RAY_AUTH_MODE=disabled")
            raise
        finally:
            with _unchanged_process():
                ray.shutdown()


def _start(ray: Any, options: CampaignOptions) -> None:
    address = options.ray or "local"
    local = {}
    if address == "local":
        n_workers = options.workers or len(os.sched_getaffinity(0))
        local = {
            "num_cpus": n_workers * options.cpus_per_worker,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
        }
    else:
        _expect_token()
        if address != "auto":
            _check_reachable(address)
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, **local
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            f"cannot reach the Ray cluster {address!r} ({error}); start one with "
            "'ray start --head', or leave --ray out; a cluster that asks for a token "
            f"needs that of its first machine here too, in {TOKEN} and with "
            "RAY_AUTH_MODE=token"
        ) from error


def _expect_token() -> None:
    """Show a token if there is one, as 'ray start' then asks for it.

    Ray itself shows it only where RAY_AUTH_MODE says so, and that when it is imported.
    """
    if Path(TOKEN).expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_reachable(address: str) -> None:
    """See to it that somebody listens, for Ray itself waits for two minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise ArgumentError(
            f"nobody answers at {address} ({error}); give the HOST:PORT of a running "
            "Ray cluster, as 'ray start --head' prints it, or auto"
        ) from error


@contextlib.contextmanager
def _unchanged_process() -> Iterator[None]:
    """Keep environment and signals of this process, both of which Ray changes."""
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    with _restored(QUIET):
        os.environ.update(QUIET)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _restored(names: Iterable[str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _room(ray: Any, n_cpus: int, n_gpus: int) -> int:
    """Return how many workers the cluster has room for."""
    found = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            room = int(has.get("CPU", 0) // n_cpus)
            found += min(room, int(has.get("GPU", 0))) if n_gpus else room
    return found


def _cause(error: Any) -> Exception:
    cause: Exception = error.cause
    if isinstance(cause, JMPError):
        return cause
    return DataError(f"a worker cannot start: {type(cause).__name__}: {cause}")


def _last_words(error: Exception) -> str:
    """Return which process died, from Ray's paragraph about it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    facts = dict(line.split(": ", 1) for line in lines if ": " in line)
    if "pid" in facts and "ip" in facts:
        return f"process {facts['pid']} on {facts['ip']}"
    return (lines or [type(error).__name__])[0][:200]
