"""Reading a source whole, and the real files of the published sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from jmp_train.data.families import FAMILIES
from jmp_train.data.source import FamilyOptions, Record, Skipped, Source

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
"""Excerpts of the published sets, outside of the repository."""


def real(*parts: str) -> Path:
    """A real file or folder; the test is skipped where there is none."""
    path = REAL_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"there is no {path} with excerpts of the published sets")
    return path


def open_family(name: str, source: Path, **options: object) -> list[Source]:
    """The sources of a family."""
    return FAMILIES[name].open(source, FamilyOptions(**options))


def entries(source: Source) -> list[Record | Skipped]:
    """All records of all parts, and what is skipped; parts name their files."""
    for part in source.parts():
        assert source.inputs(part)
        assert all(path.exists() for path in source.inputs(part))
    return [entry for part in source.parts() for entry in source.read(part)]


def records(source: Source) -> list[Record]:
    """All records of all parts."""
    return [entry for entry in entries(source) if isinstance(entry, Record)]


def skipped(source: Source) -> list[Skipped]:
    """All that is skipped."""
    return [entry for entry in entries(source) if isinstance(entry, Skipped)]
