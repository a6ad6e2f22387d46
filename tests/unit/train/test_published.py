from __future__ import annotations

import hashlib

import numpy as np
import pytest

from jmp_calc.errors import DataError
from jmp_train.data.published import (
    MATBENCH,
    MD22,
    PRETRAINING,
    QM9,
    QM9_SIZES,
    RMD17,
    SPICE,
)
from jmp_train.data.published_splits import (
    budget_sizes,
    fraction_sizes,
    proportional_sizes,
    shuffled,
    shuffled_split,
)


def digest(indices: np.ndarray) -> str:
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()[:16]


# -- splits --------------------------------------------------------------------------

# Made once with numpy 2.4 by RandomState(42).shuffle(arange(n)), outside of the code
# under test; the legacy generator is frozen, so that every numpy gives the same.
ORDERS = {
    1_300: ([478, 721, 312, 660, 823], "3aad640045fd7d08"),
    33_850: ([29172, 11373, 9517, 11489, 26000], "8791da973b11026e"),
    99_988: ([33964, 96378, 19448, 9732, 7129], "d329ec4828e9a34b"),
    100_000: ([75721, 80184, 19864, 76699, 92991], "30d2c69ef3cbed2b"),
    130_831: ([112526, 100113, 55940, 12786, 34071], "f7b0eee126e61118"),
}


@pytest.mark.parametrize(("n", "expected"), ORDERS.items())
def test_the_random_order_is_the_published_one_bit_for_bit(n, expected) -> None:
    order = shuffled(n)
    assert (order[:5].tolist(), digest(order)) == expected


def test_parts_are_cut_off_in_the_order_train_val_test() -> None:
    # RandomState(42) turns 0..9 into 8 1 5 0 7 2 9 4 3 6.
    split = shuffled_split(10, (5, 2, 3))
    assert split.train.tolist() == [8, 1, 5, 0, 7]
    assert split.val.tolist() == [2, 9]
    assert split.test.tolist() == [4, 3, 6]


def test_a_system_in_no_part_has_no_label() -> None:
    labels = shuffled_split(10, (5, 2, 1)).labels(10)
    assert [i for i, label in enumerate(labels) if label is None] == [3, 6]


def test_the_order_does_not_touch_the_generator_of_the_process() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    shuffled(10)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_too_few_systems_for_the_parts_are_an_error() -> None:
    with pytest.raises(DataError, match="there are 10 systems; parts of 9, 1 and 1 n"):
        shuffled_split(10, (9, 1, 1))


def test_whole_sets_have_the_published_sizes() -> None:
    assert proportional_sizes(130_831, QM9_SIZES) == (110_831, 10_000, 10_000)
    assert budget_sizes(100_000, 950, 50) == (950, 50, 99_000)
    assert budget_sizes(99_988, 950, 50) == (950, 50, 98_988)
    assert fraction_sizes(33_850) == SPICE["dipeptides"].sizes
    assert fraction_sizes(1_300) == SPICE["solvated-amino-acids"].sizes


def test_excerpts_are_divided_in_proportion() -> None:
    assert proportional_sizes(1_000, QM9_SIZES) == (847, 76, 77)
    assert budget_sizes(1_000, 950, 50) == (800, 100, 100)


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (5, (3, 1, 1))]
)
def test_a_handful_of_systems_leaves_no_part_empty_if_it_can(n, sizes) -> None:
    assert fraction_sizes(n) == sizes


# -- the table -----------------------------------------------------------------------


def test_there_are_forty_tasks_of_fine_tuning() -> None:
    n_qm9 = sum(target.is_task for target in QM9.values())
    n_matbench = len([task for task in MATBENCH.values() if task.means])
    counts = (n_qm9, len(RMD17), len(MD22), len(SPICE), n_matbench)
    assert counts == (12, 10, 7, 2, 8)
    assert sum(counts) + 1 == 40  # and QMOF


def test_heads_are_in_the_published_order() -> None:
    assert list(PRETRAINING) == ["oc20", "oc22", "ani1x", "transition1x"]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Ac-Ala3-NHMe", (5700, 300)),
        ("DHA", (7600, 400)),
        ("stachyose", (7600, 400)),
        ("AT-AT", (2850, 150)),
        ("AT-AT-CG-CG", (1900, 100)),
        ("buckyball-catcher", (570, 30)),
        ("double-walled_nanotube", (760, 40)),
    ],
)
def test_a_twentieth_of_the_budget_of_md22_validates(name, sizes) -> None:
    assert (MD22[name].n_train, MD22[name].n_val) == sizes


def test_atom_references_bring_methane_of_qm9_near_its_mean() -> None:
    """The smallest molecules are the furthest off; without references, hundreds of
    standard deviations."""
    methane = {"ZPVE": 1.21768, "U_0": -1101.48782, "U": -1101.40977, "c_v": 6.469}
    for name, value in methane.items():
        target = QM9[name]
        rest = value - target.references[6] - 4 * target.references[1]
        assert abs(rest - target.scale.mean) < 4 * target.scale.std


def test_each_regression_of_matbench_has_five_folds() -> None:
    regressions = [task for task in MATBENCH.values() if task.unit != "class"]
    assert {len(task.means) for task in regressions} == {5}
    assert {len(task.stds) for task in regressions} == {5}


# Sums over the tables of the training specification, sections 1.1, 3.1, 3.2, 3.3 and
# 3.5, taken from its text outside of the code under test: a slip in one number shows.
def test_scales_add_up_to_those_of_the_specification() -> None:
    force_sets = [*RMD17.values(), *(molecule.scale for molecule in MD22.values())]
    found = {
        "energy means": sum(scale.energy_mean for scale in force_sets),
        "energy stds": sum(scale.energy_std for scale in force_sets),
        "force stds": sum(scale.force_std for scale in force_sets),
        "frames of MD22": sum(molecule.n_frames for molecule in MD22.values()),
        "MatBench means": sum(sum(task.means) for task in MATBENCH.values()),
        "MatBench stds": sum(sum(task.stds) for task in MATBENCH.values()),
        "QM9 means": sum(target.scale.mean for target in QM9.values()),
        "QM9 stds": sum(target.scale.std for target in QM9.values()),
        "QM9 atoms": sum(sum(target.references.values()) for target in QM9.values()),
        "pre-training energy stds": sum(t.energy_std for t in PRETRAINING.values()),
        "pre-training force stds": sum(t.force_std for t in PRETRAINING.values()),
        "pre-training force weights": sum(t.force_weight for t in PRETRAINING.values()),
    }
    assert found == pytest.approx(
        {
            "energy means": -107530.093389 - 736875.748,
            "energy stds": 2.236943886 + 6.54381843,
            "force stds": 12.47029494 + 7.8822252,
            "frames of MD22": 223422,
            "MatBench means": 3583.99489,
            "MatBench stds": 2968.436187,
            "QM9 means": 981.73553399625,
            "QM9 stds": 2388.6939988,
            "QM9 atoms": -29214.025402,
            "pre-training energy stds": 54.78860234873445,
            "pre-training force stds": 3.2585072815418243,
            "pre-training force weights": 182,
        },
        rel=1e-12,
    )
