"""One thread for small work, where threads wait longer than they save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.jmp import JMPModel

SMALL = 2**14
"""Elements of edge features up to which one thread is used."""


@contextmanager
def threads_that_pay(model: JMPModel, graph: AtomGraph) -> Iterator[None]:
    """Compute small systems on the CPU in one thread inside a block.

    The matrices of a molecule of ten atoms are so small that a second thread adds a
    third to the time, and far more when other programs are running, because threads
    wait for each other in each of a thousand operations. The number of threads of the
    calling thread is set back afterwards, also after an error. Other threads keep
    theirs, but for one that uses torch for the first time meanwhile, which gets one,
    too.

    Args:
        model: The network, on the device that does the work.
        graph: All systems.
    """
    n_threads = torch.get_num_threads()
    is_small = graph.main.n_edges * model.config.emb_size_edge <= SMALL
    if n_threads == 1 or not is_small or next(model.parameters()).device.type != "cpu":
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
