"""What one test found: a value beside its limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PASS = "pass"
FAIL = "FAIL"
NOT_APPLICABLE = "not applicable"

HIDDEN = 100.0
"""Noise above this multiple of a limit hides what the test looks for."""
HIDDEN_NOTE = "hidden by the noise"
"""What is said then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One number of a test, or why there is none."""

    quantity: str
    """What was measured."""
    status: str
    """``pass``, ``FAIL`` or ``not applicable``."""
    value: float | None = None
    """The largest deviation found; None if nothing could be measured."""
    limit: float | None = None
    """Up to where it passes."""
    unit: str = ""
    """Unit of both."""
    note: str = ""
    """What else there is to say."""


def judged(
    quantity: str,
    value: float,
    limit: float,
    unit: str,
    note: str = "",
    *,
    noise: float = 0.0,
) -> Measurement:
    """Return a value beside its limit; what is not finite fails.

    Args:
        quantity: What was measured.
        value: The largest deviation found.
        limit: Up to where it passes without noise.
        unit: Unit of both.
        note: What else there is to say.
        noise: What the noise of the calculator may add. If that is far above the limit,
            a value within it says nothing, and the test is not applicable.
    """
    if not np.isfinite(value):
        return failed(quantity, f"not finite; {note}".rstrip("; "))
    status = PASS if abs(value) <= limit + noise else FAIL
    if status == PASS and noise > HIDDEN * limit:
        status, note = NOT_APPLICABLE, HIDDEN_NOTE
    return Measurement(
        quantity=quantity,
        status=status,
        value=float(value),
        limit=float(limit + noise),
        unit=unit,
        note=note,
    )


def not_applicable(quantity: str, why: str) -> Measurement:
    """Return that a test has no meaning here.

    Args:
        quantity: What would be measured.
        why: Why it is not.
    """
    return Measurement(quantity=quantity, status=NOT_APPLICABLE, note=why)


def failed(quantity: str, why: str) -> Measurement:
    """Return that a test could not be done although it should.

    Args:
        quantity: What would be measured.
        why: What went wrong.
    """
    return Measurement(quantity=quantity, status=FAIL, note=why)
