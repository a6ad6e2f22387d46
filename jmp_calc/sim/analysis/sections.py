"""What every analysis gives: numbers with units, curves, and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

ROUNDING = 1e-12
"""Smaller errors, as a fraction of the value, are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One number, or one short text."""

    name: str
    """What it is, in words."""
    value: float | int | str | bool
    """Itself."""
    error: float | None = None
    """Standard error; None: there is none."""
    unit: str = ""
    """Its unit; empty: none."""

    @property
    def text(self) -> str:
        """The value with its error, in as many digits as mean something."""
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        if isinstance(self.value, str):
            return self.value
        if isinstance(self.value, int):
            return str(self.value)
        # an error of that size is rounding
        least = ROUNDING * abs(self.value)
        if self.error is None or not least < self.error < np.inf:
            return f"{self.value:.4g}"
        # two digits of the error, and as many of the value
        digits = 1 - int(np.floor(np.log10(self.error)))
        if digits > 6 or self.error >= 1e4:
            size = max(abs(self.value), self.error)
            return f"{self.value:.{digits + int(np.floor(np.log10(size)))}e} ± " + (
                f"{self.error:.1e}"
            )
        digits = max(digits, 0)
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One result: a CSV, a picture, and a part of the report."""

    key: str
    """Last part of its file names."""
    title: str
    """Heading."""
    about: str
    """What is shown and how it was made, in a sentence or two."""
    facts: tuple[Fact, ...] = ()
    """Numbers."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Curves: names with units -> values, all of one length; empty: no CSV, no picture.
    The first is the abscissa."""
    notes: tuple[str, ...] = ()
    """What to know before the numbers are believed."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Values on the abscissa that the picture marks."""
