"""Curves of one run, or of several side by side: losses, errors, rates, speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jmp_calc.pictures import (
    GRAY,
    color,
    dashes,
    new_figure,
    save_figure,
    tidy,
)
from jmp_train.plots.history import RunHistory, read_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 5.2, 3.1
_TERMS = ("loss", "energy_loss", "force_loss", "stress_loss", "target_loss")
_TERM_TITLES = {
    "loss": "total",
    "energy_loss": "energy",
    "force_loss": "forces",
    "stress_loss": "stress",
    "target_loss": "target",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorPanel:
    """One kind of validation error."""

    key: str
    """Field of ``TaskErrors``."""
    title: str
    """What it is, with its unit."""
    factor: float = 1.0
    """Factor from the unit of the field to that of the title."""
    is_log: bool = True
    """Whether the axis is logarithmic."""


ERROR_PANELS = (
    ErrorPanel(key="energy_mae_meV_per_atom", title="energy MAE (meV/atom)"),
    ErrorPanel(key="force_mae_eV_per_A", title="force MAE (meV/Å)", factor=1000.0),
    ErrorPanel(key="stress_mae_eV_per_A3", title="stress MAE (meV/Å³)", factor=1000.0),
    ErrorPanel(key="target_mae", title="target MAE"),
    ErrorPanel(key="balanced_accuracy", title="balanced accuracy", is_log=False),
)
"""Validation errors that have a panel where some run has them."""


def plot_runs(folders: Sequence[Path], picture: Path) -> list[str]:
    """Draw the curves of runs and return notes about what could not be used.

    Args:
        folders: Folders of runs.
        picture: File to write.

    Raises:
        DataError: If a folder has no log.
        ArgumentError: If matplotlib is not installed or the ending is not known.
    """
    runs = [read_history(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    save_figure(draw_runs(runs, names), picture)
    return [note for run in runs for note in run.notes]


def draw_runs(runs: Sequence[RunHistory], names: Sequence[str]) -> Figure:
    """Return the picture of runs.

    Args:
        runs: At least one.
        names: What each is called in the picture.
    """
    panels: list[Callable[[Axes], None]] = [lambda axes: _loss(axes, runs)]
    panels += [
        partial(_errors, runs=runs, panel=panel)
        for panel in ERROR_PANELS
        if any(
            len(run.errors(task, panel.key)[0]) for run in runs for task in run.tasks
        )
    ]
    panels += [lambda axes: _rates(axes, runs)]
    if any(len(run.series("gradient_norm")[0]) for run in runs):
        panels += [lambda axes: _gradient(axes, runs)]
    panels += [lambda axes: _throughput(axes, runs)]
    n_columns = 2 if len(panels) <= 4 else 4 if len(panels) in (7, 8) else 3
    n_rows = -(-len(panels) // n_columns)
    figure = new_figure(_WIDTH * n_columns, _HEIGHT * n_rows + 0.5)
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    last = max(1, *(step for run in runs for step in (*run.steps, *run.validations)))
    for axes, draw in zip(grid, panels, strict=False):
        tidy(axes)
        draw(axes)
        axes.set_xlabel("optimizer step", fontsize="small")
        axes.set_xlim(-0.02 * last, 1.02 * last)
        axes.locator_params(axis="x", integer=True)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if len(runs) == 1:
        figure.suptitle(f"Run {names[0]}", fontsize="large")
    else:
        _legend_of_runs(figure, names)
    return figure


def _legend_of_runs(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=color(place), lw=2, label=name)
        for place, name in enumerate(names)
    ]
    figure.legend(
        handles=lines,
        loc="outside upper center",
        ncols=min(4, len(lines)),
        frameon=False,
    )


def _loss(axes: Axes, runs: Sequence[RunHistory]) -> None:
    """Terms of one run, or the total loss of several."""
    axes.set_ylabel("training loss (network units)", fontsize="small")
    if len(runs) == 1:
        curves = [
            (name, runs[0].series(name), color(place))
            for place, name in enumerate(_TERMS)
            if len(runs[0].series(name)[0]) and runs[0].series(name)[1].any()
        ]
        if len(curves) == 2:  # the total is its only term
            curves = curves[:1]
    else:
        curves = [
            ("loss", run.series("loss"), color(place)) for place, run in enumerate(runs)
        ]
    for name, (steps, values), shade in curves:
        window = max(1, len(values) // 50)
        if window > 1:
            axes.plot(steps, values, lw=0.5, alpha=0.25, color=shade)
        smooth_steps, smooth = _running_mean(steps, values, window)
        label = _TERM_TITLES[name] if len(runs) == 1 else None
        marker = "o" if len(smooth) < 3 else None
        axes.plot(
            smooth_steps, smooth, lw=1.5, color=shade, label=label, marker=marker, ms=3
        )
    _log_if_positive(axes, [values for _, (_, values), _ in curves])
    _legend(axes)


def _errors(axes: Axes, runs: Sequence[RunHistory], panel: ErrorPanel) -> None:
    """Validation errors: colour is the task of one run, or the run of several."""
    tasks = list({task: None for run in runs for task in run.tasks})
    drawn: list[tuple[str, Float[np.ndarray, " points"]]] = []
    units: set[str] = set()
    for place, run in enumerate(runs):
        for row, task in enumerate(tasks):
            steps, values = run.errors(task, panel.key)
            if not len(steps):
                continue
            units |= _target_units(run, task)
            style: dict[str, Any] = {"color": color(row), "ls": "-", "label": task}
            if len(runs) > 1:
                label = task if task not in [d[0] for d in drawn] else None
                style = {"color": color(place), "ls": dashes(row), "label": label}
            axes.plot(
                steps,
                panel.factor * values,
                lw=_width(place, runs),
                marker="o",
                ms=3,
                **style,
            )
            drawn.append((task, values))
    title = panel.title
    if panel.key == "target_mae" and len(units) == 1:
        title += f" ({units.pop()})"
    axes.set_ylabel(f"validation: {title}", fontsize="small")
    if panel.is_log:
        _log_if_positive(axes, [values for _, values in drawn])
    if len({task for task, _ in drawn}) > 1:
        legend = _legend(axes)
        if legend is not None and len(runs) > 1:
            for handle in legend.legend_handles:
                handle.set(color=GRAY)


def _target_units(run: RunHistory, task: str) -> set[str]:
    found = (tasks.get(task, {}) for tasks in run.validations.values())
    return {facts["target_unit"] for facts in found if facts.get("target_unit")}


def _rates(axes: Axes, runs: Sequence[RunHistory]) -> None:
    axes.set_ylabel("learning rate", fontsize="small")
    for place, run in enumerate(runs):
        names = [name for name in run.names() if name.startswith("learning_rate")]
        for row, name in enumerate(names):
            shade = color(row if len(runs) == 1 else place)
            group = name.removeprefix("learning_rates").removeprefix("learning_rate")
            label = group.strip() or ("all parameters" if len(names) > 1 else None)
            steps, values = run.series(name)
            style = "-" if len(runs) == 1 else dashes(row)
            axes.plot(
                steps,
                values,
                lw=_width(place, runs),
                color=shade,
                ls=style,
                label=label if place == 0 else None,
                marker="o" if len(steps) < 3 else None,
                ms=3,
            )
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    axes.set_ylim(bottom=0)
    _legend(axes)


def _gradient(axes: Axes, runs: Sequence[RunHistory]) -> None:
    axes.set_ylabel("gradient norm before clipping", fontsize="small")
    found = []
    for place, run in enumerate(runs):
        steps, values = run.series("gradient_norm")
        found.append(values)
        window = max(1, len(values) // 50)
        if window > 1:
            axes.plot(steps, values, lw=0.5, alpha=0.25, color=color(place))
        marker = "o" if len(steps) < 3 else None
        smooth = _running_mean(steps, values, window)
        axes.plot(*smooth, lw=1.4, color=color(place), marker=marker, ms=3)
    _log_if_positive(axes, found)


def _throughput(axes: Axes, runs: Sequence[RunHistory]) -> None:
    axes.set_ylabel("systems per second", fontsize="small")
    for place, run in enumerate(runs):
        steps, values = run.throughput()
        marker = "o" if len(steps) < 3 else None
        axes.plot(steps, values, lw=1.2, color=color(place), marker=marker, ms=3)
        if len(values):
            axes.axhline(float(np.median(values)), lw=0.8, ls="--", color=color(place))
    medians = [
        f"{np.median(run.throughput()[1]):.3g}" for run in runs if _has_speed(run)
    ]
    if medians:
        axes.text(
            0.98,
            0.04,
            f"median {', '.join(medians)} (dashed)",
            transform=axes.transAxes,
            ha="right",
            fontsize="small",
            color=GRAY,
        )
    axes.set_ylim(bottom=0)


def _has_speed(run: RunHistory) -> bool:
    return len(run.throughput()[0]) > 0


def _width(place: int, runs: Sequence[RunHistory]) -> float:
    """Return a line width with which equal curves of several runs stay visible."""
    return 1.4 + (len(runs) - 1 - place)


def _running_mean(
    steps: Float[np.ndarray, " points"],
    values: Float[np.ndarray, " points"],
    window: int,
) -> tuple[Float[np.ndarray, " means"], Float[np.ndarray, " means"]]:
    if window <= 1 or len(values) < window:
        return steps, values
    kernel = np.full(window, 1 / window)
    return steps[window - 1 :], np.convolve(values, kernel, mode="valid")


def _log_if_positive(axes: Axes, found: Sequence[Float[np.ndarray, " points"]]) -> None:
    """Make the axis logarithmic where numbers are positive and differ by much."""
    values = np.concatenate([*found, np.empty(0)])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 3 * values.min():
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        axes.set_yscale("log")
        is_wide = values.max() > 300 * values.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes) -> Any:
    if not axes.get_legend_handles_labels()[1]:
        return None
    return axes.legend(frameon=False, fontsize="small", ncols=2)
