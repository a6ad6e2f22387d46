"""Published files -> stores: the parts of sets are read, joined and reported on."""

from __future__ import annotations

from jmp_train.prepare.pipeline import (
    PreparedSet,
    PreparedStore,
    PrepareProgress,
    prepare,
)

__all__ = ["PrepareProgress", "PreparedSet", "PreparedStore", "prepare"]
