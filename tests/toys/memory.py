"""What tensors take while something is computed: all of them, and the largest."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _has_storage(x: Any) -> bool:
    """Whether it is a tensor; weights in the layout of products show no storage."""
    return isinstance(x, torch.Tensor) and x.layout == torch.strided


class LiveBytes(TorchDispatchMode):
    """Counts the tensors that operations inside make, until they are freed.

    What an operation needs for a moment only is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        before = {
            x.untyped_storage().data_ptr()
            for x in tree_leaves((args, kwargs))
            if _has_storage(x)
        }
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if not _has_storage(x):
                continue
            storage = x.untyped_storage()
            place = storage.data_ptr()
            if place not in self._known and place not in before and storage.nbytes():
                self._known.add(place)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, place, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _gone(self, place: int, n_bytes: int) -> None:
        self._known.discard(place)
        self.now -= n_bytes


class Arrays(TorchDispatchMode):
    """Remembers the largest array that any operation makes, and counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.n_operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.n_operations += 1
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                # views that repeat what they show take no memory
                held = value.untyped_storage().nbytes() // value.element_size()
                self.largest = max(self.largest, min(value.numel(), held))
        return result
