"""Report on a prepared set: a table for people, JSON for programs, and a picture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from jmp_calc.files import replace_text, replacing
from jmp_train.data.store import Store
from jmp_train.labels import label_table, unit_warnings
from jmp_train.normalize import TargetStatistics, TaskStatistics
from jmp_train.prepare.summary import (
    Distributions,
    Values,
    distributions,
    train_references,
)
from jmp_train.text_table import text_table

if TYPE_CHECKING:
    from jmp_train.prepare.pipeline import PreparedSet

TEXT, JSON, PICTURE, SKIPPED = "report.txt", "report.json", "report.png", "skipped.tsv"
"""Names of the files in the folder of a report."""

_QUANTILES = (0.0, 0.01, 0.5, 0.99, 1.0)
_MOST_REASONS = 20
_DASH = "–"


def write_report(
    prepared: PreparedSet, work: Path, *, has_picture: bool = True
) -> None:
    """Write the report on a set into its folder.

    Args:
        prepared: The set; its stores are in place.
        work: Folder with the lists of what was skipped.
        has_picture: Draw the distributions.

    Raises:
        DataError: If a store is damaged, or a file cannot be written.
    """
    headers: dict[str, dict[str, Any]] = {s.split: s.header for s in prepared.stores}
    references = train_references(headers)
    parts: dict[str, Distributions] = {
        store.split: distributions(Store(store.path), references)
        for store in prepared.stores
    }
    folder = prepared.report
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / SKIPPED) as new, new.open("wb") as out:
        out.write(b"where\twhy\n")
        for path in sorted(work.glob("part-*.skipped.tsv")):
            with path.open("rb") as lines:
                shutil.copyfileobj(lines, out)
    replace_text(folder / TEXT, report_text(prepared, parts) + "\n")
    facts = _facts(prepared, parts)
    replace_text(folder / JSON, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if has_picture:
        from jmp_train.prepare.picture import draw_set

        draw_set(parts, headers, folder / PICTURE, title=prepared.facts.title)


def report_text(prepared: PreparedSet, parts: Mapping[str, Distributions]) -> str:
    """Return the report as text.

    Args:
        prepared: The set.
        parts: Values by part.
    """
    facts, headers = prepared.facts, {s.path.name: s.header for s in prepared.stores}
    lines = {
        "set": f"{facts.name}: {facts.title}",
        "theory": facts.level_of_theory,
        "licence": facts.licence,
        "citation": facts.citation,
        "stores": f"{', '.join(headers)} in {prepared.stores[0].path.parent}",
    }
    header = prepared.stores[0].header
    targets = TaskStatistics.from_json(header["statistics"]).targets
    blocks = [
        "\n".join(f"{key:9s}{text}" for key, text in lines.items() if text),
        label_table(headers),
        _value_table(headers, list(parts.values())),
        _elements_text(list(headers.values())),
        target_table(targets, facts.target_units) if targets else "",
        _skipped_text(prepared.skipped),
        *(f"note: {text}" for text in prepared.notes),
        *(f"warning: {text}" for text in set_warnings(prepared)),
    ]
    return "\n\n".join(block for block in blocks if block)


def set_warnings(prepared: PreparedSet) -> list[str]:
    """Return what makes the units of a set doubtful, as sentences.

    Args:
        prepared: The set.
    """
    return unit_warnings(prepared.facts.name, prepared.stores[0].header)


def _value_table(
    headers: Mapping[str, Mapping[str, Any]], parts: list[Distributions]
) -> str:
    rows: list[tuple[str, ...]] = [
        (
            "values",
            "atoms",
            "sigma_E eV",
            "E-ref meV/atom",
            "sigma_F eV/Å",
            "largest F",
            "rms stress eV/Å³",
        )
    ]
    for (name, header), part in zip(headers.items(), parts, strict=True):
        s = header["statistics"]
        rows.append(
            (
                name,
                _range(part.n_atoms, 1.0, ".0f"),
                f"{s['energy_std']:.4f}" if s["n_energies"] else _DASH,
                _range(part.energy, 1000.0, ".0f"),
                f"{s['force_rms']:.4f}" if s["n_forces"] else _DASH,
                f"{np.abs(part.forces).max():.2f}" if part.forces.size else _DASH,
                f"{s['stress_rms']:.3g}" if header["labels"].get("stress") else _DASH,
            )
        )
    note = ""
    if any(part.n_read < len(part.n_atoms) for part in parts):
        most = max(part.n_read for part in parts)
        note = f"\n(ranges of energies and forces: of {most} evenly spaced systems)"
    shown = [k for k in range(len(rows[0])) if {row[k] for row in rows[1:]} != {_DASH}]
    return text_table([[row[k] for k in shown] for row in rows]) + note


def _range(values: Any, factor: float, form: str) -> str:
    if not len(values):
        return _DASH
    low, high = factor * values.min(), factor * values.max()
    return f"{low:{form}}" if low == high else f"{low:{form}} to {high:{form}}"


def _elements_text(headers: list[Mapping[str, Any]]) -> str:
    counts: dict[int, int] = {}
    for header in headers:
        for z, n in header["element_systems"].items():
            counts[int(z)] = counts.get(int(z), 0) + n
    words = [f"{chemical_symbols[z]} {counts[z]}" for z in sorted(counts)]
    return f"elements, and systems that hold them\n  {'  '.join(words)}"


def target_table(
    targets: Mapping[str, TargetStatistics], units: Mapping[str, str]
) -> str:
    """Return the statistics of targets as a table of text.

    Args:
        targets: They, by name.
        units: Their units.
    """
    rows = [("targets", "unit", "systems", "mean", "std", "std without references")]
    rows += [
        (
            name,
            units.get(name, ""),
            str(found.n),
            f"{found.mean:.5g}",
            f"{found.std:.4g}",
            f"{found.referenced_std:.4g}",
        )
        for name, found in targets.items()
    ]
    return text_table(rows, is_number=(False, False, True, True, True, True))


def _skipped_text(skipped: Mapping[str, int]) -> str:
    if not skipped:
        return "nothing was skipped"
    most = list(skipped.items())[:_MOST_REASONS]
    lines = [f"skipped {sum(skipped.values())} systems (each is listed in {SKIPPED})"]
    lines += [f"  {count:8d}  {reason}" for reason, count in most]
    if len(skipped) > len(most):
        lines.append(f"  and for {len(skipped) - len(most)} more reasons")
    return "\n".join(lines)


def _facts(prepared: PreparedSet, parts: Mapping[str, Distributions]) -> dict[str, Any]:
    return {
        "name": prepared.facts.name,
        "title": prepared.facts.title,
        "skipped": prepared.skipped,
        "notes": list(prepared.notes),
        "warnings": set_warnings(prepared),
        "parts": {
            store.split: {
                "store": store.path.name,
                **{
                    key: store.header[key]
                    for key in (
                        "n_systems",
                        "fingerprint",
                        "labels",
                        "element_systems",
                        "statistics",
                    )
                },
                "n_read": parts[store.split].n_read,
                "quantiles": _quantiles(parts[store.split]),
            }
            for store in prepared.stores
        },
    }


def _quantiles(part: Distributions) -> dict[str, Any]:
    """Return smallest, 1 %, median, 99 % and largest value of everything."""
    values: dict[str, Values] = {
        "n_atoms": part.n_atoms.astype(np.float64),
        "energy_minus_references_eV_per_atom": part.energy,
        "force_component_eV_per_A": part.forces,
        "stress_component_eV_per_A3": part.stress,
        **{f"target:{name}": found for name, found in part.targets.items()},
    }
    return {
        name: np.quantile(found, _QUANTILES).tolist()
        for name, found in values.items()
        if found.size
    }
