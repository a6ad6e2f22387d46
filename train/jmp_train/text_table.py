"""Rows of words as a table of text."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], *, is_number: Sequence[bool] = ()) -> str:
    """Return rows of words as lines with aligned columns.

    Args:
        rows: The first is the heading; all have the same length.
        is_number: Which columns are aligned on the right; the rest on the left.
    """
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    right = [*is_number, *(False for _ in widths[len(is_number) :])]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )
