from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from jmp_calc.errors import ArgumentError
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TaskConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.metrics import (
    BatchPrediction,
    ErrorMeter,
    TaskErrors,
    error_line,
    error_table,
)
from jmp_train.recipes.smoke import TINY
from toys.batches import (
    energies,
    energy_head,
    silicon,
    targets,
    toy_model,
    water,
)
from toys.training import RULES

Scored = tuple[TrainingBatch, BatchPrediction]


def measure(
    *scored: Scored, tasks: Sequence[TaskConfig] = (), model: JMPModel | None = None
) -> TaskErrors:
    meter = ErrorMeter(model or toy_model(), {task.name: task for task in tasks})
    for batch, prediction in scored:
        meter.add(batch, prediction)
    (errors,) = meter.errors().values()
    return errors


def test_energy_errors_are_those_computed_by_hand() -> None:
    errors = measure((water(), energies(-127.0, 1.0)), (water(), energies(-131.0, 2.0)))
    assert (errors.n_systems, errors.n_energies) == (2, 2)
    assert errors.energy_mae_eV == pytest.approx((3 + 1) / 2)
    assert errors.energy_rmse_eV == pytest.approx(math.sqrt((9 + 1) / 2))
    assert errors.energy_mae_meV_per_atom == pytest.approx(2000 / 3)
    assert errors.energy_rmse_meV_per_atom == pytest.approx(1000 * math.sqrt(5) / 3)
    assert errors.energy_bias_meV_per_atom == pytest.approx(1000 / 3)


def test_force_errors_are_those_computed_by_hand() -> None:
    errors = measure((water(), energies(-130.0, 1.0)), (water(), energies(-130.0, 2.0)))
    assert errors.n_force_components == 18
    # |1-1|+|2-1|+|3-1| = 3, then |1-2|+|2-2|+|3-2| = 2
    assert errors.force_mae_eV_per_A == pytest.approx((3 + 2) / 18)
    assert errors.force_rmse_eV_per_A == pytest.approx(math.sqrt((5 + 2) / 18))


def test_the_baselines_are_a_network_that_says_zero() -> None:
    errors = measure((water(), energies(0.0, 0.0)))
    # the references alone give -120 eV
    assert errors.baseline_energy_mae_meV_per_atom == pytest.approx(1e4 / 3)
    assert errors.baseline_force_mae_eV_per_A == pytest.approx(6 / 9)


def test_the_shift_of_a_head_belongs_to_the_baseline() -> None:
    model = JMPModel(TINY, [replace(energy_head("qm7x"), energy_shift=-9.0)])
    errors = measure((water(), energies(0.0, 0.0)), model=model)
    assert errors.baseline_energy_mae_meV_per_atom == pytest.approx(1000 / 3)


def test_forces_on_fixed_atoms_are_not_scored() -> None:
    batch = replace(water(), is_fixed=torch.tensor([True, False, False]))
    errors = measure((batch, energies(-130.0, 2.0)))
    assert errors.n_force_components == 6
    assert errors.force_mae_eV_per_A == pytest.approx(1 / 6)


def test_stress_errors_are_means_over_six_components() -> None:
    predicted = energies(-100.0, 0.0, n_atoms=2)
    batch = silicon()
    zero = replace(predicted, stress=torch.zeros_like(batch.stress))
    errors = measure((batch, zero))
    assert errors.n_stress_components == 6
    assert errors.stress_mae_eV_per_A3 == pytest.approx(0.01 * 21 / 6)
    assert errors.stress_rmse_eV_per_A3 == pytest.approx(0.01 * math.sqrt(91 / 6))
    assert errors.baseline_stress_mae_eV_per_A3 == pytest.approx(0.01 * 21 / 6)


def test_target_errors_have_the_unit_of_the_target() -> None:
    errors = measure(
        (water("gap", target=6.0), targets(7.0)),
        (water("gap", target=5.0), targets(2.0)),
    )
    assert (errors.target, errors.target_unit, errors.n_targets) == ("gap", "eV", 2)
    assert errors.target_mae == pytest.approx((1 + 3) / 2)
    assert errors.target_rmse == pytest.approx(math.sqrt((1 + 9) / 2))
    # shift 1, references 2 * 0.5 + 2
    assert errors.baseline_target_mae == pytest.approx((2 + 1) / 2)


def test_classes_of_two_are_scored_by_the_probability_of_the_second() -> None:
    found = (((0, 0.2)), (0, 0.6), (1, 0.9), (1, 0.55))
    pairs = [
        (replace(water("metal", target=label), index=torch.tensor([i])), targets(p))
        for i, (label, p) in enumerate(found)
    ]
    errors = measure(*pairs)
    assert errors.classes is not None
    assert errors.classes.confusion == ((1, 1), (0, 2))
    assert errors.classes.balanced_accuracy == pytest.approx(0.75)
    assert errors.classes.roc_auc == pytest.approx(3 / 4)
    likelihood = 0.8 * 0.4 * 0.9 * 0.55
    assert errors.classes.log_loss == pytest.approx(-math.log(likelihood) / 4)
    assert math.isnan(errors.target_mae)


def test_of_several_classes_the_most_probable_is_predicted() -> None:
    errors = measure(
        (water("phase", target=2.0), targets(0.1, 0.2, 0.7)),
        (water("phase", target=0.0), targets(0.3, 0.6, 0.1)),
    )
    assert errors.classes is not None
    assert errors.classes.confusion == ((0, 1, 0), (0, 0, 0), (0, 0, 1))
    assert errors.classes.log_loss == pytest.approx(-math.log(0.7 * 0.3) / 2)


def test_systems_without_a_label_do_not_count_for_it() -> None:
    without = replace(
        water(),
        energy=torch.tensor([math.nan], dtype=torch.float64),
        has_energy=torch.tensor([False]),
        forces=torch.full((3, 3), math.nan, dtype=torch.float64),
        has_forces=torch.tensor([False]),
    )
    errors = measure((without, energies(5.0, 5.0)), (water(), energies(-127.0, 1.0)))
    assert (errors.n_systems, errors.n_energies) == (2, 1)
    assert errors.energy_mae_eV == pytest.approx(3.0)
    assert errors.force_mae_eV_per_A == pytest.approx(3 / 9)


def test_what_has_no_labels_is_not_in_the_file() -> None:
    without = replace(
        water(),
        forces=torch.full((3, 3), math.nan, dtype=torch.float64),
        has_forces=torch.tensor([False]),
    )
    errors = measure((without, energies(-130.0, 0.0)))
    assert math.isnan(errors.force_mae_eV_per_A)
    facts = errors.to_json()
    assert facts["energy_mae_eV"] == 0.0
    assert not [key for key in facts if key.endswith(("eV_per_A", "_A3", "_mae"))]


def test_a_prediction_that_is_not_finite_is_valid_json() -> None:
    facts = measure((water(), energies(math.inf, math.nan))).to_json()
    assert json.loads(json.dumps(facts, allow_nan=False))["force_mae_eV_per_A"] is None
    assert "F not finite" in error_line(facts)


def test_errors_can_be_counted_under_more_than_the_task() -> None:
    meter = ErrorMeter(toy_model())
    for size, energy in (("small", -129.0), ("large", -125.0)):
        meter.add(water(), energies(energy, 0.0), [("qm7x", size)])
    errors = meter.errors()
    assert errors["qm7x", "small"].energy_mae_eV == pytest.approx(1)
    assert errors["qm7x", "large"].energy_mae_eV == pytest.approx(5)


def test_the_loss_is_the_weighted_sum_in_network_units() -> None:
    task = TaskConfig(name="qm7x", graph=RULES, energy_weight=3.0, force_weight=7.0)
    predicted = energies(-127.0, 1.0)
    assert predicted.forces is not None
    predicted.forces[1, 1] = 1.0  # errors of 0, sqrt(2) and 2 eV/Å
    errors = measure((water(), predicted), tasks=[task])
    wanted = 3 * 3.0 / 2 + 7 * (math.sqrt(2) + 2) / 3 / 2
    assert errors.loss == pytest.approx(wanted)


def test_the_force_weight_is_the_mean_number_of_atoms_if_it_is_not_given() -> None:
    task = TaskConfig(name="qm7x", graph=RULES, energy_weight=0.0)
    errors = measure((water(), energies(-127.0, 2.0)), tasks=[task])
    assert errors.loss == pytest.approx(3 * (1 + 0 + 1) / 3 / 2)


def test_the_loss_of_a_target_is_in_network_units() -> None:
    task = TaskConfig(
        name="gap", graph=RULES, kind="scalar", forces=None, target_weight=5.0
    )
    errors = measure((water("gap", target=6.0), targets(7.0)), tasks=[task])
    assert errors.loss == pytest.approx(5 * 1 / 2)


def test_the_monitored_error_is_the_one_that_is_named() -> None:
    errors = measure((water(), energies(-127.0, 1.0)))
    assert errors.monitored("energy") == pytest.approx(1000.0)
    assert errors.monitored("forces") == pytest.approx(3 / 9)


def test_a_class_head_is_monitored_by_its_balanced_accuracy() -> None:
    errors = measure(
        (water("metal", target=1.0), targets(0.9)),
        (water("metal", target=0.0), targets(0.8)),
    )
    assert errors.monitored("target") == pytest.approx(0.5)


def test_an_unknown_monitor_is_an_error_with_a_suggestion() -> None:
    errors = measure((water(), energies(-127.0, 1.0)))
    with pytest.raises(ArgumentError, match=r"choose one of .*did you mean 'forces'"):
        errors.monitored("force")


def test_a_monitor_without_labels_names_those_with_labels() -> None:
    errors = measure((water(), energies(-127.0, 1.0)))
    with pytest.raises(ArgumentError, match=r"no such labels; monitor energy, forces,"):
        errors.monitored("stress")


def test_the_line_of_a_task_names_units() -> None:
    errors = measure((water(), energies(-127.0, 1.0)))
    line = error_line(errors.to_json())
    assert line == "E 1000.0 meV/atom, F 333.3 meV/Å"
    errors = measure((water("gap", target=6.0), targets(7.0)))
    assert error_line(errors.to_json()) == "gap 1 eV"


def test_the_table_has_the_columns_that_are_known() -> None:
    first = measure((water(), energies(-127.0, 1.0)))
    gap = measure((water("gap", target=6.0), targets(7.0)))
    lines = error_table({"qm7x": first, "gap": gap}).splitlines()
    assert "forces meV/Å" in lines[0]
    assert "stress" not in lines[0]
    assert lines[1].split()[:4] == ["qm7x", "1", "3.0000", "1000.00"]
    assert lines[2].split()[-3:] == ["1", "eV", "2"]


def test_the_table_has_a_line_for_classes() -> None:
    errors = measure((water("metal", target=1.0), targets(0.9)))
    assert "metal: is_metal: balanced accuracy 1.0000" in error_table({"metal": errors})
