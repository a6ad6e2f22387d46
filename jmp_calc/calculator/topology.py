"""The graph of a structure in motion on the device that does the work."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch

from jmp_calc.graph.batch import AtomGraph


class TopologyOnDevice:
    """Keeps the topology on the device while it stays the same.

    :class:`jmp_calc.graph.motion.GraphInMotion` gives the same tensors again and again
    as long as no edge comes or goes. Then only positions and cell travel.

    Args:
        device: Where graphs are needed.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        """Where graphs are needed."""
        self._given: AtomGraph | None = None
        self._moved: AtomGraph | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy or another process sends it again
        return type(self), (self.device,)

    def move(self, graph: AtomGraph) -> AtomGraph:
        """Return a graph on the device.

        Args:
            graph: On the CPU; its tensors are not changed in place.
        """
        if self._moved is None or not self._is_same(graph):
            # what was given is kept, so that no other tensors can take its place
            self._given, self._moved = graph, graph.to(self.device)
            return self._moved
        return self._moved.with_positions(
            graph.positions.to(self.device), graph.cell.to(self.device)
        )

    def _is_same(self, graph: AtomGraph) -> bool:
        return all(
            getattr(graph, field.name) is getattr(self._given, field.name)
            for field in fields(graph)
            if field.name not in ("positions", "cell")
        )
