"""AdamW, shared-parameter gradient scaling, clipping, moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from jmp_calc.models.jmp import JMPModel
from jmp_train.config import OptimConfig
from jmp_train.groups import ParameterGroup
from jmp_train.parallel import whole

MOMENTS = ("exp_avg", "exp_avg_sq")
"""Tensors that AdamW keeps for each parameter."""


def build_optimizer(
    groups: Sequence[ParameterGroup], config: OptimConfig
) -> torch.optim.AdamW:
    """Return AdamW over groups of parameters, with its moments at zero.

    Args:
        groups: What learns, and at which rates.
        config: Rates and decay.
    """
    optimizer = torch.optim.AdamW(
        [
            {
                "params": list(group.parameters),
                "lr": group.factor * config.learning_rate,
            }
            for group in groups
        ],
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    for group in groups:
        for parameter in group.parameters:
            # As AdamW does at its first step; a resumed run reads into these.
            optimizer.state[parameter] = {
                "step": torch.tensor(0.0),
                **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
            }
    return optimizer


def moments(
    optimizer: torch.optim.AdamW, groups: Sequence[ParameterGroup]
) -> dict[str, Tensor]:
    """Return the moments of an optimizer by name, not copied.

    Args:
        optimizer: Of these groups.
        groups: Names and parameters.
    """
    return {
        f"{moment}.{name}": optimizer.state[parameter][moment]
        for group in groups
        for name, parameter in zip(group.names, group.parameters, strict=True)
        for moment in MOMENTS
    }


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
def finish_gradients(model: JMPModel, factor: float = 1.0) -> None:
    """Multiply gradients by a factor, and divide shared ones by their uses.

    Args:
        model: The network, after the backward pass and before clipping.
        factor: One over the scale of the loss.

    Source:
        GemNet-OC specification, section 9; training specification, section 1.8.
    """
    if factor != 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
    bases = model.backbone.bases
    for name, extra in _EXTRA_USES.items():
        weight = bases.get_parameter(f"{name}.weight")
        if weight.grad is not None:
            weight.grad.div_(model.config.num_blocks + extra)


def clip_gradients(parameters: Sequence[Tensor], config: OptimConfig) -> float:
    """Clip gradients by norm, by value, by both or not at all; return their norm.

    Args:
        parameters: What learns.
        config: The limits.

    Returns:
        Global norm before clipping, the same in all processes.
    """
    limit = math.inf if config.clip_norm is None else config.clip_norm
    norm = float(whole(torch.nn.utils.clip_grad_norm_(parameters, limit)))
    if config.clip_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, config.clip_value)
    return norm


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
