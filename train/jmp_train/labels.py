"""Which labels the stores of a run have, and whether the run can be trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jmp_calc.errors import DataError, did_you_mean
from jmp_calc.units import CODATA
from jmp_train.config import TaskConfig, TrainConfig
from jmp_train.normalize import TaskStatistics
from jmp_train.text_table import text_table

Headers = Mapping[str, Mapping[str, Any]]
"""Headers of stores by name of the task."""

MAX_FORCE_RMS = 15.0
"""Root mean square of force components above which units are doubted, eV/Å. Hot
molecules have about 1, and 24 if it is in kcal/mol/Å."""
MIN_FORCE_RMS = 1e-4
"""Likewise, below which."""
MAX_RATIO = 50.0
"""Force scale over energy scale above which their units are doubted, 1/Å. Published
sets have 0.01 (OC22) to about 5 (rMD17)."""

FREE_ATOMS_HARTREE = {
    6: -37.85,
    7: -54.58,
    8: -75.06,
    9: -99.72,
    14: -289.37,
    15: -341.26,
    16: -398.11,
    17: -460.15,
}
"""All-electron energies of free atoms, hartree, to see which unit references have.

Source:
    B3LYP energies, as in the atom references of QM9 for C to F; other functionals
    differ by less than 1 %.
"""

_MAX_NAMES = 4
_SAME_ENERGY = 0.03
_DASH = "–"


def label_table(headers: Headers) -> str:
    """Return a table of the labels of stores: how many systems have each.

    Args:
        headers: Headers of the stores, by the name to be shown.
    """
    rows: list[tuple[str, ...]] = [
        ("labels", "systems", "mean atoms", "energy", "forces", "stress", "targets")
    ]
    for name, header in headers.items():
        n, labels = int(header["n_systems"]), dict(header["labels"])
        atoms = header["statistics"]["mean_atoms"]
        own = [_share(labels.pop(key, 0), n) for key in ("energy", "forces", "stress")]
        rows.append(
            (
                name,
                str(n),
                f"{atoms:.1f}",
                *own,
                _targets(labels, n),
            )
        )
    return text_table(rows, is_number=(False, True, True))


def _share(count: int, total: int) -> str:
    """Return how many of all, in words as short as they can be."""
    if count in (0, total):
        return "all" if count else _DASH
    percent = min(max(100 * count / total, 0.1), 99.9)
    return f"{percent:.1f} %"


def _targets(labels: Mapping[str, int], n: int) -> str:
    if not labels:
        return _DASH
    shown = [
        name if count == n else f"{name} ({_share(count, n)})"
        for name, count in list(labels.items())[:_MAX_NAMES]
    ]
    rest = len(labels) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def wanted_labels(task: TaskConfig) -> list[str]:
    """Return the labels that a task is trained on.

    Args:
        task: What is predicted, and the weights of the terms of the loss.
    """
    if task.kind != "energy_forces":
        return [] if task.target is None else [task.target]
    wanted = []
    if task.energy_weight > 0:
        wanted.append("energy")
    if task.forces is not None and task.force_weight != 0:
        wanted.append("forces")
    if task.stress_weight > 0:
        wanted.append("stress")
    return wanted


def check_labels(config: TrainConfig, headers: Headers) -> list[str]:
    """Check that a run has the labels it is to learn; return what to warn of.

    Args:
        config: The run.
        headers: Headers of the stores of the training part, by task.

    Raises:
        DataError: If no system of a task has a label that is trained on; the text
            lists the labels that there are.
    """
    warnings: list[str] = []
    for task in config.data.tasks:
        header = headers[task.name]
        labels, n = header["labels"], int(header["n_systems"])
        for name in wanted_labels(task):
            count = int(labels.get(name, 0))
            if count == 0:
                raise DataError(_absent(task, name, labels))
            if count < n:
                warnings.append(
                    f"task {task.name!r}: {n - count} of {n} systems "
                    f"({100 * (n - count) / n:.2g} %) have no label {name!r}; they "
                    "count in the other terms of the loss only"
                )
        if task.kind == "energy_forces":
            warnings += unit_warnings(task.name, header)
    return warnings


def _absent(task: TaskConfig, name: str, labels: Mapping[str, int]) -> str:
    found = [key for key, count in labels.items() if count]
    kind = f"{name} labels" if name in ("energy", "forces", "stress") else f"{name!r}"
    return (
        f"task {task.name!r} is to learn {kind}, but no system of its training part "
        f"has any; labels found: {', '.join(found) or 'none'}"
        + did_you_mean(name, found)
    )


def unit_warnings(name: str, header: Mapping[str, Any]) -> list[str]:
    """Return what makes the units of energies and forces doubtful, as sentences.

    Args:
        name: What the set is called.
        header: Of its store.
    """
    statistics = TaskStatistics.from_json(header["statistics"])
    rms, spread = statistics.force_rms, statistics.energy_std
    found = []
    if statistics.n_forces and not MIN_FORCE_RMS <= rms <= MAX_FORCE_RMS:
        found.append(
            f"the root mean square of the force components is {rms:.3g} eV/Å, which is "
            f"implausibly {'large' if rms > 1 else 'small'}"
        )
    elif _has_spread(statistics) and rms > MAX_RATIO * spread:
        found.append(
            f"forces of {rms:.3g} eV/Å are implausibly large beside a spread of the "
            f"energies of {spread:.3g} eV"
        )
    unit = _unit_of_references(statistics.references)
    if unit:
        found.append(f"energies per element are those of free atoms in {unit}")
    advice = "check that the labels were in eV and eV/Å, or convert them"
    return [f"task {name!r}: {text}; {advice}" for text in found]


def _has_spread(statistics: TaskStatistics) -> bool:
    """Return whether energies vary beyond what references can fit exactly."""
    enough = 2 * len(statistics.elements) + 10
    return statistics.n_forces > 0 and statistics.n_energies > enough


def _unit_of_references(references: Mapping[int, float]) -> str | None:
    """Return the unit that makes energies those of free atoms, if it is not eV."""
    known = set(references) & set(FREE_ATOMS_HARTREE)
    factors = {"hartree": 1.0, "kcal/mol": CODATA.hartree / CODATA.kcal_per_mol}
    for unit, factor in factors.items():
        is_unit = [
            abs(references[z] / (FREE_ATOMS_HARTREE[z] * factor) - 1) < _SAME_ENERGY
            for z in known
        ]
        if is_unit and all(is_unit):
            return unit
    return None
