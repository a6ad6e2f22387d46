"""A picture of a set: energies, forces, sizes, elements and targets of its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from jmp_calc.pictures import GRAY, color, new_figure, save_figure, tidy
from jmp_train.prepare.periodic_table import draw_elements
from jmp_train.prepare.summary import Distributions, Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_BINS = (25, 60)
"""Fewest and most bins of a histogram; between them, twice the cube root of the number
of values (Rice rule)."""
MOST_TARGETS = 20
"""Targets that are drawn; the report lists all."""
_MOST_BARS = 12
_TAIL = 0.001
_WIDTH, _HEIGHT = 3.3, 2.5
_TABLE_HEIGHT = 1.15

Parts = Mapping[str, Distributions]
Draw = Callable[["Axes"], None]


def draw_set(
    parts: Parts,
    headers: Mapping[str, Mapping[str, Any]],
    path: Path,
    *,
    title: str,
) -> Path:
    """Draw the distributions of the parts of a set and return the file.

    Args:
        parts: Values by part.
        headers: Headers of the stores by part.
        path: Picture to write; its ending decides the format.
        title: Text above the picture.

    Raises:
        ArgumentError: If matplotlib is not installed.
        DataError: If the picture cannot be written.
    """
    panels = _panels(parts)
    shares = element_shares(headers)
    is_wide = len(shares) > _MOST_BARS
    if not is_wide:
        panels.append(_bars_panel(headers, list(shares)))
    units = next(iter(headers.values()))["units"]["targets"]
    panels += _target_panels(parts, units)
    n_columns = 2 if len(panels) in (1, 2, 4) else 3 if len(panels) < 7 else 4
    n_rows = -(-len(panels) // n_columns)
    height = _HEIGHT * n_rows + 0.6 + is_wide * _TABLE_HEIGHT * n_columns
    figure = new_figure(_WIDTH * n_columns, height)
    figure.suptitle(title, fontsize="medium")
    heights = [_HEIGHT] * n_rows + is_wide * [_TABLE_HEIGHT * n_columns]
    grid = figure.add_gridspec(len(heights), n_columns, height_ratios=heights)
    for place, draw in enumerate(panels):
        axes = figure.add_subplot(grid[place // n_columns, place % n_columns])
        draw(axes)
        tidy(axes)
    if is_wide:
        draw_elements(figure.add_subplot(grid[-1, :]), shares)
    handles = [
        _patch(_part_color(name), f"{name} ({header['n_systems']:,} systems)")
        for name, header in headers.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize="small",
    )
    return save_figure(figure, path)


def _patch(face: str, label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=face, alpha=0.8, label=label)


def _part_color(name: str) -> str:
    return color({"train": 0, "val": 1, "test": 2}.get(name, 3))


def _panels(parts: Parts) -> list[Draw]:
    """Return what to draw of energies, forces, stress and sizes."""
    panels: list[Draw] = []
    energy = {name: 1000 * part.energy for name, part in parts.items()}
    for values, label in (
        (energy, "energy − references (meV/atom)"),
        ({n: p.forces for n, p in parts.items()}, "force component (eV/Å)"),
        ({n: 1000 * p.stress for n, p in parts.items()}, "stress component (meV/Å³)"),
    ):
        if any(v.size for v in values.values()):
            is_log = "component" in label
            panels.append(_histogram_panel(values, label, is_log=is_log))
    panels.append(_sizes_panel({n: p.n_atoms for n, p in parts.items()}))
    return panels


def _target_panels(parts: Parts, units: Mapping[str, str]) -> list[Draw]:
    panels: list[Draw] = []
    names = dict.fromkeys(t for part in parts.values() for t in part.targets)
    for target in list(names)[:MOST_TARGETS]:
        values = {
            name: part.targets.get(target, np.zeros(0)) for name, part in parts.items()
        }
        unit = units.get(target, "")
        label = f"{target} ({unit})" if unit else target
        panels.append(_histogram_panel(values, label, is_log=False))
    return panels


def bin_edges(values: Sequence[Values]) -> Values:
    """Return the edges of bins that hold all but the last thousandth on either side.

    Args:
        values: What is drawn together; at least one is not empty.
    """
    everything = np.concatenate(list(values))
    low, high = everything.min(), everything.max()
    if everything.size > 2 / _TAIL:
        inner = np.quantile(everything, [_TAIL, 1 - _TAIL])
        low, high = inner if inner[0] < inner[1] else (low, high)
    if high <= low:
        margin = max(abs(low) * 1e-3, 1e-6)
        low, high = low - margin, high + margin
    smallest = min(len(found) for found in values)
    n_bins = int(np.clip(2 * smallest ** (1 / 3), *N_BINS))
    return np.linspace(low, high, n_bins + 1)


def _histogram_panel(values: Mapping[str, Values], label: str, *, is_log: bool) -> Draw:
    def draw(axes: Axes) -> None:
        edges = bin_edges([v for v in values.values() if v.size])
        n_beyond = n_all = 0
        for name, found in values.items():
            if not found.size:
                continue
            counts = np.histogram(found, edges)[0]
            n_beyond += found.size - int(counts.sum())
            n_all += found.size
            _steps(axes, 100 * counts / found.size, edges, name)
        if is_log:
            axes.set_yscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel(label, fontsize="small")
        axes.set_ylabel("share per bin (%)", fontsize="small")
        if n_beyond:
            axes.text(
                0.98,
                0.96,
                f"{100 * n_beyond / n_all:.2g} % beyond",
                transform=axes.transAxes,
                ha="right",
                va="top",
                fontsize="x-small",
                color=GRAY,
            )

    return draw


def _steps(axes: Axes, heights: Values, edges: Values, name: str) -> None:
    face = _part_color(name)
    if name == "train":
        axes.stairs(heights, edges, fill=True, color=face, alpha=0.25)
    axes.stairs(heights, edges, color=face, lw=1.3)


def _sizes_panel(sizes: Mapping[str, Any]) -> Draw:
    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        low = min(int(n.min()) for n in sizes.values())
        high = max(int(n.max()) for n in sizes.values())
        width = max(1, -(-(high - low + 1) // N_BINS[1]))
        edges = np.arange(low - 0.5, high + width, width)
        if len(edges) < 2:
            edges = np.array([low - 0.5, low + 0.5])
        for name, found in sizes.items():
            counts = np.histogram(found, edges)[0]
            _steps(axes, 100 * counts / len(found), edges, name)
        if low == high:
            axes.set_xlim(low - 2, high + 2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("atoms in a system", fontsize="small")
        axes.set_ylabel("share of systems (%)", fontsize="small")

    return draw


def element_shares(headers: Mapping[str, Mapping[str, Any]]) -> dict[int, float]:
    """Return the share of the systems of all parts that hold each element, percent.

    Args:
        headers: Headers by part.
    """
    counts: dict[int, int] = {}
    for header in headers.values():
        for z, n in header["element_systems"].items():
            counts[int(z)] = counts.get(int(z), 0) + n
    total = sum(header["n_systems"] for header in headers.values())
    return {z: 100 * counts[z] / total for z in sorted(counts)}


def _bars_panel(
    headers: Mapping[str, Mapping[str, Any]], elements: Sequence[int]
) -> Draw:
    def draw(axes: Axes) -> None:
        place, width = np.arange(len(elements)), 0.8 / len(headers)
        for row, (name, header) in enumerate(headers.items()):
            counts = header["element_systems"]
            heights = [
                100 * counts.get(str(z), 0) / header["n_systems"] for z in elements
            ]
            offset = (row - (len(headers) - 1) / 2) * width
            axes.bar(place + offset, heights, width, color=_part_color(name), alpha=0.8)
        axes.set_xticks(place, [chemical_symbols[z] for z in elements])
        axes.set_xlim(-0.7, len(elements) - 0.3)
        axes.set_ylim(0, 104)
        axes.set_ylabel("systems with it (%)", fontsize="small")
        axes.set_xlabel("element", fontsize="small")

    return draw
