"""Where a run computes."""

from __future__ import annotations

import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import Device


def choose_device(device: Device) -> torch.device:
    """Return the device that a setting means on this machine.

    Args:
        device: The setting; auto takes the GPU if there is one.

    Raises:
        ArgumentError: If a GPU is asked for and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            "device is 'cuda', but this machine or this build of torch has no GPU; "
            "choose cpu or auto"
        )
    return torch.device(device)
