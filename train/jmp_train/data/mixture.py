"""Temperature sampling over data sets, and batches of roughly equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jmp_calc.errors import ArgumentError

_CEIL_TOLERANCE = 1e-6
_BATCHES_PER_WINDOW = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """How often each data set is visited in an epoch.

    Data sets are repeated, not cut: the one with the smallest expansion is visited
    exactly once, the others cyclically until they fill their share. Only a ceiling on
    the share of the compute makes a set shorter; its samples then take turns over the
    epochs.

    Source:
        Training specification, section 1.5.
    """

    sizes: tuple[int, ...]
    """Samples of each set."""
    probabilities: tuple[float, ...]
    """Share of each set in an epoch, before rounding."""
    expanded: tuple[int, ...]
    """Samples of each set in an epoch."""

    @property
    def epoch_length(self) -> int:
        """Samples in an epoch."""
        return sum(self.expanded)

    def epoch_order(self, *, seed: int, epoch: int) -> Int[np.ndarray, " samples"]:
        """Return the samples of an epoch in their order.

        An entry counts through the sets one after the other at their natural sizes.

        Args:
            seed: Seed of the run.
            epoch: Number of the epoch, from 0.
        """
        starts = np.concatenate([[0], np.cumsum(self.sizes)])[:-1]
        parts = [
            start + _turn(size, expanded, seed=[seed, row], epoch=epoch)
            for row, (start, size, expanded) in enumerate(
                zip(starts, self.sizes, self.expanded, strict=True)
            )
        ]
        order = np.concatenate(parts).astype(np.int64)
        return np.random.default_rng([seed, epoch]).permutation(order)


def _turn(
    size: int, expanded: int, *, seed: list[int], epoch: int
) -> Int[np.ndarray, " samples"]:
    """Return the samples of one set in an epoch."""
    if expanded >= size:
        return np.arange(expanded) % size
    shuffled = np.random.default_rng(seed).permutation(size)
    return shuffled[(epoch * expanded + np.arange(expanded)) % size]


def build_mixture(
    sizes: Sequence[int],
    temperature: float,
    *,
    costs: Sequence[float] | None = None,
    max_share: float = 1.0,
) -> Mixture:
    """Return the mixture of sets of these sizes.

    Args:
        sizes: Samples of each set, at least 1.
        temperature: T in p ~ n^(1/T); 1 mixes by size, infinity evenly.
        costs: Mean cost of a sample of each set; None: all cost the same.
        max_share: Largest part of the cost of an epoch that one set may have; sets
            that would have more are visited less often.

    Raises:
        ArgumentError: If a set is empty, the temperature is not positive, or the
            shares cannot add up to one.
    """
    if not sizes or min(sizes) < 1:
        raise ArgumentError(
            f"set sizes are {list(sizes)}; each set needs at least one sample"
        )
    if not temperature > 0:
        raise ArgumentError(
            f"temperature is {temperature}; it must be positive (1: by size, inf: "
            "evenly)"
        )
    total = sum(sizes)
    weights = [(size / total) ** (1.0 / temperature) for size in sizes]
    probabilities = [weight / sum(weights) for weight in weights]
    density = [p / n for p, n in zip(probabilities, sizes, strict=True)]
    expanded = [
        _ceil(n * (d / min(density))) for n, d in zip(sizes, density, strict=True)
    ]
    if max_share < 1:
        expanded = _capped(expanded, costs or [1.0] * len(sizes), max_share)
        probabilities = [n / sum(expanded) for n in expanded]
    return Mixture(
        sizes=tuple(sizes),
        probabilities=tuple(probabilities),
        expanded=tuple(expanded),
    )


def _capped(
    expanded: Sequence[int], costs: Sequence[float], max_share: float
) -> list[int]:
    """Shorten the dearest sets until none has more than its share of the cost."""
    if max_share * len(expanded) <= 1:
        raise ArgumentError(
            f"the largest share of a task is {max_share}, so {len(expanded)} tasks "
            f"cannot fill an epoch; it must be above {1 / len(expanded):.3g}"
        )
    spent = np.array(expanded) * np.array(costs, dtype=np.float64)
    is_capped = np.zeros(len(spent), dtype=bool)
    while True:
        total = spent[~is_capped].sum() / (1 - is_capped.sum() * max_share)
        is_above = ~is_capped & (spent > max_share * total)
        if not is_above.any():
            break
        # one at a time: what is cut from the dearest may bring others below the limit
        is_capped[np.argmax(np.where(is_above, spent, 0.0))] = True
    limit = np.where(is_capped, max_share * total / costs, np.inf)
    return [
        max(1, min(n, int(most))) if math.isfinite(most) else n
        for n, most in zip(expanded, limit, strict=True)
    ]


def _ceil(value: float) -> int:
    # Absolute tolerance: 28284271.25 must become 28284272, 1000.0000001 must not
    # become 1001; a double of this size is exact to about 1e-8.
    nearest = round(value)
    return nearest if abs(value - nearest) <= _CEIL_TOLERANCE else math.ceil(value)


def epoch_batches(
    order: Int[np.ndarray, " samples"],
    costs: Float[np.ndarray, " all_samples"] | Int[np.ndarray, " all_samples"],
    *,
    max_cost: float,
    seed: int = 0,
) -> list[list[int]]:
    """Return the batches of an epoch, of nearly equal cost.

    Samples stay near their place in the order: they are packed window by window, the
    most expensive first, each into the cheapest batch that it fits in, so that a large
    slab is joined by few small molecules. The same arguments give the same batches, so
    a run resumes by skipping those it has done.

    Args:
        order: Samples of the epoch, as from :meth:`Mixture.epoch_order`.
        costs: Cost of each sample by its number, such as its number of atoms.
        max_cost: Largest cost of a batch; a dearer sample is a batch of its own.
        seed: Seed for the order of the batches inside a window.

    Raises:
        ArgumentError: If ``max_cost`` is not positive.
    """
    if not max_cost > 0:
        raise ArgumentError(f"max_cost is {max_cost}; it must be positive")
    generator = np.random.default_rng(seed)
    spent = np.minimum(costs[order], max_cost).cumsum()
    n_windows = max(1, round(spent[-1] / (max_cost * _BATCHES_PER_WINDOW)))
    window = np.ceil(spent / spent[-1] * n_windows)
    batches: list[list[int]] = []
    for members in np.split(order, np.flatnonzero(np.diff(window)) + 1):
        packed = _pack(members, costs, max_cost)
        batches.extend(packed[i] for i in generator.permutation(len(packed)))
    return batches


def _pack(
    members: Int[np.ndarray, " samples"],
    costs: Float[np.ndarray, " all_samples"] | Int[np.ndarray, " all_samples"],
    max_cost: float,
) -> list[list[int]]:
    n_batches = max(1, math.ceil(np.minimum(costs[members], max_cost).sum() / max_cost))
    load = [0.0] * n_batches
    batches: list[list[int]] = [[] for _ in range(n_batches)]
    for sample in members[np.argsort(-costs[members], kind="stable")]:
        lightest = int(np.argmin(load))
        if batches[lightest] and load[lightest] + costs[sample] > max_cost:
            load.append(0.0)
            batches.append([])
            lightest = len(load) - 1
        load[lightest] += float(costs[sample])
        batches[lightest].append(int(sample))
    return [batch for batch in batches if batch]
