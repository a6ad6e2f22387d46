"""Checkpoints: folders written in the background, whole or not at all.

``RUN/checkpoints/step-00000100/`` holds the tensors of a run (written through
torch.distributed.checkpoint) and ``facts.json`` with all else. A folder is written
under another name, and gets its own when everything in it is on the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from jmp_calc.errors import CheckpointError
from jmp_train.checkpoint_folders import (
    FACTS,
    FORMAT,
    VERSION,
    best,
    bring_back,
    folder_name,
    is_whole,
    latest,
    newest_first,
    read_content,
    remove_unfinished,
    set_aside,
    what_is_missing,
)
from jmp_train.tensor_files import (
    READ_ERRORS,
    Writer,
    fill_tensors,
    own_share,
    read_metadata,
    write_tensors,
)

MODEL = "model."
"""Prefix of the names of parameters and buffers of the network."""
AVERAGE = "average."
"""Prefix of the names of averaged parameters."""
OPTIMIZER = "optimizer."
"""Prefix of the names of the moments of the optimizer, by parameter."""

_SHOWN = 3


class Checkpointer:
    """Writes the checkpoints of a run and tidies up behind itself.

    If torch.distributed is running, all processes make one at the same time and call
    :meth:`save` with the same steps; the folder must be one that all of them see.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        """Make the folder, and remove what a killed run has left half written.

        Args:
            folder: Folder of the checkpoints of a run.
            keep: Number of checkpoints that are kept besides the best; at least 1.

        Raises:
            CheckpointError: If the folder cannot be written to.
        """
        self.folder = folder
        self._keep = max(keep, 1)
        # Collectives of the background thread must not mix with those of training.
        is_alone = not (dist.is_available() and dist.is_initialized())
        self._group = None if is_alone else dist.new_group(backend="gloo")
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        self._tidy()

    def save(
        self,
        step: int,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        is_best: bool = False,
    ) -> None:
        """Copy the state of a run to memory, and write it while the run goes on.

        Args:
            step: Optimizer steps done; a checkpoint of the same step is replaced.
            facts: Plain data as JSON holds them, for a run those of ``RunState``; the
                ones of the first process count.
            tensors: By name, on any device; a DTensor is written by its shards, any
                other tensor is the same in all processes and written once.
            is_best: Whether it is kept until the next one that is the best.

        Raises:
            CheckpointError: If the previous checkpoint could not be written.
        """
        self.wait()
        name = folder_name(step)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "step": step,
            "is_best": is_best,
            "facts": json.loads(json.dumps(facts)),
        }
        temporary = self.folder / f".{name}.new"
        writer = Writer(temporary, partial(self._commit, temporary, content))
        staged = writer.stage(own_share(tensors, self._group))
        future = self._executor.submit(self._write, staged, writer, temporary)
        self._pending = step, future

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk.

        Raises:
            CheckpointError: If it could not be written.
        """
        if self._pending is None:
            return
        (step, future), self._pending = self._pending, None
        try:
            future.result()
        except (OSError, RuntimeError, CheckpointException) as error:
            previous = self.latest()
            advice = "there is none before it. Make room, and start the run again"
            if previous is not None:
                advice = (
                    f"the one before, {previous}, is unharmed. Make room, and go on "
                    "with --resume"
                )
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder} "
                f"({_reason(error)}); {advice}"
            ) from error

    def latest(self) -> Path | None:
        """Return the last whole checkpoint; None: there is none."""
        return latest(self.folder)

    def best(self) -> Path | None:
        """Return the last one that was the best; None: there is none."""
        return best(self.folder)

    def _write(
        self, staged: dict[str, Tensor], writer: Writer, temporary: Path
    ) -> None:
        try:
            write_tensors(staged, writer, self._group)
        except BaseException:
            # All processes have stopped writing when one of them learns of an error.
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _commit(
        self, temporary: Path, content: dict[str, Any], sizes: dict[str, int]
    ) -> None:
        text = json.dumps({**content, "files": sizes}, indent=1)
        with (temporary / FACTS).open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        _sync(temporary)
        path = self.folder / temporary.name.removeprefix(".").removesuffix(".new")
        if path.exists():
            set_aside(path, "old")
        temporary.rename(path)
        _sync(self.folder)
        self._prune()

    def _prune(self) -> None:
        found = newest_first(self.folder)
        kept = [path for path in found if is_whole(path)][: self._keep]
        for path in found:
            if path not in (*kept, self.best()):
                set_aside(path, "gone")
        remove_unfinished(self.folder)

    def _tidy(self) -> None:
        def tidy() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            bring_back(self.folder)
            remove_unfinished(self.folder)

        self._in_first(tidy)

    def _in_first(self, action: Callable[[], None]) -> None:
        """Do something in the first process; the others wait, and fail with it."""
        problem: list[str | None] = [None]
        if self._group is None or dist.get_rank(self._group) == 0:
            try:
                action()
            except OSError as error:
                problem = [f"{type(error).__name__}: {error.strerror}"]
        if self._group is not None:
            dist.broadcast_object_list(problem, src=0, group=self._group)
        if problem[0] is not None:
            raise CheckpointError(
                f"checkpoints cannot be written to {self.folder} ({problem[0]}); "
                "choose another folder for the run, or change its permissions"
            )


def read_facts(path: Path) -> dict[str, Any]:
    """Return what was given as ``facts`` when a checkpoint was saved.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: If it is damaged, incomplete, foreign or of another version.
    """
    try:
        content = read_content(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is not a checkpoint of jmp-train: it has no {FACTS}"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(_damaged(path, f"{FACTS}: {error}")) from error
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not a checkpoint of jmp-train; it says {FORMAT!r} nowhere"
        )
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has version {content.get('version')!r} of the checkpoint layout; "
            f"this version of jmp-train reads {VERSION}. Use the version of jmp-train "
            "that wrote it"
        )
    problem = what_is_missing(path, content)
    facts = content.get("facts")
    if problem or not isinstance(facts, dict):
        raise CheckpointError(_damaged(path, problem or f"{FACTS} has no facts"))
    return facts


def read_tensors(path: Path, into: Mapping[str, Tensor]) -> None:
    """Read tensors of a checkpoint into those given, in place.

    The number of processes may be another one than when it was saved; shards of
    DTensors are cut anew.

    Args:
        path: The checkpoint.
        into: By name, on any device.

    Raises:
        CheckpointError: If one is missing or has another shape or precision, or the
            checkpoint is damaged.
    """
    read_facts(path)
    stored = read_metadata(path).state_dict_metadata
    problems = []
    for name, tensor in into.items():
        entry: Any = stored.get(name)
        if entry is None:
            problems.append(f"{name} is missing")
        elif entry.size != tensor.shape or entry.properties.dtype != tensor.dtype:
            problems.append(
                f"{name} is {list(entry.size)} {entry.properties.dtype} and not "
                f"{list(tensor.shape)} {tensor.dtype}"
            )
    if problems:
        raise CheckpointError(
            f"{path} does not fit the network or the optimizer: "
            f"{'; '.join(problems[:_SHOWN])}; {len(problems)} in all. It belongs to "
            "another configuration"
        )
    try:
        with torch.no_grad():
            fill_tensors(path, into)
    except READ_ERRORS as error:
        first_line = str(error).partition("\n")[0]
        raise CheckpointError(_damaged(path, first_line)) from error


def load_state(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return whole tensors of a checkpoint, on the CPU.

    Args:
        path: The checkpoint.
        prefix: Start of their names; it is removed from them.

    Raises:
        CheckpointError: If the checkpoint is damaged.
    """
    read_facts(path)
    stored: Mapping[str, Any] = read_metadata(path).state_dict_metadata
    try:
        state = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in stored.items()
            if name.startswith(prefix)
        }
    except (RuntimeError, MemoryError) as error:
        raise CheckpointError(_damaged(path, str(error))) from error
    read_tensors(path, state)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _damaged(path: Path, problem: str) -> str:
    return (
        f"{path} is damaged ({problem}); delete it, and resume from the one before, or "
        "copy it again"
    )


def _reason(error: BaseException) -> str:
    """Return in words what went wrong, and in which process."""
    if isinstance(error, CheckpointException):
        rank, (cause, _) = min(error.failures.items())
        return f"process {rank}: {_reason(cause)}"
    return str(error).partition("\n")[0]


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
