"""From a name or a path to a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.pretrained.storage import fetch, read_record
from jmp_calc.pretrained.table import PRETRAINED, find_pretrained

if TYPE_CHECKING:
    # torch takes seconds to import, and naming a model does not need it
    from jmp_calc.models.jmp import JMPModel

OUR_SUFFIX = ".safetensors"
"""Ending of the weights files that this project writes."""
PUBLISHED_SUFFIXES = (".pt", ".pth", ".ckpt")
"""Endings of files in the layout of the published checkpoints."""


def load_model(
    name_or_path: str | Path,
    *,
    offline: bool = False,
    ema: Literal["full", "paper", "none"] = "full",
) -> JMPModel:
    """Return a model, downloading its weights first if necessary.

    Args:
        name_or_path: A name of ``PRETRAINED``, or the path of a weights file: one of
            ours (.safetensors) or one in the published layout (.pt, .pth, .ckpt). A
            file called like a named model is meant by ``./name``.
        offline: Never open a connection; a model that is not on this computer is then
            an error. The environment variable ``JMP_CALC_OFFLINE=1`` does the same.
        ema: Which of the weights in a published checkpoint to use: the moving average
            everywhere ("full"), the mixture that the published code ends up with
            ("paper"), or the last step ("none"). Our files hold one set only.

    Raises:
        ArgumentError: If there is no such name or file, or it is not a weights file.
        DownloadError: If the weights cannot be fetched or fail verification.
        CheckpointError: If the file is damaged or foreign.
    """
    path = locate(name_or_path, offline=offline)
    if path.suffix == OUR_SUFFIX:
        from jmp_calc.models.weights import load_weights

        model = load_weights(path)
    else:
        from jmp_calc.models.published import load_published

        model = load_published(path, ema=ema, sha256=_recorded_hash(name_or_path))
    if isinstance(name_or_path, str) and name_or_path in PRETRAINED:
        # a published file does not know what it is called here
        model.info["name"] = name_or_path
    return model


def _recorded_hash(name_or_path: str | Path) -> str | None:
    """Return the hash of a named file, which :func:`fetch` has just held against it."""
    # hashing gigabytes again at every start would take many seconds
    if not isinstance(name_or_path, str) or name_or_path not in PRETRAINED:
        return None
    record = read_record(PRETRAINED[name_or_path])
    return None if record is None else record.sha256


def locate(name_or_path: str | Path, *, offline: bool = False) -> Path:
    """Return the weights file of a model, downloading it first if necessary.

    Args:
        name_or_path: As for :func:`load_model`.
        offline: As for :func:`load_model`.

    Raises:
        ArgumentError: If there is no such name or file, or it is not a weights file.
        DownloadError: If the weights cannot be fetched or fail verification.
    """
    if isinstance(name_or_path, str) and name_or_path in PRETRAINED:
        return fetch(PRETRAINED[name_or_path], offline=offline)
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        _check_suffix(path)
        return path
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder{_weights_inside(path)}")
    if _looks_like_path(name_or_path):
        raise ArgumentError(
            f"{path} does not exist; give an existing weights file, or one of "
            f"{', '.join(PRETRAINED)}{did_you_mean(path.stem, PRETRAINED)}"
        )
    return fetch(find_pretrained(str(name_or_path)), offline=offline)


def _check_suffix(path: Path) -> None:
    if path.suffix != OUR_SUFFIX and path.suffix not in PUBLISHED_SUFFIXES:
        raise ArgumentError(
            f"{path} is not a weights file by its name; those end in {OUR_SUFFIX} "
            f"(ours) or {', '.join(PUBLISHED_SUFFIXES)} (published layout)"
        )


def _weights_inside(folder: Path) -> str:
    endings = (OUR_SUFFIX, *PUBLISHED_SUFFIXES)
    found = sorted(p.name for p in folder.iterdir() if p.suffix in endings)
    if not found:
        return f" without weights files ({', '.join(endings)}); give a weights file"
    return f"; give one of the weights files in it: {', '.join(found[:5])}"


def _looks_like_path(name_or_path: str | Path) -> bool:
    if isinstance(name_or_path, Path):
        return True
    path = Path(name_or_path)
    return (
        len(path.parts) > 1
        or path.suffix in (OUR_SUFFIX, *PUBLISHED_SUFFIXES)
        or name_or_path.startswith((".", "~"))
    )
