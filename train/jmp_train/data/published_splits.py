"""Splits by a seeded shuffle, as the published fine-tuning sets are divided.

Source:
    Training specification, section 3: ``numpy.random.RandomState(42)`` shuffles
    ``arange(n)`` in place; train, val and test are cut off in this order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_train.data.splits import SPLITS, Split

PUBLISHED_SEED = 42
"""Seed of all published random splits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndexSplit:
    """Which systems of a set are in which part."""

    train: Int[np.ndarray, " train"]
    """Indices in the order of the shuffle."""
    val: Int[np.ndarray, " val"]
    """Likewise."""
    test: Int[np.ndarray, " test"]
    """Likewise."""

    def labels(self, n: int) -> list[Split | None]:
        """Return the part of each of the systems; None: it is in no part.

        Args:
            n: Number of systems of the set.
        """
        labels: list[Split | None] = [None] * n
        for split in SPLITS:
            for index in getattr(self, split).tolist():
                labels[index] = split
        return labels


def shuffled(n: int, *, seed: int = PUBLISHED_SEED) -> Int[np.ndarray, " n"]:
    """Return the numbers below n in the published random order.

    Args:
        n: How many.
        seed: Of numpy's legacy generator, which gives the same order everywhere.
    """
    indices = np.arange(n)
    # The published splits were drawn from this generator.
    np.random.RandomState(seed).shuffle(indices)
    return indices


def shuffled_split(n: int, sizes: tuple[int, int, int]) -> IndexSplit:
    """Return the published random split into parts of these sizes.

    Args:
        n: Number of systems.
        sizes: Systems of train, val and test.

    Raises:
        DataError: If there are too few systems.
    """
    if sum(sizes) > n:
        raise DataError(
            f"there are {n} systems; parts of {sizes[0]}, {sizes[1]} and {sizes[2]} "
            f"need {sum(sizes)}"
        )
    order = shuffled(n)
    n_train, n_val, n_test = sizes
    return IndexSplit(
        train=order[:n_train],
        val=order[n_train : n_train + n_val],
        test=order[n_train + n_val : n_train + n_val + n_test],
    )


def fraction_sizes(
    n: int, train: float = 0.8, val: float = 0.1
) -> tuple[int, int, int]:
    """Return the sizes of parts by fraction; test has the rest.

    Each part has at least one of three systems; one or two systems train.

    Args:
        n: Number of systems.
        train: Fraction of the training part, rounded down.
        val: Fraction of the validation part, rounded down.
    """
    if n < len(SPLITS):
        return n, 0, 0
    n_val = max(1, int(n * val))
    n_train = max(1, min(int(n * train), n - n_val - 1))
    return n_train, n_val, n - n_train - n_val


def budget_sizes(n: int, n_train: int, n_val: int) -> tuple[int, int, int]:
    """Return the published sizes of training and validation; test has the rest.

    An excerpt that is too small for them is divided 80/10/10.

    Args:
        n: Number of systems.
        n_train: Published training systems.
        n_val: Published validation systems.
    """
    if n <= n_train + n_val:
        return fraction_sizes(n)
    return n_train, n_val, n - n_train - n_val


def proportional_sizes(n: int, published: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the published sizes, or for another number of systems their proportions.

    Args:
        n: Number of systems.
        published: Systems of train, val and test of the published split.
    """
    total = sum(published)
    if n == total:
        return published
    return fraction_sizes(n, published[0] / total, published[1] / total)
