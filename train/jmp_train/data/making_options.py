"""MakingOptions: seed, size and layout of made data; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.errors import ArgumentError

LABELLED = "labelled"
"""Folder of the labelled files, one folder for each task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MakingOptions:
    """What may differ from run to run."""

    seed: int = 0
    """Seed; the steps have theirs besides."""
    share: float = 1.0
    """Fraction of the molecules of the list, by a hash; those that are always trained
    on are never left out."""
    processes: int = 1
    """Structures that are worked on at the same time."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.share <= 1 or self.seed < 0:
            raise ArgumentError(
                f"share is {self.share} and seed {self.seed}; give a share above 0 and "
                "up to 1, and a seed that is not negative"
            )
