"""Panels that several experiments share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jmp_train.experiments.results import mean_of, measured
from jmp_train.plots.style import GRAY, color, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^Dvp*h"


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
        has_log: Which axes are logarithmic.
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
    axes.set(
        xlabel=labels[0],
        ylabel=labels[1],
        xscale="log" if has_log[0] else "linear",
        yscale="log" if has_log[1] else "linear",
    )
    plain_ticks(axes)
    if title:
        axes.set_title(title, fontsize="medium")
    tidy(axes)


def plain_ticks(axes: Axes) -> None:
    """Write the numbers of logarithmic axes as numbers, and enough of them.

    Args:
        axes: A panel.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale != "log":
            continue
        low, high = axis.get_view_interval()
        subs = (1.0,) if high > 50 * low else (1.0, 2.0, 3.0, 5.0, 7.0)
        if high < 2 * low:
            subs = tuple(k / 4 for k in range(4, 40))
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_minor_formatter(NullFormatter())
        if high < 1e5:
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
