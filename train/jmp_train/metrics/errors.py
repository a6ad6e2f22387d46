"""TaskErrors: what is known about the errors of a task, with units in the names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_train.metrics.classes import ClassErrors
from jmp_train.text_table import text_table

NAN = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskErrors:
    """Errors of one task; NaN where no system has the label.

    The ``baseline`` fields are those of a network that always says zero: its energy is
    that of the references and the shift, its forces and stress are zero, its target is
    the shift (usually the mean of the training labels) and the references.

    Source:
        Training specification, sections 1.9 and 3.8: force errors are means over the
        components of free atoms.
    """

    n_systems: int
    """Systems scored."""
    n_energies: int = 0
    """Systems with an energy label."""
    n_force_components: int = 0
    """Force components scored."""
    n_stress_components: int = 0
    """Stress components scored, six per system."""
    n_targets: int = 0
    """Systems with a label of the target."""
    energy_mae_eV: float = NAN
    """Mean absolute error of the energy of a system."""
    energy_rmse_eV: float = NAN
    """Root of its mean square."""
    energy_mae_meV_per_atom: float = NAN
    """Mean over systems of the absolute energy error divided by the atoms."""
    energy_rmse_meV_per_atom: float = NAN
    """Root of the mean square of the same."""
    energy_bias_meV_per_atom: float = NAN
    """Mean of the same with its sign; large if the labels have another zero."""
    force_mae_eV_per_A: float = NAN
    """Mean absolute error of a force component."""
    force_rmse_eV_per_A: float = NAN
    """Root of its mean square."""
    stress_mae_eV_per_A3: float = NAN
    """Mean absolute error of a stress component."""
    stress_rmse_eV_per_A3: float = NAN
    """Root of its mean square."""
    target: str = ""
    """What else is predicted; empty: nothing."""
    target_unit: str = ""
    """Unit of ``target_mae`` and ``target_rmse``."""
    target_mae: float = NAN
    """Mean absolute error of the target."""
    target_rmse: float = NAN
    """Root of its mean square."""
    classes: ClassErrors | None = None
    """Scores of a class head."""
    baseline_energy_mae_meV_per_atom: float = NAN
    """Energy error if the network says zero."""
    baseline_force_mae_eV_per_A: float = NAN
    """Force error if zero forces are predicted."""
    baseline_stress_mae_eV_per_A3: float = NAN
    """Stress error if zero stress is predicted."""
    baseline_target_mae: float = NAN
    """Target error if the network says zero."""
    loss: float = NAN
    """Weighted sum of the mean errors in network units, as in training: absolute errors
    of energy, stress and target, lengths of force errors (mean inside each system
    first), and minus the logarithm of the probability of the right class."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file or log: nothing without labels, no NaN.

        An error that is not finite, because a prediction is not, becomes None.
        """
        return {
            key: _finite(value)
            for key, value in asdict(self).items()
            if value not in (None, "") and self._is_known(key)
        }

    def _is_known(self, key: str) -> bool:
        counts = {
            "energy": self.n_energies,
            "force": self.n_force_components,
            "stress": self.n_stress_components,
            "target": self.n_targets and self.classes is None,
        }
        quantity = key.removeprefix("baseline_").split("_")[0]
        if key in ("target", "target_unit"):
            return True
        return bool(counts.get(quantity, 1))

    def monitored(self, name: str) -> float:
        """Return the error by which a run may be stopped; lower is better.

        A class head has as its target error one minus the balanced accuracy.

        Args:
            name: ``energy`` (meV/atom), ``forces`` (eV/Å), ``stress`` (eV/Å³),
                ``target`` (its unit) or ``loss`` (network units).

        Raises:
            ArgumentError: If there is no such error, or nothing to measure it on.
        """
        counts = {
            "energy": self.n_energies,
            "forces": self.n_force_components,
            "stress": self.n_stress_components,
            "target": self.n_targets,
            "loss": self.n_systems,
        }
        if name not in counts:
            raise ArgumentError(
                f"monitor is {name!r}; choose one of {', '.join(counts)}"
                + did_you_mean(name, counts)
            )
        if not counts[name]:
            known = ", ".join(key for key, n in counts.items() if n)
            raise ArgumentError(
                f"monitor is {name!r}, but the systems that are scored have no such "
                f"labels; monitor {known or 'nothing'}"
            )
        target = self.target_mae
        if self.classes is not None:
            target = 1 - self.classes.balanced_accuracy
        return {
            "energy": self.energy_mae_meV_per_atom,
            "forces": self.force_mae_eV_per_A,
            "stress": self.stress_mae_eV_per_A3,
            "target": target,
            "loss": self.loss,
        }[name]


def _finite(value: Any) -> Any:
    """Return plain data in which numbers that JSON does not know are None."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def error_line(facts: Mapping[str, Any]) -> str:
    """Return the main errors of a task in a few words with units.

    Args:
        facts: What :meth:`TaskErrors.to_json` returned.
    """
    unit = facts.get("target_unit", "")
    target = facts.get("target", "")
    parts = [
        f"{title} {'not finite' if value is None else format(factor * value, style)}"
        f" {unit_of}".rstrip()
        for title, key, factor, style, unit_of in (
            ("E", "energy_mae_meV_per_atom", 1, ".1f", "meV/atom"),
            ("F", "force_mae_eV_per_A", 1000, ".1f", "meV/Å"),
            ("stress", "stress_mae_eV_per_A3", 1000, ".2f", "meV/Å³"),
            (target, "target_mae", 1, ".4g", unit),
        )
        if (value := facts.get(key, _ABSENT)) is not _ABSENT
    ]
    if "classes" in facts:
        score = facts["classes"]["balanced_accuracy"]
        parts.append(f"{target} balanced accuracy {score:.3f}")
    return ", ".join(parts) or "no labels"


_ABSENT: Any = object()
_Column = tuple[str, str, float, str]
_COLUMNS: tuple[_Column, ...] = (
    ("energy eV", "energy_mae_eV", 1, ".4f"),
    ("energy meV/atom", "energy_mae_meV_per_atom", 1, ".2f"),
    ("(baseline)", "baseline_energy_mae_meV_per_atom", 1, ".2f"),
    ("forces meV/Å", "force_mae_eV_per_A", 1000, ".2f"),
    ("(baseline)", "baseline_force_mae_eV_per_A", 1000, ".2f"),
    ("stress meV/Å³", "stress_mae_eV_per_A3", 1000, ".3f"),
    ("(baseline)", "baseline_stress_mae_eV_per_A3", 1000, ".3f"),
    ("target", "target_mae", 1, ".4g"),
    ("(baseline)", "baseline_target_mae", 1, ".4g"),
)


def error_table(errors: Mapping[str, TaskErrors]) -> str:
    """Return mean absolute errors as a table of text, with the columns that are known.

    Args:
        errors: By task.
    """
    facts = {name: error.to_json() for name, error in errors.items()}
    columns = [
        column for column in _COLUMNS if any(column[1] in f for f in facts.values())
    ]
    rows = [["task", "systems", *(title for title, *_ in columns)]]
    for name, found in facts.items():
        row = [name, str(found["n_systems"])]
        for _, key, factor, style in columns:
            value = found.get(key)
            text = "–" if value is None else format(factor * value, style)
            if key == "target_mae" and value is not None:
                text += " " + found.get("target_unit", "")
            row.append(text.rstrip())
        rows.append(row)
    table = text_table(rows, is_number=[True] * len(rows[0]))
    return "\n".join([table, *_class_lines(errors)])


def _class_lines(errors: Mapping[str, TaskErrors]) -> list[str]:
    return [
        f"{name}: {error.target or 'classes'}: balanced accuracy "
        f"{score.balanced_accuracy:.4f}, accuracy {score.accuracy:.4f} (most frequent "
        f"class: {score.baseline_accuracy:.4f}), F1 {score.f1:.4f}, ROC-AUC "
        f"{score.roc_auc:.4f}"
        for name, error in errors.items()
        if (score := error.classes) is not None
    ]
