"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jmp_calc.files import file_hash, replacing


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "summary.json"
    path.write_text("old")
    return path


def test_the_new_file_takes_the_name(old: Path) -> None:
    with replacing(old) as new:
        new.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"
    assert list(old.parent.iterdir()) == [old]


def test_a_failure_leaves_the_old_file_and_nothing_else(old: Path) -> None:
    def full_disk() -> None:
        with replacing(old) as new:
            new.write_text("ne")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        full_disk()
    assert old.read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
