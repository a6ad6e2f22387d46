"""Parts of a data set; which of them a sample belongs to, :mod:`hashed_split` says."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "val", "test"]

SPLITS: tuple[Split, ...] = ("train", "val", "test")
"""All parts."""
