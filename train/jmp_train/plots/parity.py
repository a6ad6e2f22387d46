"""Predictions against labels, and how their errors are distributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jmp_calc.pictures import COLORS, GRAY, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY_POINTS = 2000
"""From so many points on, their density is drawn."""

_SIZE = 3.7
_TAIL = 0.995


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Labels and predictions of one quantity."""

    title: str
    """What it is, without its unit."""
    unit: str
    """Unit of both; empty: none."""
    error_unit: str
    """Unit of the errors."""
    error_factor: float
    """Factor from ``unit`` to ``error_unit``."""
    pairs: Float[np.ndarray, "points 2"]
    """Label and prediction."""
    n_all: int
    """Points of which these are a random part."""


def draw_parity(quantities: Sequence[Parity], title: str) -> Figure:
    """Return a picture with two panels for each quantity.

    Args:
        quantities: At least one, each with points.
        title: Text above.
    """
    figure = new_figure(_SIZE * len(quantities) + 0.4, 2 * _SIZE)
    grid = figure.subplots(2, len(quantities), squeeze=False)
    figure.suptitle(title, fontsize="medium")
    for column, quantity in enumerate(quantities):
        _scatter(grid[0, column], quantity)
        _errors(grid[1, column], quantity)
    return figure


def _scatter(axes: Axes, quantity: Parity) -> None:
    tidy(axes)
    label, predicted = quantity.pairs.T
    notes = []
    shift = _constant(label, predicted)
    if shift:
        predicted = predicted - shift
        error = f"{quantity.error_factor * shift:.4g} {quantity.error_unit}"
        notes.append(f"drawn without the median error, {error}")
    low, high = _range(label, predicted)
    axes.plot([low, high], [low, high], lw=0.8, color=GRAY, zorder=3)
    if len(label) >= MANY_POINTS:
        drawn = axes.hexbin(
            label,
            predicted,
            gridsize=70,
            bins="log",
            mincnt=1,
            cmap="viridis",
            extent=(low, high, low, high),
            linewidths=0,
        )
        bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.set_label("points in a cell", fontsize="x-small")
        bar.ax.tick_params(labelsize="x-small")
    else:
        alpha = 0.9 if len(label) < 100 else 0.5
        axes.scatter(label, predicted, s=9, lw=0, alpha=alpha, color=COLORS[0])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    unit = f" ({quantity.unit})" if quantity.unit else ""
    axes.set_xlabel(f"label{unit}", fontsize="small")
    axes.set_ylabel(f"prediction{unit}", fontsize="small")
    axes.set_title(quantity.title, fontsize="medium")
    outside = (predicted < low) | (predicted > high) | (label < low) | (label > high)
    if quantity.n_all > len(label):
        notes.append(f"{len(label)} of {quantity.n_all} points")
    if outside.any():
        notes.append(f"{int(outside.sum())} outside")
    axes.text(
        0.03,
        0.97,
        "\n".join(notes),
        transform=axes.transAxes,
        va="top",
        fontsize="x-small",
        color=GRAY,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        visible=bool(notes),
    )


def _constant(
    label: Float[np.ndarray, " points"], predicted: Float[np.ndarray, " points"]
) -> float:
    """Return the median error if it would hide everything else, and 0 if not."""
    shift = float(np.median(predicted - label))
    return shift if abs(shift) > 3 * label.std() > 0 else 0.0


def _range(
    label: Float[np.ndarray, " points"], predicted: Float[np.ndarray, " points"]
) -> tuple[float, float]:
    """Return limits of both axes: all labels, and predictions but for a few far off."""
    tail = np.quantile(predicted, [1 - _TAIL, _TAIL])
    low, high = min(label.min(), tail[0]), max(label.max(), tail[1])
    margin = 0.04 * max(high - low, 1e-9)
    return float(low - margin), float(high + margin)


def _errors(axes: Axes, quantity: Parity) -> None:
    tidy(axes)
    error = quantity.error_factor * (quantity.pairs[:, 1] - quantity.pairs[:, 0])
    low, high = np.quantile(error, [1 - _TAIL, _TAIL])
    if low < 0 < high:
        high = max(-low, high)
        low = -high
        axes.axvline(0, lw=0.8, color=GRAY)
    n_bins = min(60, max(10, round(np.sqrt(len(error)))))
    axes.hist(
        error,
        bins=n_bins,
        range=(low, high) if high > low else None,
        color=COLORS[0],
        alpha=0.85,
        edgecolor="none",
    )
    mean = float(error.mean())
    axes.axvline(mean, lw=1.2, ls="--", color=COLORS[1])
    root = float(np.sqrt((error**2).mean()))
    shown = mean if abs(mean) > 1e-3 * root else 0.0
    axes.set_title(
        f"mean {shown:.3g} (dashed), MAE {np.abs(error).mean():.3g}, RMSE {root:.3g}",
        fontsize="small",
    )
    unit = f" ({quantity.error_unit})" if quantity.error_unit else ""
    axes.set_xlabel(f"error, prediction − label{unit}", fontsize="small")
    axes.set_ylabel("number", fontsize="small")


def draw_confusion(
    confusion: Sequence[Sequence[int]], names: Sequence[str], title: str
) -> Figure:
    """Return a picture of how classes are told apart.

    Args:
        confusion: Counts by label (row) and prediction (column).
        names: Of the classes.
        title: Text above.
    """
    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 1.4 + 0.8 * len(names)
    figure = new_figure(size + 1.6, size + 0.8)
    axes = figure.subplots()
    figure.suptitle(title, fontsize="medium")
    drawn = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, shrink=0.8).set_label(
        "share of the label", fontsize="small"
    )
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            color="black" if shares[row, column] > 0.5 else "white",
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("prediction", fontsize="small")
    axes.set_ylabel("label", fontsize="small")
    return figure
