"""What a run leaves in its folder besides weights: settings, log, summary, errors."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from jmp_calc.errors import ArgumentError
from jmp_calc.files import replacing
from jmp_calc.versions import installed_versions
from jmp_train.checkpoint_folders import CHECKPOINTS as CHECKPOINTS
from jmp_train.metrics import TaskErrors
from jmp_train.run_folder import explained

CONFIG = "config.yml"
"""Name of the resolved configuration."""
LOG = "log.jsonl"
"""Name of the log: one JSON object a line, ``kind`` says what it is."""
SUMMARY = "summary.json"
"""Name of the summary that is written when a run stops."""
CURVES = "tensorboard"
"""Name of the folder of curves for TensorBoard."""

_PACKAGES = ("jmp-calc", "torch", "numpy", "ase")


def errors_name(split: str) -> str:
    """Return the name of the file of measured errors.

    Args:
        split: ``val`` or ``test``.
    """
    return f"errors-{split}.json"


def errors_to_json(errors: Mapping[str, TaskErrors]) -> dict[str, Any]:
    """Return errors as plain data.

    Args:
        errors: By task.
    """
    return {task: error.to_json() for task, error in errors.items()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    found = installed_versions(_PACKAGES)
    return {name: found.get(name, "not installed") for name in ("python", *_PACKAGES)}


def hardware(device: torch.device) -> str:
    """Return in words what computes.

    Args:
        device: Device of the network.
    """
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads per operation"


class RunLog:
    """Appends records to the log of a run, and numbers to its curves.

    Only the first process of a run writes.
    """

    def __init__(
        self, folder: Path, *, is_writing: bool = True, has_curves: bool = False
    ) -> None:
        """Create the folder if need be.

        Args:
            folder: Folder of the run.
            is_writing: Whether this is the first process.
            has_curves: Write curves for TensorBoard, too.

        Raises:
            ArgumentError: If TensorBoard is not installed.
            StorageError: If the folder cannot be written to.
        """
        self.folder = folder
        self._is_writing = is_writing
        self._curves = None
        if is_writing:
            with explained(folder):
                folder.mkdir(parents=True, exist_ok=True)
                _end_last_line(folder / LOG)
                self._curves = _open_curves(folder / CURVES) if has_curves else None

    def append(self, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write one line and return its record.

        Args:
            kind: What the record is: start, step, evaluation, stop.
            facts: Plain data.

        Raises:
            StorageError: If the folder cannot be written to.
        """
        record: dict[str, Any] = _plain({"kind": kind, **facts})
        if not self._is_writing:
            return record
        with (
            explained(self.folder),
            (self.folder / LOG).open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        if self._curves is not None and kind in ("step", "evaluation"):
            for name, value in _numbers(kind, record):
                self._curves.add_scalar(name, value, facts["step"])
        return record

    def write(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write a JSON file of its own.

        Args:
            name: Name in the folder of the run.
            facts: Plain data.

        Raises:
            StorageError: If the folder cannot be written to.
        """
        if not self._is_writing:
            return
        text = json.dumps(_plain(facts), indent=2, ensure_ascii=False)
        with explained(self.folder), replacing(self.folder / name) as new:
            new.write_text(text + "\n", encoding="utf-8")

    def close(self) -> None:
        """Write what TensorBoard has not written yet."""
        if self._curves is not None:
            self._curves.close()


def _end_last_line(path: Path) -> None:
    """End a line that a kill or a full disk has cut off; the next is not part of it."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.write(b"\n")


def _open_curves(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ArgumentError(
            "tensorboard is on, but TensorBoard is not installed; run: pip install "
            "'jmp-calc[tensorboard]', or turn it off"
        ) from error
    return SummaryWriter(str(folder))


def _plain(facts: Any) -> Any:
    """Return facts as JSON holds them: numbers that are not finite become null."""
    if isinstance(facts, Mapping):
        return {key: _plain(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [_plain(value) for value in facts]
    if isinstance(facts, float) and not math.isfinite(facts):
        return None
    return facts


def _numbers(prefix: str, facts: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a record under names with slashes."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(f"{prefix}/{key}", value)
        elif isinstance(value, int | float) and key != "step":
            yield f"{prefix}/{key}", float(value)
