"""Calculators that kill their own process, as a lack of memory would."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ase.calculators.emt import EMT

MARK = Path("killed")
"""File in the working folder that tells that it has happened."""


class _Deadly(EMT):
    n_calls = 0

    def __init__(self, *, is_always: bool) -> None:
        super().__init__()
        self._is_always = is_always

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        self.n_calls += 1
        if "Al" in atoms.get_chemical_symbols() and self.n_calls > 1:
            if self._is_always:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                MARK.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(atoms, properties, system_changes)


def once() -> EMT:
    """EMT that kills the process once, in the middle of the first aluminium."""
    return _Deadly(is_always=False)


def always() -> EMT:
    """EMT that kills the process whenever it meets aluminium."""
    return _Deadly(is_always=True)
