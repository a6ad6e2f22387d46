"""Arithmetic with fewer digits, for those who ask for it by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from jmp_calc.errors import ArgumentError
from jmp_calc.models.layers import in_full_precision

APPROXIMATIONS = ("tf32", "bf16")
"""Names of what may be asked for; None is exact."""


def checked_approximation(
    name: str | None, dtype: str, device: torch.device
) -> str | None:
    """Return a name of ``APPROXIMATIONS``, or None.

    Args:
        name: What is asked for.
        dtype: Precision of the network, by name.
        device: Where it computes.

    Raises:
        ArgumentError: If there is no such approximation, not on this device, or the
            network is float64.
    """
    if name is None:
        return None
    if name not in APPROXIMATIONS:
        raise ArgumentError(
            f"approximate is {name!r}; choose from None (exact), "
            f"{', '.join(repr(known) for known in APPROXIMATIONS)}"
        )
    if dtype != "float32":
        raise ArgumentError(
            f"approximate={name!r} takes digits away from a float32 network, and dtype "
            f"is {dtype!r}; leave one of them out"
        )
    if name == "tf32" and device.type != "cuda":
        raise ArgumentError(
            f"approximate='tf32' is arithmetic of CUDA and would change nothing on "
            f"device {str(device)!r}, where there is 'bf16'; leave it out, or compute "
            "on device 'cuda'"
        )
    return name


def approximation_note(name: str) -> str:
    """Return a sentence about results of an approximation.

    Args:
        name: Of ``APPROXIMATIONS``.
    """
    return f"approximate={name}: forces have errors of rounding; see JMPCalculator"


@contextmanager
def arithmetic(x: torch.Tensor, approximate: str | None) -> Iterator[None]:
    """Compute in the precision of the network, or with fewer digits, inside a block.

    Autocast and the precision of products that the caller has set are the same again
    afterwards, also after an error; blocks may overlap, and the last sets back. What
    was inherited from a wider setting is explicit afterwards, with the same value. With
    "tf32" products of float32 matrices on CUDA have factors of 10 bits, as set for the
    whole process meanwhile: other threads see it; on other devices it changes nothing,
    and on CUDA it has not been measured. With "bf16" products have factors of 7 bits by
    autocast; geometry, bases, sums over atoms and derivatives of the geometry do not.
    It needs the network as it was trained, which takes more memory and operations than
    the form for inference.

    Errors of forces of jmp-nano in bf16 on the CPU, root mean square (largest), meV/A:
    ethanol 4.8 (12), aspirin 8.1 (26), where forces are 2500 and 2900; of energies 0.3
    and 0.6 meV per atom; float32 has 0.001 (0.004). So bf16 is for sorting structures
    out and not for dynamics. On that CPU it took 1.0 to 1.9 times as long.

    Args:
        x: A tensor on the device of the work.
        approximate: A name of ``APPROXIMATIONS``; None: the precision of the network.
    """
    if approximate == "bf16":
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            yield
        return
    with in_full_precision(x):  # autocast of the caller
        if approximate is None:
            yield
            return
        with _shared.entered():
            yield


class _Shared:
    """TF32 of the process, set by the first block and set back by the last."""

    def __init__(self) -> None:
        self._lock, self._depth = threading.Lock(), 0
        self._block = ExitStack()

    @contextmanager
    def entered(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._block.enter_context(_tf32_products())
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._block.close()


@contextmanager
def _tf32_products() -> Iterator[None]:
    products = torch.backends.cuda.matmul
    newer = getattr(products, "fp32_precision", None)  # from torch 2.9 on
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # of callers who use the newer switch, after which it is shut
        older = None
        products.fp32_precision = "tf32"
    # compilers read the older one, and "high" and "medium" have it already
    if older == "highest":
        products.allow_tf32 = True
    try:
        yield
    finally:
        if older == "highest":
            products.allow_tf32 = False
        if newer is not None:
            products.fp32_precision = newer


_shared = _Shared()
