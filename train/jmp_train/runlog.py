"""What a run leaves in its folder besides weights: settings, log, summary, errors."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jmp_calc.files import replacing
from jmp_calc.versions import installed_versions
from jmp_train.metrics import TaskErrors

CHECKPOINT = "checkpoint.pt"
"""Name of the last checkpoint of a run."""
CONFIG = "config.yml"
"""Name of the resolved configuration."""
LOG = "log.jsonl"
"""Name of the log: one JSON object a line, ``kind`` says what it is."""
SUMMARY = "summary.json"
"""Name of the summary that is written when a run stops."""

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
    """Appends records to the log of a run."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if need be.

        Args:
            folder: Folder of the run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def append(self, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Write one line and return its record.

        Args:
            kind: What the record is: start, step, evaluation, stop.
            facts: Plain data.
        """
        record = {"kind": kind, **facts}
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
        return record

    def write(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write a JSON file of its own.

        Args:
            name: Name in the folder of the run.
            facts: Plain data.
        """
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        with replacing(self.folder / name) as new:
            new.write_text(text + "\n", encoding="utf-8")
