"""Arithmetic of a run: autocast, and scales that keep numbers inside float16."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from jmp_train.config import Precision
from jmp_train.parallel import Group

LOSS_SCALE = 2.0**16
"""First scale of the loss, that of ``torch.amp.GradScaler``."""
ENERGY_MULTIPLIER = 2.0**8
"""First factor of an energy that is differentiated (training specification, 2.2)."""
RETRIES = 50
"""How often a smaller factor of the energy is tried for one batch, likewise."""

_PATIENCE = 2000
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(
    precision: Precision, device: torch.device
) -> AbstractContextManager[object]:
    """Return the context in which the network is evaluated.

    Args:
        precision: With 32 and 64 bits nothing is cast.
        device: Where the network is.
    """
    if precision not in _AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


class AdaptiveScale:
    """A factor that is halved when numbers overflow, and doubled when none did long.

    ``torch.amp.GradScaler`` looks at the gradients of one process; here the caller
    decides, so that all processes decide alike, also where each has a part of them.
    """

    def __init__(self, start: float, *, patience: int = _PATIENCE) -> None:
        """Start with a factor.

        Args:
            start: A power of two, so that it changes no digit.
            patience: Finite results in a row after which it is doubled.
        """
        self.value = start
        self._patience = patience
        self._n_finite = 0

    def update(self, *, is_finite: bool) -> None:
        """Count a result.

        Args:
            is_finite: Whether it was.
        """
        self._n_finite += 1
        if not is_finite:
            self.value, self._n_finite = self.value / 2, 0
        elif self._n_finite == self._patience:
            self.value, self._n_finite = self.value * 2, 0

    def agree(self, group: Group) -> None:
        """Take the smallest factor and count of all processes.

        Args:
            group: The processes.
        """
        self.value = group.smallest(self.value)
        self._n_finite = int(group.smallest(float(self._n_finite)))

    def state(self) -> dict[str, Any]:
        """Return what must be saved, as plain JSON."""
        return {"value": self.value, "n_finite": self._n_finite}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned.

        Args:
            state: Of a run with the same settings.
        """
        self.value, self._n_finite = float(state["value"]), int(state["n_finite"])
