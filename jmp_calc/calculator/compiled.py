"""A network compiled by torch.compile, as long as that is right.

GemNet-OC is hundreds of small operations besides its matrix products: launching them
and writing what lies between them to memory costs more than their arithmetic. The form
for inference (:mod:`jmp_calc.models.frozen`) fuses some of them by hand; torch.compile
fuses more, from the network as it was trained. Bases and angles are left out: they are
written for speed by hand, in ways that a compiler cannot follow.

On the CPU that gains nothing over the form for inference: energy and forces of jmp-nano
on one core took 1.02 (ethanol), 1.01 (aspirin) and 0.98 times (96 atoms of rutile) as
long without it, and compiling took 35 to 45 s of processor time. It is there for GPUs,
where each small operation is launched on its own, and has not been measured on one.

Compilers have bugs, and are not installed everywhere. So what was compiled is compared
with the form for inference, for the structure at hand, before it counts.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from jmp_calc.models.jmp import JMPModel

_logger = logging.getLogger(__name__)

Results = list[dict[str, Any]]


class CompiledNetwork:
    """Computes with a compiled network, checks it, and goes back where it fails.

    The first calculation compiles, which takes a minute or two (torch keeps the result
    on disk, so that later processes need less), and later ones may again for graphs of
    another kind. Each of these is computed by the reference as well. If that differs,
    or the compiler fails, a warning says so and nothing is compiled any more.

    CUDA graphs (mode reduce-overhead) are not used: they would be recorded again for
    each new number of edges, which aspirin at 300 K has every second step.

    Args:
        network: The network as it was trained, with frozen parameters, on its device;
            it gets compiled. None: has been given up.
        reference: The same network in its form for inference.
        tolerance: See :func:`difference`.
    """

    def __init__(
        self, network: JMPModel | None, reference: JMPModel, *, tolerance: float
    ) -> None:
        self.n_compiled = 0
        """Pieces of code that were compiled."""
        self._network = network
        self._reference, self._tolerance = reference, tolerance
        self._bases: Callable[..., Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # compiled code belongs to a process
        make = partial(type(self), tolerance=self._tolerance)
        return make, (self._network, self._reference)

    @property
    def is_given_up(self) -> bool:
        """Whether nothing is compiled any more."""
        return self._network is None

    def run(self, compute: Callable[[JMPModel], Results]) -> Results:
        """Return what a calculation returns, compiled where that is right.

        Args:
            compute: Computes with a network; results of each system by name.

        Raises:
            UnsupportedSystemError: As ``compute`` does.
        """
        network, reference = self._network, self._reference
        if network is None:
            return compute(reference)
        before, started = self.n_compiled, time.perf_counter()
        if self._bases is None:
            _logger.warning("compiling the network, which takes a minute or two ...")
            compile_(network.backbone, self._count)
            self._bases = torch.compiler.disable(  # type: ignore[no-untyped-call]  # torch
                network.backbone.bases.forward
            )
        try:
            with _quiet(), _in_place(network.backbone.bases, self._bases):
                found = compute(network)
        except Exception as error:  # noqa: BLE001 (compilers raise anything)
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            expected = compute(reference)  # if this fails, it was not the compiler
            return self._give_up(f"{type(error).__name__}: {reason}", expected)
        if self.n_compiled == before:
            return found
        seconds = time.perf_counter() - started
        expected = compute(reference)
        problem = difference(found, expected, self._tolerance)
        if problem is not None:
            return self._give_up(f"its results are wrong: {problem}", expected)
        _logger.warning(
            "compiled in %.1f s; results equal those of the network as it is", seconds
        )
        return found

    def _give_up(self, reason: str, results: Results) -> Results:
        self._network = None
        _logger.warning("the network is not compiled from now on: %s", reason)
        return results

    def _count(self) -> None:
        self.n_compiled += 1


def compile_(module: torch.nn.Module, on_compile: Callable[[], None]) -> None:
    """Let calls of a module be compiled, for sizes of any kind.

    Args:
        module: The module.
        on_compile: Called for each piece that is compiled.
    """
    module.compile(dynamic=True, backend=partial(_inductor, on_compile))


def _inductor(
    on_compile: Callable[[], None], graph: Any, inputs: Sequence[Any]
) -> Callable[..., Any]:
    # takes seconds to import
    from torch._inductor.compile_fx import compile_fx

    on_compile()
    compiled: Any = compile_fx(graph, inputs)
    return compiled  # type: ignore[no-any-return]  # torch


def difference(found: Results, expected: Results, tolerance: float) -> str | None:
    """Return how results differ by more than a tolerance, in words, or None.

    Args:
        found: Of each system by name.
        expected: Likewise.
        tolerance: Largest difference: of energies in eV per atom, of forces and stress
            relative to the largest value (at least 1 eV/angstrom, 0.01 eV/angstrom^3).
    """
    for one, other in zip(found, expected, strict=True):
        n_atoms = len(other["energies"])
        scales = {"energy": n_atoms, "energies": 1.0}
        for name, least in (("forces", 1.0), ("stress", 0.01)):
            if name in other:
                scales[name] = max(float(np.abs(other[name]).max()), least)
        for name, scale in scales.items():
            error = float(np.abs(np.subtract(one[name], other[name])).max())
            if not error <= tolerance * scale:  # nan is no number either
                return (
                    f"{name} differ by {error:.3g}; {tolerance * scale:.1g} is allowed"
                )
    return None


@contextlib.contextmanager
def _in_place(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module have another forward inside a block, and copies of it not."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the compiler says about itself from people who cannot change it."""
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\b")
            yield
    finally:
        logger.setLevel(level)
