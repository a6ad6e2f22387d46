"""AdamW, warm-up and cosine, shared-parameter gradient scaling, moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from jmp_calc.models.jmp import JMPModel
from jmp_train.config import OptimConfig


def build_optimizer(model: JMPModel, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over all parameters in one group.

    Args:
        model: The network.
        config: Rates and decay.
    """
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the learning rate of a step: linear warm-up, then cosine, then constant.

    Args:
        step: Number of the step, from 0.
        total_steps: Step at which the cosine ends.
        config: Peak, start and end of the schedule.

    Source:
        Training specification, section 1.8; held at the end value afterwards.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if step < warmup:
        start = peak * config.warmup_start
        return start + (peak - start) * step / max(warmup - 1, 1)
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    end = peak * config.final
    return end + 0.5 * (peak - end) * (1 + math.cos(math.pi * progress))


_EXTRA_USES = {
    "mlp_rbf_tint": 0,
    "mlp_rbf_h": 0,
    "mlp_rbf_qint": 0,
    "mlp_rbf_aeint": 0,
    "mlp_rbf_eaint": 0,
    "mlp_rbf_aint": 0,
    "mlp_cbf_tint": 0,
    "mlp_cbf_qint": 0,
    "mlp_cbf_aeint": 0,
    "mlp_cbf_eaint": 0,
    "mlp_sbf_qint": 0,
    "mlp_rbf_out": 1,
}
"""Shared basis projections: how often each is used beyond once per block."""


@torch.no_grad()
def finish_gradients(model: JMPModel) -> None:
    """Divide shared gradients by their uses; give absent tasks zero gradients.

    With zeros instead of None, decay and momentum act on the heads of tasks that a
    batch lacks, as in the published training.

    Args:
        model: The network, after the backward pass and before clipping.

    Source:
        GemNet-OC specification, section 9; training specification, section 1.8.
    """
    bases = model.backbone.bases
    for name, extra in _EXTRA_USES.items():
        weight = bases.get_parameter(f"{name}.weight")
        if weight.grad is not None:
            weight.grad.div_(model.config.num_blocks + extra)
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


class MovingAverage:
    """Exponential moving average of the parameters (buffers are not averaged)."""

    def __init__(self, model: JMPModel, decay: float) -> None:
        """Start from the current weights.

        Args:
            model: The network.
            decay: Part of the average that is kept at each update.
        """
        self.decay = decay
        self.values: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: JMPModel) -> None:
        """Move the average towards the current weights.

        Args:
            model: The network after an optimizer step.
        """
        for name, parameter in model.named_parameters():
            self.values[name].lerp_(parameter, 1 - self.decay)

    @contextmanager
    def applied_to(self, model: JMPModel) -> Iterator[None]:
        """Give the model the averaged weights inside a ``with`` block.

        Args:
            model: The network; it has its own weights again afterwards.
        """
        raw = {name: p.detach().clone() for name, p in model.named_parameters()}
        _copy(self.values, model)
        try:
            yield
        finally:
            _copy(raw, model)


@torch.no_grad()
def _copy(values: dict[str, Tensor], model: JMPModel) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
