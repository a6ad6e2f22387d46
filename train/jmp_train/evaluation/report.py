"""What was measured as a report: JSON for programs, Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jmp_train.data.published_results import (
    FORCES,
    PublishedErrors,
    published_errors,
)
from jmp_train.evaluation.models import Measured
from jmp_train.evaluation.scores import ElementErrors, SetScores
from jmp_train.metrics import TaskErrors

_BIAS_SHARE = 0.8


def report_facts(measured: Measured, scores: Sequence[SetScores]) -> dict[str, Any]:
    """Return everything that was measured as plain data.

    Args:
        measured: The model.
        scores: What was measured on each set.
    """
    return {
        "model": measured.name,
        "origin": measured.origin,
        "sha256": measured.sha256,
        "step": measured.step,
        "sets": {score.name: _set_facts(score) for score in scores},
    }


def _set_facts(score: SetScores) -> dict[str, Any]:
    return {
        "title": score.title,
        "head": score.head,
        "level_of_theory_of_head": score.head_theory,
        "level_of_theory_of_labels": score.label_theory,
        "errors": score.errors.to_json(),
        "by_size": {key: e.to_json() for key, e in score.by_size.items()},
        "by_source": {key: e.to_json() for key, e in score.by_source.items()},
        "by_element": {
            e.symbol: {k: v for k, v in asdict(e).items() if k != "symbol"}
            for e in score.by_element
        },
        "published": {
            quantity: {**asdict(found), "measured": value}
            for quantity, found, value in compared(score)
        },
        "notes": notes(score),
    }


def compared(score: SetScores) -> list[tuple[str, PublishedErrors, float]]:
    """Return the quantities with published errors: name, these, and ours in their unit.

    Those are test errors, so that nothing stands beside errors of another part.

    Args:
        score: What was measured on a set.
    """
    errors = score.errors
    ours = []
    if errors.n_force_components:
        ours.append((FORCES, errors.force_mae_eV_per_A))
    if errors.n_targets and errors.classes is None:
        ours.append((errors.target, errors.target_mae))
    found = [(q, published_errors(score.test_of, q), value) for q, value in ours]
    return [(q, p, p.factor * value) for q, p, value in found if p is not None]


def notes(score: SetScores) -> list[str]:
    """Return what a reader of the errors of a set should know.

    Args:
        score: What was measured on it.
    """
    found = list(score.notes)
    errors = score.errors
    if score.unseen:
        found.append(
            f"head {score.head!r} was not trained on {', '.join(score.unseen)}"
        )
    if score.head_theory != score.label_theory and "not stated" not in (
        score.head_theory,
        score.label_theory,
    ):
        found.append(
            f"the labels are {score.label_theory}, head {score.head!r} was trained on "
            f"{score.head_theory}: part of the errors is the difference of the methods"
        )
    bias, mae = errors.energy_bias_meV_per_atom, errors.energy_mae_meV_per_atom
    if errors.n_energies > 1 and abs(bias) > _BIAS_SHARE * mae:
        found.append(
            f"the energy error is nearly the same everywhere ({bias:.4g} meV/atom): "
            "labels and head have different reference energies, or the head is off by "
            "a constant"
        )
    return found


def report_text(
    measured: Measured, scores: Sequence[SetScores], pictures: Mapping[str, str]
) -> str:
    """Return the report as Markdown.

    Args:
        measured: The model.
        scores: What was measured on each set.
        pictures: File of the picture of each set that has one.
    """
    origin = measured.origin
    if measured.step is not None:
        origin += f" (step {measured.step})"
    if measured.sha256:
        origin += f", SHA-256 {measured.sha256[:16]}…"
    blocks = [
        f"# Errors of {measured.name}",
        f"Weights: {origin}. MAE is the mean absolute error, RMSE the root of the mean "
        "square; a baseline is the error of a network that always says zero. Force "
        "errors are those of components on free atoms.",
    ]
    for score in scores:
        blocks += [f"## {score.title}", _facts_line(score), *_bullets(notes(score))]
        blocks.append(_errors_table(score.errors))
        blocks += [_comparison(*item) for item in compared(score)]
        if score.name in pictures:
            blocks.append(f"![predictions against labels]({pictures[score.name]})")
        blocks += _part_blocks(score)
        blocks.append(f"Every system: `predictions-{score.name}.csv`.")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _facts_line(score: SetScores) -> str:
    return (
        f"Systems: {score.errors.n_systems}; head: `{score.head}` "
        f"({score.head_theory}); labels: {score.label_theory}."
    )


def _bullets(lines: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []


def _errors_table(errors: TaskErrors) -> str:
    rows = [
        (
            *("energy, meV/atom", errors.n_energies, errors.energy_mae_meV_per_atom),
            *(errors.energy_rmse_meV_per_atom, errors.baseline_energy_mae_meV_per_atom),
        ),
        (
            *("force component, meV/Å", errors.n_force_components),
            *(1000 * errors.force_mae_eV_per_A, 1000 * errors.force_rmse_eV_per_A),
            1000 * errors.baseline_force_mae_eV_per_A,
        ),
        (
            *("stress component, meV/Å³", errors.n_stress_components),
            *(1000 * errors.stress_mae_eV_per_A3, 1000 * errors.stress_rmse_eV_per_A3),
            1000 * errors.baseline_stress_mae_eV_per_A3,
        ),
    ]
    if errors.target and errors.classes is None:
        unit = f", {errors.target_unit}" if errors.target_unit else ""
        rows.append(
            (
                *(f"{errors.target}{unit}", errors.n_targets, errors.target_mae),
                *(errors.target_rmse, errors.baseline_target_mae),
            )
        )
    body = [
        [title, str(n), *(f"{value:.4g}" for value in values)]
        for title, n, *values in rows
        if n
    ]
    blocks = []
    if body:
        blocks.append(_table(["quantity", "values", "MAE", "RMSE", "baseline"], body))
    if errors.classes is not None:
        blocks.append(_class_table(errors))
    return "\n\n".join(blocks) or "No system has labels of what the head predicts."


def _class_table(errors: TaskErrors) -> str:
    found = errors.classes
    assert found is not None
    rows = [
        ["balanced accuracy", f"{found.balanced_accuracy:.4f}"],
        ["accuracy", f"{found.accuracy:.4f}"],
        ["accuracy of the most frequent class", f"{found.baseline_accuracy:.4f}"],
        ["F1", f"{found.f1:.4f}"],
        ["ROC-AUC", f"{found.roc_auc:.4f}"],
        ["mean −log probability", f"{found.log_loss:.4f}"],
    ]
    return _table([f"{errors.target} ({found.n_systems} systems)", "score"], rows)


def _comparison(quantity: str, found: PublishedErrors, value: float) -> str:
    rows = [["**this model**", f"**{value:.4g}**"]]
    rows += [[model, f"{error:g}"] for model, error in found.values.items()]
    table = _table([f"MAE of {quantity}, {found.unit}", ""], rows)
    return (
        f"Beside published values ({found.source}):\n\n{table}\n\n"
        f"Mind the protocol: {found.protocol}"
    )


def _part_blocks(score: SetScores) -> list[str]:
    blocks = []
    if score.by_element and any(e.n for e in score.by_element):
        blocks += ["### By element", _element_table(score)]
    if len(score.by_size) > 1:
        blocks += ["### By number of atoms", _parts_table("atoms", score.by_size)]
    if len(score.by_source) > 1:
        blocks += ["### By source", _parts_table("source", score.by_source)]
    return blocks


def _element_table(score: SetScores) -> str:
    is_forces = score.errors.n_force_components > 0
    factor = 1000 if is_forces else 1
    unit = "meV/Å" if is_forces else score.errors.target_unit
    what = "atoms" if is_forces else f"systems that hold it ({score.errors.target})"

    def row(e: ElementErrors) -> list[str]:
        numbers = (e.mae, e.rmse, e.baseline)
        return [e.symbol, str(e.n), *(f"{factor * x:.4g}" for x in numbers)]

    head = ["element", what, *(f"{x}, {unit}".rstrip(", ") for x in ("MAE", "RMSE"))]
    return _table(
        [*head, "mean label" if is_forces else "baseline"],
        [*map(row, score.by_element)],
    )


_PART_COLUMNS = (
    ("energy, meV/atom", "energy_mae_meV_per_atom", 1),
    ("forces, meV/Å", "force_mae_eV_per_A", 1000),
    ("stress, meV/Å³", "stress_mae_eV_per_A3", 1000),
    ("target", "target_mae", 1),
)


def _parts_table(title: str, parts: Mapping[str, TaskErrors]) -> str:
    facts = {name: errors.to_json() for name, errors in parts.items()}
    shown = [c for c in _PART_COLUMNS if any(c[1] in found for found in facts.values())]
    rows = []
    for name, found in facts.items():
        values = [found.get(key) for _, key, _ in shown]
        texts = [
            "–" if value is None else f"{factor * value:.4g}"
            for value, (_, _, factor) in zip(values, shown, strict=True)
        ]
        if found.get("classes"):
            texts.append(f"{found['classes']['balanced_accuracy']:.4f}")
        rows.append([name, str(found["n_systems"]), *texts])
    heads = [title, "systems", *(f"{c[0]} MAE" for c in shown)]
    if any(errors.classes for errors in parts.values()):
        heads.append("balanced accuracy")
    return _table(heads, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        padded = [*row, *[""] * (len(head) - len(row))]
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines)
