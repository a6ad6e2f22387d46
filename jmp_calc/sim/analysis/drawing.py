"""Pictures of the results of an analysis."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jmp_calc.pictures import GRAY, color, dashes, legend_above, new_figure, tidy
from jmp_calc.sim.analysis.sections import Section
from jmp_calc.units import PER_CM_PER_THZ

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = 8
"""Curves in one picture; the CSV has all."""
MOST_DRAWN = 2000
"""Points of a curve, so that pictures stay small."""


def draw_section(section: Section) -> Figure:
    """Return the picture of a result.

    Args:
        section: A result with curves.
    """
    if section.key == "energy":
        return _draw_energy(section)
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    tidy(axes)
    _DRAWERS[section.key](axes, section)
    _, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        legend_above(axes, columns=5)
    return figure


def _draw_distances(axes: Axes, section: Section) -> None:
    symbol, unit = ("g", "") if section.key == "rdf" else ("h", "_per_A")
    r = section.columns["r_A"]
    pairs = _names(section, f"{symbol}_(.+){unit}")
    for place, (pair, curve) in enumerate(list(pairs.items())[:MOST_CURVES]):
        width = 1.8 if pair == "total" else 1.1
        axes.plot(r, curve, c=color(place), lw=width, label=pair)
        error = section.columns.get(f"error_{pair}{unit}")
        if error is not None:
            low, high = curve - error, curve + error
            axes.fill_between(r, low, high, color=color(place), alpha=0.25, lw=0)
    _draw_reference(axes, section, {k: f"reference_{k}{unit}" for k in pairs})
    if symbol == "g":
        axes.axhline(1.0, color=GRAY, lw=0.8, ls=":")
    axes.set_xlabel("r (Å)")
    axes.set_ylabel("g(r)" if symbol == "g" else "h(r) (Å⁻¹)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, _last_filled(r, list(pairs.values())))


def _draw_reference(axes: Axes, section: Section, columns: Mapping[str, str]) -> None:
    """Draw dashed curves in the order and the darker colours of the others."""
    x = next(iter(section.columns.values()))
    is_there = False
    for place, name in enumerate(list(columns.values())[:MOST_CURVES]):
        if name in section.columns:
            axes.plot(x, section.columns[name], c="black", lw=1.0, ls="--")
            axes.plot(x, section.columns[name], c=color(place), lw=0.7, ls="--")
            is_there = True
    if is_there:
        axes.plot([], [], c="black", lw=1.0, ls="--", label="reference")


def _draw_msd(axes: Axes, section: Section) -> None:
    time = section.columns["time_ps"]
    for place, (name, curve) in enumerate(_names(section, "msd_(.+)_A2").items()):
        axes.plot(time[1:], curve[1:], c=color(place), label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    start, stop = section.marks["fit from"], section.marks["fit to"]
    axes.axvspan(start, stop, color=GRAY, alpha=0.15, lw=0, label="fit")
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("mean squared displacement (Å²)")


def _draw_vacf(axes: Axes, section: Section) -> None:
    time = section.columns["time_ps"]
    for place, (name, curve) in enumerate(_names(section, "vacf_(.+)").items()):
        axes.plot(time, curve, c=color(place), lw=1.0, ls=dashes(place), label=name)
    axes.axhline(0.0, color=GRAY, lw=0.8, ls=":")
    axes.set_xlabel("time (ps)")
    axes.set_ylabel("velocity autocorrelation")


def _draw_vdos(axes: Axes, section: Section) -> None:
    frequency = section.columns["frequency_THz"]
    for place, (name, curve) in enumerate(_names(section, "vdos_(.+)_per_THz").items()):
        if name == "total":
            axes.fill_between(frequency, 0, curve, color="#d8d8d8", lw=0)
            axes.plot(frequency, curve, c="black", lw=1.1, label=name)
        else:
            axes.plot(frequency, curve, c=color(place - 1), lw=1.1, label=name)
    total = section.columns["vdos_total_per_THz"]
    seen = np.flatnonzero(total > 0.005 * total.max())
    axes.set_xlim(0, 1.05 * frequency[seen[-1]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frequency (THz; below: cm⁻¹)")
    axes.set_ylabel("density of states (THz⁻¹)")
    below = axes.secondary_xaxis(
        -0.16,
        functions=(_per_cm, _thz),
    )
    below.tick_params(labelsize="small", colors=GRAY)
    axes.xaxis.set_label_coords(0.5, -0.27)


def _per_cm(frequency_THz: Any) -> Any:
    return frequency_THz * PER_CM_PER_THZ


def _thz(frequency_per_cm: Any) -> Any:
    return frequency_per_cm / PER_CM_PER_THZ


def _draw_histogram(axes: Axes, section: Section) -> None:
    (abscissa, x), *_ = section.columns.items()
    unit = "A" if abscissa == "length_A" else "degree"
    curves = {
        kind: curve
        for kind, curve in _names(section, rf"(.+)_per_{unit}").items()
        if not kind.startswith("reference_")
    }
    for place, (kind, curve) in enumerate(list(curves.items())[:MOST_CURVES]):
        axes.plot(x, curve, c=color(place), lw=1.3, label=kind)
        axes.fill_between(x, 0, curve, color=color(place), alpha=0.12, lw=0)
    _draw_reference(axes, section, {k: f"reference_{k}_per_{unit}" for k in curves})
    axes.set_ylim(bottom=0)
    if unit == "A":
        axes.set_xlabel("bond length (Å)")
        axes.set_ylabel("density (Å⁻¹)")
    else:
        axes.set_xlabel("angle (degrees)")
        axes.set_ylabel("density (degree⁻¹)")


def _draw_stability(axes: Axes, section: Section) -> None:
    (abscissa, time), (_, stretch) = section.columns.items()
    x, y = _spread(time, stretch)
    axes.plot(x, y, c=color(0), lw=1.0)
    limit = section.marks["limit"]
    axes.axhline(limit, color=color(1), lw=1.2, ls="--")
    axes.annotate(
        "broken above",
        (0.01, limit),
        xycoords=("axes fraction", "data"),
        va="bottom",
        fontsize="small",
        color=color(1),
    )
    axes.set_ylim(
        bottom=min(1.0, float(stretch.min())),
        top=max(1.1 * limit, 1.05 * float(stretch.max())),
    )
    axes.set_xlabel("time (ps)" if abscissa == "time_ps" else "frame")
    axes.set_ylabel("longest bond / equilibrium")


def _draw_energy(section: Section) -> Figure:
    (abscissa, time), *_ = section.columns.items()
    panels = [
        panel
        for panel in (
            ("temperature (K)", {"temperature_K": ""}),
            ("energy change (eV)", _ENERGY_LABELS),
            ("pressure (GPa)", {"pressure_GPa": ""}),
            ("volume (Å³)", {"volume_A3": ""}),
        )
        if any(name in section.columns for name in panel[1])
    ]
    figure = new_figure(7.2, 1.2 + 2.0 * len(panels))
    rows = np.atleast_1d(figure.subplots(len(panels), 1, sharex=True))
    for axes, (label, names) in zip(rows, panels, strict=True):
        tidy(axes)
        for place, (name, text) in enumerate(names.items()):
            if name not in section.columns:
                continue
            curve = section.columns[name]
            curve = curve - curve[0] if name in _ENERGY_LABELS else curve
            x, y = _spread(time, curve)
            axes.plot(x, y, c=color(place), lw=0.9, label=text or None)
        axes.set_ylabel(label)
        for start in section.marks.values():
            axes.axvspan(time[0], start, color=GRAY, alpha=0.15, lw=0)
        if names is _ENERGY_LABELS:
            legend_above(axes)
        axes.margins(x=0.01)
    rows[-1].set_xlabel("time (ps)" if abscissa == "time_ps" else "frame")
    return figure


def _names(section: Section, pattern: str) -> dict[str, np.ndarray]:
    found = {}
    for name, curve in section.columns.items():
        if match := re.fullmatch(pattern, name):
            found[match.group(1)] = curve
    return found


def _last_filled(r: np.ndarray, curves: list[np.ndarray]) -> float:
    filled = np.flatnonzero(np.any(np.array(curves) > 0, axis=0))
    return (
        float(r[min(int(filled[-1]) + 5, len(r) - 1)]) if len(filled) else float(r[-1])
    )


def _spread(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a long curve by the least and the largest value of short parts."""
    if len(x) <= MOST_DRAWN:
        return x, y
    size = -(-2 * len(x) // MOST_DRAWN)
    number = len(x) // size
    parts = y[: number * size].reshape(number, size)
    places = size * np.arange(number)[:, None] + np.sort(
        np.column_stack([parts.argmin(axis=1), parts.argmax(axis=1)]), axis=1
    )
    return x[places.ravel()], y[places.ravel()]


_ENERGY_LABELS = {
    "potential_energy_eV": "potential",
    "total_energy_eV": "total",
    "conserved_energy_eV": "conserved",
}
_DRAWERS: dict[str, Callable[[Axes, Section], None]] = {
    "rdf": _draw_distances,
    "distances": _draw_distances,
    "msd": _draw_msd,
    "vacf": _draw_vacf,
    "vdos": _draw_vdos,
    "stability": _draw_stability,
    "bonds": _draw_histogram,
    "angles": _draw_histogram,
}
