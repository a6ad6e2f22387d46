"""Where a run computes."""

from __future__ import annotations

import torch

from jmp_calc.errors import ArgumentError
from jmp_train.config import Device


def choose_device(device: Device, *, local_rank: int = 0) -> torch.device:
    """Return the device that a setting means on this machine.

    Args:
        device: The setting; auto takes the GPU if there is one.
        local_rank: Number of the process on this machine; it takes that GPU.

    Raises:
        ArgumentError: If a GPU is asked for and there is none for this process.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ArgumentError(
            "device is 'cuda', but this machine or this build of torch has no GPU; "
            "choose cpu or auto"
        )
    n_devices = torch.cuda.device_count()
    if local_rank >= n_devices:
        raise ArgumentError(
            f"process {local_rank} of this machine has no GPU of its own, there are "
            f"{n_devices}; start at most {n_devices} processes for each machine"
        )
    return torch.device("cuda", local_rank)
