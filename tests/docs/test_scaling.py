"""The tables of train/scaling.md say what the benchmarks measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "train" / "scaling.md").read_text(encoding="utf-8")


def values(question: str) -> dict[str, Any]:
    """Values of the newest result of a benchmark."""
    files = sorted((ROOT / "benchmarks" / "results").glob(f"{question}_*.json"))
    content: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return content["values"]


def row(*cells: object) -> str:
    return f"\n| {' | '.join(map(str, cells))} |\n"


@pytest.mark.parametrize("size", ["nano", "S", "L"])
def test_checkpoints_are_as_measured(size) -> None:
    found = values("checkpoint_speed")["sizes"][size]
    expected = row(
        size,
        f"{found['n_parameters'] / 1e6:.2f} M",
        f"{found['bytes'] / 1e6:.0f} MB",
        f"{found['median_copy_s']:.2f} s",
        f"{found['median_write_s']:.1f} s",
        f"{found['median_read_s']:.1f} s",
    )
    assert expected in TEXT


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("published", "of four systems (as published)"),
        ("packed", "packed up to `max_atoms`"),
    ],
)
def test_plans_are_as_measured(kind, name) -> None:
    found = values("data_scale")["plans"][kind]
    assert found["n_samples"] == 174_049_185
    expected = row(
        name,
        f"{found['peak_bytes'] / 1e9:.2f} GB",
        f"{found['first_step_s']:.0f} s",
        f"{found['next_steps_ms']:.2f} ms",
    )
    assert expected in TEXT


@pytest.mark.parametrize(
    "name",
    ["oc20_relaxations-train", "transition1x_horm-train", "rmd17-aspirin-fold1-train"],
)
def test_stores_are_as_measured(name) -> None:
    found = values("data_scale")["stores"][name]
    line = ["(one size)"] * 2
    if found["record_bytes_per_atom"]:
        line = [
            f"{found['record_bytes_per_atom']:.1f}",
            f"{found['record_bytes_per_system']:.0f}",
        ]
    expected = row(
        name,
        found["n_systems"],
        f"{found['mean_atoms']:.1f}",
        *line,
        f"{found['mean_record_bytes']:.0f}",
        f"{found['shard_bytes_per_system']:.0f}",
    )
    assert expected in TEXT


@pytest.mark.parametrize(
    ("name", "millions", "mean_atoms", "excerpt", "paged"),
    [
        ("oc20", 100, 73, "oc20_relaxations-train", "oc20_relaxations-train"),
        ("oc22", 8, 80, "oc20_relaxations-train", "oc20_relaxations-train"),
        ("ani1x", 2, 15, "transition1x_horm-train", "rmd17-aspirin-fold1-train"),
        (
            "transition1x",
            10,
            14,
            "transition1x_horm-train",
            "rmd17-aspirin-fold1-train",
        ),
    ],
)
def test_sizes_of_the_stores_follow(name, millions, mean_atoms, excerpt, paged) -> None:
    stores = values("data_scale")["stores"]
    line, pages = stores[excerpt], stores[paged]
    per_atom, per_system = (
        line["record_bytes_per_atom"],
        line["record_bytes_per_system"],
    )
    record = per_system + mean_atoms * per_atom
    excess = pages["shard_bytes_per_system"] - pages["mean_record_bytes"]
    expected = row(
        name,
        f"{millions} M",
        mean_atoms,
        f"{record:.0f}",
        f"{millions * record / 1e3:.0f}",
        f"{millions * (record + excess) / 1e3:.0f}",
    )
    assert expected in TEXT
