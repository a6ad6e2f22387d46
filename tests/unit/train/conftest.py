"""Toy stores that are written once for all training tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from toys.training import write_toy_stores


@pytest.fixture(scope="session")
def toy_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of small stores of two tasks; read only."""
    return write_toy_stores(tmp_path_factory.mktemp("stores"))
