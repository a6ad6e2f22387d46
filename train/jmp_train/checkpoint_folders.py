"""Folders of checkpoints: their names, which are whole, the last and the best."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmp_calc.errors import CheckpointError
from jmp_train.tensor_files import METADATA

FORMAT = "jmp-train-checkpoint"
"""First entry of the facts of every checkpoint."""
VERSION = 2
"""Version of the layout; a reader accepts only its own."""
CHECKPOINTS = "checkpoints"
"""Name of the folder of checkpoints of a run."""
FACTS = "facts.json"
"""Name of the file with everything that is not a tensor."""

_OLD_FILE = "checkpoint.pt"
_NAME = re.compile(r"step-(\d{8,18})")
_UNFINISHED = re.compile(r"\.(step-\d{8,18})\.(new|old|gone)")


def folder_name(step: int) -> str:
    """Return the name of the checkpoint of a step.

    Args:
        step: Optimizer steps done.
    """
    return f"step-{step:08d}"


def latest(folder: Path) -> Path | None:
    """Return the last whole checkpoint in a folder; None: there is none.

    Args:
        folder: Folder of the checkpoints of a run.
    """
    return next((p for p in newest_first(folder) if is_whole(p)), None)


def best(folder: Path) -> Path | None:
    """Return the last whole checkpoint that was the best; None: there is none.

    Args:
        folder: Folder of the checkpoints of a run.
    """
    for path in newest_first(folder):
        if is_whole(path) and read_content(path).get("is_best") is True:
            return path
    return None


def find_checkpoint(place: Path, *, is_best: bool = False) -> Path:
    """Return the checkpoint that a user means.

    Args:
        place: Folder of a run, of its checkpoints, or a checkpoint itself.
        is_best: Whether the best is meant, and not the last.

    Raises:
        CheckpointError: If there is none.
    """
    if _NAME.fullmatch(place.name) and place.is_dir():
        return place
    folder = place if place.name == CHECKPOINTS else place / CHECKPOINTS
    found = best(folder) if is_best else latest(folder)
    if found is not None:
        return found
    if is_best and latest(folder) is not None:
        raise CheckpointError(
            f"no checkpoint in {folder} is marked as the best: the run has no early "
            "stopping, or no validation yet. Use the last one"
        )
    if (place / _OLD_FILE).is_file() or place.name == _OLD_FILE:
        raise CheckpointError(
            f"{place} holds a checkpoint of version 1 of the layout ({_OLD_FILE}), "
            f"which this version of jmp-train does not read; it reads {VERSION}. "
            "Use the weights file of the run, or start the run again"
        )
    raise CheckpointError(
        f"there is no whole checkpoint in {folder}; start the run without --resume, or "
        "name the folder of a run that has saved one"
    )


def newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, whole or not, the last step first.

    One that was about to be replaced when the run was killed is among them.

    Args:
        folder: Folder of the checkpoints of a run; it need not exist.
    """
    if not folder.is_dir():
        return []
    found = {path.name: path for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    found = {name: path for path, name in _unfinished(folder, "old")} | found
    return [found[name] for name in sorted(found, key=_step_of, reverse=True)]


def read_content(path: Path) -> dict[str, Any]:
    """Return what the facts of a checkpoint say, unchecked.

    Args:
        path: The checkpoint.

    Raises:
        OSError: If there are no facts.
        ValueError: If they are not JSON, or no mapping.
    """
    try:
        content = json.loads((path / FACTS).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested without end") from error
    return dict(content)


def is_whole(path: Path) -> bool:
    """Return whether all of a checkpoint is there.

    One of another version counts as whole; its reader will say what is wrong.

    Args:
        path: The checkpoint.
    """
    try:
        content = read_content(path)
    except (OSError, ValueError, TypeError):
        return False
    return content.get("version") != VERSION or not what_is_missing(path, content)


def what_is_missing(path: Path, content: Mapping[str, Any]) -> str:
    """Return in words which file is missing or too short; empty: none.

    Args:
        path: The checkpoint.
        content: What its facts say.
    """
    files = content.get("files")
    if not isinstance(files, dict):
        return f"{FACTS} lists no files"
    if not (path / METADATA).is_file():
        return f"{METADATA} is missing"
    for name, size in files.items():
        file = path / Path(name).name
        found = file.stat().st_size if file.is_file() else 0
        if found != size:
            return f"{name} has {found} of {size} bytes"
    return ""


def set_aside(path: Path, ending: str) -> None:
    """Give a checkpoint a name under which it counts as unfinished.

    Args:
        path: The checkpoint.
        ending: ``old``: it comes back unless another takes its name; ``gone``: it is
            to be removed.
    """
    path.rename(path.with_name(f".{path.name}.{ending}"))


def bring_back(folder: Path) -> None:
    """Give old checkpoints their names again, unless others have taken them.

    Args:
        folder: Folder of the checkpoints of a run.
    """
    for path, name in _unfinished(folder, "old"):
        if not (folder / name).exists():
            path.rename(folder / name)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run has left half written or half removed.

    Args:
        folder: Folder of the checkpoints of a run.
    """
    for path, _ in _unfinished(folder, "new", "old", "gone"):
        shutil.rmtree(path, ignore_errors=True)


def _step_of(name: str) -> int:
    return int(name.removeprefix("step-"))


def _unfinished(folder: Path, *endings: str) -> list[tuple[Path, str]]:
    """Return folders with one of the endings, and the names that they are for."""
    return [
        (path, match.group(1))
        for path in folder.iterdir()
        if (match := _UNFINISHED.fullmatch(path.name)) and match.group(2) in endings
    ]
