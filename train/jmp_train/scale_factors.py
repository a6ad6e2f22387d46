"""Fit the scale factors of a fresh network, so that activations keep their variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.layers import ScaleFactor


@dataclass(slots=True)
class _Variances:
    """Row-weighted sums of the variance of a value and of its reference."""

    value: float = 0.0
    reference: float = 0.0

    def add(self, value: Tensor, reference: Tensor | None) -> None:
        n_rows = _n_rows(value)
        if n_rows < 2 or (reference is not None and _n_rows(reference) < 2):
            return
        self.value += n_rows * _mean_variance(value)
        wanted = 1.0 if reference is None else _mean_variance(reference)
        self.reference += n_rows * wanted

    def factor(self, name: str) -> float:
        """The number that gives the value the variance of its reference."""
        if not (self.value > 0 and self.reference > 0):
            raise DataError(
                f"scale factor {name} cannot be fitted: the batches give its values no "
                "variance; fit to batches that have triplets and dihedral angles"
            )
        return math.sqrt(self.reference / self.value)


def _n_rows(x: Tensor) -> int:
    return x.numel() // x.shape[-1]


def _mean_variance(x: Tensor) -> float:
    rows = x.detach().reshape(-1, x.shape[-1]).double()
    return float(rows.var(dim=0, correction=1).mean())


def fit_scale_factors(
    model: JMPModel,
    graphs: Sequence[AtomGraph],
    *,
    is_single_pass: bool = False,
    on_fit: Callable[[str, float], None] | None = None,
) -> dict[str, float]:
    """Fit all scale factors of a network with random weights, in place.

    Factors are fitted one after the other in the order of computation, each in its
    own pass over the same graphs, so that later ones see the earlier ones.

    Args:
        model: A network none of whose factors is fitted.
        graphs: At least one batch.
        is_single_pass: Fit all factors in one pass over the first graph only, each when
            it is reached: nearly the same numbers in a fraction of the time.
        on_fit: Called with the name and value of each factor.

    Returns:
        Factor by module name, in the order of computation.

    Raises:
        ArgumentError: If a factor is fitted already or there is no graph.
        DataError: If the graphs leave a factor undetermined.

    Source:
        GemNet-OC specification, section 14; training specification, section 4.
    """
    scales = _scales(model)
    fitted = [name for name, scale in scales.items() if float(scale.factor) != 0]
    if fitted:
        raise ArgumentError(
            f"{len(fitted)} scale factors are fitted already "
            f"({', '.join(fitted[:5])}); fit only a fresh network, never a trained one"
        )
    if not graphs:
        raise ArgumentError(
            "no graphs to fit scale factors to; give at least one batch"
        )
    report = on_fit or (lambda _name, _factor: None)
    if is_single_pass:
        return _fit_in_one_pass(model, scales, graphs[0], report)
    result: dict[str, float] = {}
    for name in _order_of_computation(model, scales, graphs[0]):
        variances = _Variances()
        with _observed({name: scales[name]}, partial(_adder, variances)):
            for graph in graphs:
                _forward(model, graph)
        result[name] = variances.factor(name)
        scales[name].factor.fill_(result[name])
        report(name, result[name])
    return result


def _scales(model: JMPModel) -> dict[str, ScaleFactor]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, ScaleFactor)
    }


def _forward(model: JMPModel, graph: AtomGraph) -> None:
    # The backbone alone: heads have no factors, and no force head need exist. The
    # graphs have all their edges, so sums are not enlarged as those after dropout are.
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.backbone(
            model.embedding(graph.numbers - 1), graph, model.config.has_direct_forces
        )
    model.train(was_training)


def _adder(
    variances: _Variances, _name: str
) -> Callable[[Tensor, Tensor | None], None]:
    return variances.add


@contextmanager
def _observed(
    scales: dict[str, ScaleFactor],
    observer: Callable[[str], Callable[[Tensor, Tensor | None], None]],
) -> Iterator[None]:
    for name, scale in scales.items():
        scale.observe = observer(name)
    try:
        yield
    finally:
        for scale in scales.values():
            scale.observe = None


def _order_of_computation(
    model: JMPModel, scales: dict[str, ScaleFactor], graph: AtomGraph
) -> list[str]:
    order: list[str] = []

    def note(name: str, _value: Tensor, _reference: Tensor | None) -> None:
        if name not in order:
            order.append(name)

    with _observed(scales, lambda name: partial(note, name)):
        _forward(model, graph)
    missing = [name for name in scales if name not in order]
    if missing:
        raise DataError(
            f"scale factors {', '.join(missing[:5])} are never reached; fit to batches "
            "that have edges in all four graphs"
        )
    return order


def _fit_in_one_pass(
    model: JMPModel,
    scales: dict[str, ScaleFactor],
    graph: AtomGraph,
    report: Callable[[str, float], None],
) -> dict[str, float]:
    result: dict[str, float] = {}

    def fit(name: str, value: Tensor, reference: Tensor | None) -> None:
        variances = _Variances()
        variances.add(value, reference)
        result[name] = variances.factor(name)
        scales[name].factor.fill_(result[name])
        report(name, result[name])

    with _observed(scales, lambda name: partial(fit, name)):
        _forward(model, graph)
    return result
