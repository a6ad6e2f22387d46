"""The tables of train/scaling.md say what the benchmarks measured."""

from __future__ import annotations

import json
import math
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


def throughput(model: str, system: str, forces: str, workers: int) -> dict[str, Any]:
    """One case of training."""
    wanted = (model, system, forces, workers, False)
    names = ("model", "system", "forces", "workers", "is_loader")
    (case,) = (
        case
        for case in values("train_throughput")["cases"]
        if tuple(case[name] for name in names) == wanted
    )
    return case


@pytest.mark.parametrize("model", ["nano", "S"])
@pytest.mark.parametrize("system", ["molecule", "slab"])
@pytest.mark.parametrize("forces", ["direct", "gradient"])
def test_training_is_as_fast_as_measured(model, system, forces) -> None:
    alone, helped = (throughput(model, system, forces, n) for n in (0, 2))
    expected = row(
        model,
        system,
        forces,
        f"{alone['systems_per_second']:.3g}",
        f"{alone['median_cpu_s_per_step']:.2f}",
        f"{alone['peak_memory_GB']:.1f} GB",
        f"{100 * alone['waiting_share']:.1f} %",
        f"{100 * helped['waiting_share']:.1f} %",
    )
    assert expected in TEXT


def loader_speeds() -> dict[str, float]:
    """Systems per second of the loader in one process, with published graphs."""
    return {
        case["system"]: case["systems_per_second"]
        for case in values("train_throughput")["cases"]
        if case["is_loader"] and case["model"] == "S" and not case["workers"]
    }


def loader_mean() -> float:
    """Mean over the systems of an epoch at T = 2: shares go with the root of sizes."""
    roots = [math.sqrt(n) for n in (100, 8, 2, 10)]
    share = sum(roots[:2]) / sum(roots)
    speeds = loader_speeds()
    return 1 / (share / speeds["slab"] + (1 - share) / speeds["molecule"])


def test_the_loader_is_as_fast_as_measured() -> None:
    speeds = loader_speeds()
    words = f"gives {speeds['molecule']:.0f} molecules or\n{speeds['slab']:.1f} slabs"
    assert words in TEXT
    assert f" = {loader_mean():.0f} systems per second." in TEXT


@pytest.mark.parametrize("speed", [6.4, 20, 50, 100])
def test_hours_and_loader_processes_follow(speed) -> None:
    hours = 2 * 174_049_185 / 3600 / speed
    processes = math.ceil(speed / loader_mean())
    assert row(f"{speed:g}", f"{hours:,.0f}", processes) in TEXT
