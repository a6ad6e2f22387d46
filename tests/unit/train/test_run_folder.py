from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, StorageError
from jmp_train.run_folder import explained, locked


def test_a_folder_is_held_by_one_at_a_time(tmp_path) -> None:
    with (
        locked(tmp_path / "run"),
        pytest.raises(ArgumentError, match=r"another process is training in .*run"),
        locked(tmp_path / "run"),
    ):
        pass
    with locked(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ArgumentError, match=r"cannot write to .*choose another folder"),
        locked(tmp_path / "file" / "run"),
    ):
        pass


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "log.jsonl")


def test_a_full_disk_is_explained_and_says_what_is_saved(tmp_path) -> None:
    message = r"log\.jsonl: the disk is full; no checkpoint is saved\. .*start .*again"
    with pytest.raises(StorageError, match=message), explained(tmp_path):
        full_disk()


def test_other_failures_to_write_keep_their_reason(tmp_path) -> None:
    missing: Path = tmp_path / "none" / "log.jsonl"
    with (
        pytest.raises(StorageError, match=r"none/log\.jsonl: No such file"),
        explained(tmp_path),
    ):
        missing.write_text("")
