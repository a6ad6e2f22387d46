"""What every benchmark result says about how it was made."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "numpy", "ase", "matscipy")


def hardware() -> str:
    """Return in words what computes; part of file names."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name()).replace(" ", "-")
    return f"{platform.machine()}-{torch.get_num_threads()}threads"


def processor() -> dict[str, Any]:
    """Return the model of the processor, and how many cores and how much memory."""
    facts: dict[str, Any] = {"processor": platform.processor() or platform.machine()}
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
        facts = {"processor": names[0] if names else facts["processor"]}
    facts["cores"] = len(os.sched_getaffinity(0))
    if meminfo.exists():
        facts["memory_GB"] = round(int(meminfo.read_text().split()[1]) / 2**20, 1)
    return facts


def write_result(
    question: str, values: Mapping[str, Any], out: Path | None = None
) -> Path:
    """Write values with command, versions, hardware and commit; return the file.

    Args:
        question: First part of the file name.
        values: Plain data; names carry the units.
        out: File; None: ``benchmarks/results/QUESTION_HARDWARE_DATE.json``.
    """
    folder = Path(__file__).parent / "results"
    path = out or folder / f"{question}_{hardware()}_{date.today()}.json"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    facts = {
        "question": question,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": str(date.today()),
        "commit": commit or None,
        "hardware": hardware(),
        **processor(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "values": values,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {path}")
    return path
