"""How a calculator has its network computed: exact or not, compiled or not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from jmp_calc.calculator.approximate import approximation_note
from jmp_calc.calculator.compiled import CompiledNetwork
from jmp_calc.calculator.evaluation import Task, predict
from jmp_calc.calculator.topology import TopologyOnDevice
from jmp_calc.errors import ArgumentError
from jmp_calc.models.frozen.freeze import freeze_, is_frozen
from jmp_calc.models.jmp import JMPModel

TOLERANCES = {"torch.float32": 1e-4, "torch.float64": 1e-10, "tf32": 1e-2}
"""How far compiled results may be from those of the form for inference, by arithmetic;
see ``compiled.difference``. Rounding of jmp-nano in float32 makes about 1e-6."""


class Engine:
    """Computes systems with a network.

    Args:
        model: The network, on its device and in its precision; turned into its form
            for inference, except for "bf16".
        compile: Whether to compile it, see
            :class:`jmp_calc.calculator.compiled.CompiledNetwork`.
        approximate: "tf32", "bf16" or None, see
            :func:`jmp_calc.calculator.approximate.arithmetic`.
        recompute: Whether blocks are always computed again for the derivative.

    Raises:
        ArgumentError: If it is to be compiled in "bf16", or the network is in its form
            for inference already and needed as it was trained.
    """

    def __init__(
        self,
        model: JMPModel,
        *,
        compile: bool = False,
        approximate: str | None = None,
        recompute: bool = False,
    ) -> None:
        if compile and approximate == "bf16":
            raise ArgumentError(
                "compile checks its results, and those of approximate='bf16' are too "
                "coarse to be checked; leave one of them out"
            )
        if compile or approximate == "bf16":
            _check_trained(model)
        self._approximate, self._recompute = approximate, recompute
        self.trained = copy.deepcopy(model) if compile else model
        """The network as it was trained, where that is needed; else as ``model``."""
        self.model = model if approximate == "bf16" else freeze_(model)
        """The network that computes, or that the compiled one is compared with."""
        for network in (self.model, self.trained):
            network.eval().requires_grad_(False)
        self._compiled = (
            CompiledNetwork(
                self.trained,
                self.model,
                tolerance=TOLERANCES[approximate or str(model.dtype)],
            )
            if compile
            else None
        )
        self.notes = [] if approximate is None else [approximation_note(approximate)]
        """Sentences about what results are like."""
        self._topology = TopologyOnDevice(next(model.parameters()).device)

    def _topology_for(self, network: JMPModel) -> TopologyOnDevice:
        device = next(network.parameters()).device
        if device != self._topology.device:  # somebody has moved the network
            self._topology = TopologyOnDevice(device)
        return self._topology

    def predict(
        self, tasks: Sequence[Task], *, is_moving: bool = False
    ) -> list[dict[str, Any]]:
        """Return results of each system, see ``evaluation.predict``.

        Args:
            tasks: Systems; all want the same force kind, and stress or not.
            is_moving: Whether it is one system, whose topology may stay the same.

        Raises:
            UnsupportedSystemError: If memory runs out.
        """

        def compute(network: JMPModel) -> list[dict[str, Any]]:
            return predict(
                network,
                tasks,
                to_device=self._topology_for(network).move if is_moving else None,
                approximate=self._approximate,
                recompute=self._recompute,
            )

        if self._compiled is None:
            return compute(self.model)
        return self._compiled.run(compute)


def _check_trained(model: JMPModel) -> None:
    if is_frozen(model):
        # derivatives written out, for one precision and not to be compiled
        raise ArgumentError(
            "compile and approximate='bf16' need a network as it was trained, and the "
            "one given is in the form for inference of a calculator; give the model "
            "that the calculator was made from"
        )
