"""Scores of classifiers, from confusion counts and from ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassErrors:
    """How well the classes of systems are told apart; 1 is perfect."""

    n_systems: int
    """Systems scored."""
    accuracy: float
    """Part of the systems whose class is right."""
    balanced_accuracy: float
    """Mean over the classes that occur of the part of their systems that is right."""
    f1: float
    """Of two classes, that of the second one; of more, the mean over all classes."""
    roc_auc: float
    """Probability that a system of the second class has a higher score than one of the
    first; NaN for more than two classes, or where only one occurs."""
    log_loss: float
    """Mean of minus the logarithm of the probability of the right class."""
    baseline_accuracy: float
    """Accuracy if the most frequent class is always predicted."""
    confusion: tuple[tuple[int, ...], ...]
    """Number of systems by label (row) and predicted class (column)."""


def confusion_matrix(
    labels: Int[np.ndarray, " systems"],
    predicted: Int[np.ndarray, " systems"],
    n_classes: int,
) -> Int[np.ndarray, "classes classes"]:
    """Count systems by label (row) and predicted class (column).

    Args:
        labels: True classes, from 0.
        predicted: Predicted classes.
        n_classes: Number of classes.
    """
    cells = np.bincount(labels * n_classes + predicted, minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes).astype(np.int64)


def accuracy(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Return the part of the systems on the diagonal; NaN without systems.

    Args:
        confusion: Counts by label and predicted class.
    """
    return _ratio(int(np.trace(confusion)), int(confusion.sum()))


def balanced_accuracy(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Return the mean recall of the classes that occur; NaN without systems.

    Args:
        confusion: Counts by label and predicted class.

    Source:
        Brodersen et al., ICPR 2010, doi 10.1109/ICPR.2010.764.
    """
    n_labels = confusion.sum(axis=1)
    occurs = n_labels > 0
    if not occurs.any():
        return float("nan")
    return float((np.diag(confusion)[occurs] / n_labels[occurs]).mean())


def f1_score(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Return 2 TP / (2 TP + FP + FN) of the second of two classes, or the mean of all.

    A class that neither occurs nor is predicted counts as 0.

    Args:
        confusion: Counts by label and predicted class.

    Source:
        van Rijsbergen, Information Retrieval, 1979.
    """
    right = 2 * np.diag(confusion)
    divisor = confusion.sum(axis=0) + confusion.sum(axis=1)
    scores = right / np.maximum(divisor, 1)
    return float(scores[1] if len(scores) == 2 else scores.mean())


def majority_accuracy(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Return the accuracy of always predicting the most frequent class.

    Args:
        confusion: Counts by label and predicted class.
    """
    return _ratio(int(confusion.sum(axis=1).max()), int(confusion.sum()))


def roc_auc(
    scores: Float[np.ndarray, " systems"], is_positive: Bool[np.ndarray, " systems"]
) -> float:
    """Return the area under the receiver operating characteristic.

    It is the probability that a positive system has a higher score than a negative one,
    where equal scores count one half; NaN where one of both is absent.

    Args:
        scores: Any number that grows with the probability of being positive.
        is_positive: True classes.

    Source:
        Mann–Whitney U; Hanley and McNeil, Radiology 143, 29 (1982).
    """
    n_positive = int(is_positive.sum())
    n_negative = len(scores) - n_positive
    if not n_positive or not n_negative or not np.isfinite(scores).all():
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # the mean rank, from 1, of those with the same score
    rank = np.cumsum(counts) - (counts - 1) / 2
    wins = rank[place][is_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def class_errors(
    confusion: Int[np.ndarray, "classes classes"],
    *,
    log_loss: float,
    auc: float = float("nan"),
) -> ClassErrors:
    """Return all scores of a classifier.

    Args:
        confusion: Counts by label and predicted class.
        log_loss: Mean over systems.
        auc: Area under the receiver operating characteristic.
    """
    return ClassErrors(
        n_systems=int(confusion.sum()),
        accuracy=accuracy(confusion),
        balanced_accuracy=balanced_accuracy(confusion),
        f1=f1_score(confusion),
        roc_auc=auc,
        log_loss=log_loss,
        baseline_accuracy=majority_accuracy(confusion),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
