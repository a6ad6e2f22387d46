from __future__ import annotations

import math

import numpy as np
import pytest

from jmp_train.metrics.classes import (
    accuracy,
    balanced_accuracy,
    class_errors,
    confusion_matrix,
    f1_score,
    majority_accuracy,
    roc_auc,
)

# 4 of class 0 (3 right), 2 of class 1 (1 right)
BINARY = np.array([[3, 1], [1, 1]])
# 2, 2 and 4 systems; class 2 is always right, class 1 never
THREE = np.array([[1, 0, 1], [1, 0, 1], [0, 0, 4]])


def test_systems_are_counted_by_label_and_prediction() -> None:
    labels, predicted = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, 2), BINARY)


def test_accuracy_is_the_part_on_the_diagonal() -> None:
    assert accuracy(BINARY) == pytest.approx(4 / 6)
    assert accuracy(THREE) == pytest.approx(5 / 8)


def test_balanced_accuracy_is_the_mean_recall() -> None:
    assert balanced_accuracy(BINARY) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert balanced_accuracy(THREE) == pytest.approx((1 / 2 + 0 + 1) / 3)


def test_a_class_that_does_not_occur_has_no_recall() -> None:
    assert balanced_accuracy(np.array([[3, 1], [0, 0]])) == pytest.approx(3 / 4)


def test_f1_of_two_classes_is_that_of_the_second() -> None:
    assert f1_score(BINARY) == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))


def test_f1_of_more_classes_is_their_mean() -> None:
    first, third = 2 / (2 + 1 + 1), 8 / (8 + 2 + 0)
    assert f1_score(THREE) == pytest.approx((first + 0 + third) / 3)


def test_the_baseline_predicts_the_most_frequent_class() -> None:
    assert majority_accuracy(BINARY) == pytest.approx(4 / 6)
    assert majority_accuracy(THREE) == pytest.approx(4 / 8)


def test_auc_counts_pairs_in_the_right_order_and_ties_by_half() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.9])
    is_positive = np.array([False, False, True, True])
    # 4 pairs: three are right, and one is a tie
    assert roc_auc(scores, is_positive) == pytest.approx(3.5 / 4)


def test_auc_equals_the_count_over_all_pairs() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.integers(0, 8, 60) / 8.0, random.random(60) < 0.3
    wins = [np.sign(a - b) / 2 + 0.5 for a in scores[labels] for b in scores[~labels]]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(wins), abs=1e-12)


def test_auc_needs_both_classes() -> None:
    assert math.isnan(roc_auc(np.array([0.1, 0.2]), np.array([True, True])))


def test_all_scores_are_collected() -> None:
    found = class_errors(BINARY, log_loss=0.3, auc=0.8)
    assert (found.n_systems, found.roc_auc, found.log_loss) == (6, 0.8, 0.3)
    assert found.confusion == ((3, 1), (1, 1))
