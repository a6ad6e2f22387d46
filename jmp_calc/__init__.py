"""JMP models as an ASE calculator; every public name is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmp_calc.calculator import JMPCalculator as JMPCalculator
    from jmp_calc.calculator import Predictor as Predictor
    from jmp_calc.errors import ArgumentError as ArgumentError
    from jmp_calc.errors import CheckpointError as CheckpointError
    from jmp_calc.errors import DataError as DataError
    from jmp_calc.errors import DownloadError as DownloadError
    from jmp_calc.errors import JMPError as JMPError
    from jmp_calc.errors import UnsupportedSystemError as UnsupportedSystemError
    from jmp_calc.heap import keep_freed_memory as keep_freed_memory
    from jmp_calc.pretrained import load_model as load_model

    __version__: str

_HOME = {
    "ArgumentError": "jmp_calc.errors",
    "CheckpointError": "jmp_calc.errors",
    "DataError": "jmp_calc.errors",
    "DownloadError": "jmp_calc.errors",
    "JMPCalculator": "jmp_calc.calculator",
    "JMPError": "jmp_calc.errors",
    "Predictor": "jmp_calc.calculator",
    "UnsupportedSystemError": "jmp_calc.errors",
    "keep_freed_memory": "jmp_calc.heap",
    "load_model": "jmp_calc.pretrained",
}

__all__ = [  # noqa: RUF022 (the calculator comes first)
    "JMPCalculator",
    "Predictor",
    "load_model",
    "keep_freed_memory",
    "JMPError",
    "ArgumentError",
    "CheckpointError",
    "DataError",
    "DownloadError",
    "UnsupportedSystemError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("jmp-calc")
    if name not in _HOME:
        raise AttributeError(f"module 'jmp_calc' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
