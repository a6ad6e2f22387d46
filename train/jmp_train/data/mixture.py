"""Temperature sampling over data sets, and batches of roughly equal cost."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jmp_calc.errors import ArgumentError

_CEIL_TOLERANCE = 1e-6
_BATCHES_PER_WINDOW = 32
_CHUNK = 1 << 16


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
        # One array, filled and shuffled in place: at full size it has 1.4 GB.
        order = np.empty(self.epoch_length, dtype=np.int64)
        start, place = 0, 0
        for row, (size, expanded) in enumerate(
            zip(self.sizes, self.expanded, strict=True)
        ):
            part = order[place : place + expanded]
            part[:] = _turn(size, expanded, seed=[seed, row], epoch=epoch)
            part += start
            start, place = start + size, place + expanded
        np.random.default_rng([seed, epoch]).shuffle(order)
        return order


def _turn(
    size: int, expanded: int, *, seed: list[int], epoch: int
) -> Int[np.ndarray, " samples"]:
    """Return the samples of one set in an epoch."""
    if expanded >= size:
        turn = np.arange(expanded)
        turn %= size
        return turn
    shuffled = np.random.default_rng(seed).permutation(size)
    return shuffled[(epoch * expanded + np.arange(expanded)) % size]


def build_mixture(
    sizes: Sequence[int],
    temperature: float,
    *,
    costs: Sequence[float] | None = None,
    max_share: float | Sequence[float] = 1.0,
) -> Mixture:
    """Return the mixture of sets of these sizes.

    Args:
        sizes: Samples of each set, at least 1.
        temperature: T in p ~ n^(1/T); 1 mixes by size, infinity evenly.
        costs: Mean cost of a sample of each set; None: all cost the same.
        max_share: Largest part of the cost of an epoch that one set may have, the same
            for all or one for each; sets that would have more are visited less often.

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
    if min(weights) == 0:
        raise ArgumentError(
            f"temperature is {temperature}, at which the smallest of sets of "
            f"{list(sizes)} samples is never visited; make it larger"
        )
    probabilities = [weight / sum(weights) for weight in weights]
    density = [p / n for p, n in zip(probabilities, sizes, strict=True)]
    expanded = [
        _ceil(n * (d / min(density))) for n, d in zip(sizes, density, strict=True)
    ]
    most = np.broadcast_to(np.asarray(max_share, dtype=np.float64), len(sizes))
    if (most < 1).any():
        expanded = _capped(expanded, costs or [1.0] * len(sizes), most)
        probabilities = [n / sum(expanded) for n in expanded]
    return Mixture(
        sizes=tuple(sizes),
        probabilities=tuple(probabilities),
        expanded=tuple(expanded),
    )


def _capped(
    expanded: Sequence[int], costs: Sequence[float], most: Float[np.ndarray, " sets"]
) -> list[int]:
    """Shorten the dearest sets until none has more than its share of the cost."""
    if most.sum() <= 1:
        raise ArgumentError(
            f"the largest shares of {len(most)} tasks are "
            f"{', '.join(f'{share:g}' for share in most)}, which cannot fill an epoch; "
            "their sum must be above 1"
        )
    spent = np.array(expanded) * np.array(costs, dtype=np.float64)
    is_capped = np.zeros(len(spent), dtype=bool)
    while True:
        total = spent[~is_capped].sum() / (1 - most[is_capped].sum())
        is_above = ~is_capped & (spent > most * total)
        if not is_above.any():
            break
        # one at a time: what is cut from the dearest may bring others below the limit
        excess = np.where(is_above, spent / most, 0.0)
        is_capped[np.argmax(excess)] = True
    limit = np.where(is_capped, most * total / costs, np.inf)
    return [
        max(1, min(n, int(some))) if math.isfinite(some) else n
        for n, some in zip(expanded, limit, strict=True)
    ]


def _ceil(value: float) -> int:
    # Absolute tolerance: 28284271.25 must become 28284272, 1000.0000001 must not
    # become 1001; a double of this size is exact to about 1e-8.
    nearest = round(value)
    return nearest if abs(value - nearest) <= _CEIL_TOLERANCE else math.ceil(value)


Costs = Callable[[Int[np.ndarray, " samples"]], Float[np.ndarray, " samples"]]
"""Function that returns the cost of samples, such as their number of atoms."""


def epoch_batches(
    order: Int[np.ndarray, " samples"],
    costs: Costs,
    *,
    max_cost: float,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield the batches of an epoch, of nearly equal cost.

    Samples stay near their place in the order: they are packed window by window, the
    most expensive first, each into the cheapest batch that it fits in, so that a large
    slab is joined by few small molecules. The same arguments give the same batches, so
    a run resumes by skipping those it has done. Only one window is in memory.

    Args:
        order: Samples of the epoch, as from :meth:`Mixture.epoch_order`.
        costs: Cost of samples.
        max_cost: Largest cost of a batch; a dearer sample is a batch of its own.
        seed: Seed for the order of the batches inside a window.

    Raises:
        ArgumentError: If ``max_cost`` is not positive.
    """
    if not max_cost > 0:
        raise ArgumentError(f"max_cost is {max_cost}; it must be positive")
    generator = np.random.default_rng(seed)
    for members in _windows(order, costs, max_cost):
        packed = _pack(members, costs(members), max_cost)
        yield from (packed[i] for i in generator.permutation(len(packed)))


def _windows(
    order: Int[np.ndarray, " samples"], costs: Costs, max_cost: float
) -> Iterator[Int[np.ndarray, " members"]]:
    """Divide an epoch into parts of the same cost."""
    total = 0.0
    for _, spent in _spent(order, costs, max_cost):
        total = float(spent[-1])
    n_windows = max(1, round(total / (max_cost * _BATCHES_PER_WINDOW)))
    start, last = 0, 1.0
    for first, spent in _spent(order, costs, max_cost):
        window = np.ceil(spent / total * n_windows)
        before = np.concatenate([[last], window[:-1]])
        for edge in np.flatnonzero(window != before) + first:
            if edge > start:
                yield order[start:edge]
            start = int(edge)
        last = float(window[-1])
    yield order[start:]


def _spent(
    order: Int[np.ndarray, " samples"], costs: Costs, max_cost: float
) -> Iterator[tuple[int, Float[np.ndarray, " chunk"]]]:
    """Yield place and sum of all costs so far, for one piece of the order at a time."""
    total = 0.0
    for first in range(0, len(order), _CHUNK):
        part = np.minimum(costs(order[first : first + _CHUNK]), max_cost)
        part[0] += total
        spent = part.cumsum()
        total = float(spent[-1])
        yield first, spent


def _pack(
    members: Int[np.ndarray, " members"],
    costs: Float[np.ndarray, " members"],
    max_cost: float,
) -> list[list[int]]:
    n_batches = max(1, math.ceil(np.minimum(costs, max_cost).sum() / max_cost))
    batches: list[list[int]] = [[] for _ in range(n_batches)]
    lightest = [(0.0, number) for number in range(n_batches)]
    for sample, cost in _dearest_first(members, costs):
        load, number = lightest[0]
        if batches[number] and load + cost > max_cost:
            load, number = 0.0, len(batches)
            batches.append([])
            heapq.heappush(lightest, (cost, number))
        else:
            heapq.heapreplace(lightest, (load + cost, number))
        batches[number].append(sample)
    return [batch for batch in batches if batch]


def balanced_batches(
    members: Int[np.ndarray, " members"],
    costs: Float[np.ndarray, " members"],
    n_batches: int,
) -> list[list[int]]:
    """Divide the samples of a step into batches of nearly equal cost.

    The dearest samples get a batch each; then the dearest one that is left joins the
    cheapest batch.

    Args:
        members: Samples of the step.
        costs: Cost of each, positive.
        n_batches: Number of batches; fewer if there are fewer samples.

    Source:
        Training specification, section 1.6 (there, a batch is that of one GPU).
    """
    batches: list[list[int]] = [[] for _ in range(min(n_batches, len(members)))]
    lightest = [(0.0, number) for number in range(len(batches))]
    for sample, cost in _dearest_first(members, costs):
        load, number = lightest[0]
        heapq.heapreplace(lightest, (load + cost, number))
        batches[number].append(sample)
    return batches


def _dearest_first(
    members: Int[np.ndarray, " members"], costs: Float[np.ndarray, " members"]
) -> Iterator[tuple[int, float]]:
    order = np.argsort(-costs, kind="stable")
    return zip(members[order].tolist(), costs[order].tolist(), strict=True)
