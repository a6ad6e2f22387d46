"""Panels that several experiments share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jmp_calc.pictures import GRAY, color, tidy
from jmp_train.experiments.results import mean_of, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^Dvp*h"
_WIDE = 8.0
_FAR_APART = 50.0
_MAX_TICKS = 6


def dot_panel(
    axes: Axes,
    values: Mapping[str, Sequence[float]],
    *,
    label: str,
    title: str = "",
    has_names: bool = True,
) -> None:
    """Draw one row per arm: every seed as a small dot, the mean as a large one.

    Args:
        axes: The panel.
        values: Values by arm, the first on top; NaN where not measured.
        label: Quantity and unit.
        title: Above the panel.
        has_names: Whether the names of the arms are written.
    """
    for row, (_, seeds) in enumerate(values.items()):
        known = measured(seeds)
        axes.plot(known, [row] * len(known), "o", color=GRAY, ms=3, alpha=0.7)
        axes.plot([mean_of(seeds)], [row], "o", color=color(row), ms=8)
    names = list(values) if has_names else [""] * len(values)
    axes.set_yticks(range(len(values)), names)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel(label)
    known = [v for seeds in values.values() for v in measured(seeds)]
    if min(known, default=0) > 0 and max(known) > _FAR_APART * min(known):
        axes.set_xscale("log")
    axes.margins(x=0.12)
    if title:
        axes.set_title(title, fontsize="medium")
    tidy(axes)


def line_panel(
    axes: Axes,
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    *,
    labels: tuple[str, str],
    title: str = "",
    has_log: tuple[bool, bool] = (False, True),
) -> None:
    """Draw one line per arm through means, with bars from the least to the largest.

    Args:
        axes: The panel.
        lines: By arm, points of (x, values of the seeds).
        labels: Of both axes.
        title: Above the panel.
        has_log: Which axes may be logarithmic; the second one is if it spans a decade.
    """
    for place, (name, points) in enumerate(lines.items()):
        known = [(x, measured(values)) for x, values in points]
        known = [(x, values) for x, values in known if values]
        means = [mean_of(values) for _, values in known]
        below = [m - min(v) for m, (_, v) in zip(means, known, strict=True)]
        above = [max(v) - m for m, (_, v) in zip(means, known, strict=True)]
        axes.errorbar(
            [x for x, _ in known],
            means,
            yerr=[below, above],
            marker=_MARKERS[place % len(_MARKERS)],
            ms=5,
            lw=1.5,
            capsize=2,
            color=color(place),
            label=name,
        )
    axes.set(xlabel=labels[0], ylabel=labels[1])
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, v in points for y in measured(v)]
    if has_log[0] and min(xs, default=0) > 0:
        axes.set_xscale("log")
        _mark(axes, sorted(set(xs)))
    elif all(float(x).is_integer() for x in xs):
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # on less than a decade, a logarithmic axis has hardly a number to read
    if has_log[1] and min(ys, default=0) > 0 and max(ys) > _WIDE * min(ys):
        axes.set_yscale("log")
    if title:
        axes.set_title(title, fontsize="medium")
    tidy(axes)


def _mark(axes: Axes, places: Sequence[float]) -> None:
    """Write the numbers of the points below a logarithmic axis."""
    if len(places) > _MAX_TICKS:
        return
    axes.set_xticks(places, [_short(x) for x in places])
    axes.set_xticks([], minor=True)


def _short(x: float) -> str:
    for factor, letter in ((1e6, " M"), (1e3, " k")):
        if x >= factor:
            return f"{x / factor:.3g}{letter}"
    return f"{x:g}"
