"""Write the tables of results into README.md and benchmarks/README.md.

    python benchmarks/readme_tables.py

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; everything between
them is made from the newest result file of that name. Tests check that nothing differs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
STRUCTURES = {
    "ethanol": "ethanol, 9 atoms",
    "molecule": "aspirin, 21 atoms",
    "cell": "rutile, 96 atoms",
}
OTHERS = {"mace_small": "MACE, small", "chgnet": "CHGNet 0.3.0"}


def newest(question: str) -> tuple[Path, dict[str, Any]]:
    """Return the newest result file that answers a question, and its content."""
    found = (ROOT / "benchmarks" / "results").glob(f"{question}_*.json")
    path = max(found, key=lambda p: p.stem.rsplit("_", 1)[1])
    return path, json.loads(path.read_text(encoding="utf-8"))


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; columns of ``head`` are divided by bars."""
    names = [name.strip() for name in head.split("|")]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def seconds(value: float) -> str:
    """Return a time with three digits."""
    return f"{1000 * value:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def speed_forces(facts: dict[str, Any]) -> str:
    """Time, efficiency and memory, beside the published code."""
    published = json.loads((ROOT / "benchmarks" / "published_code.json").read_text())
    rows = []
    for case, found in facts["values"]["cases"].items():
        size, name, forces = case.split("-")
        other = published["cases"].get(case)
        ratio = memory = "–"
        if other is not None:
            scale = published["GFLOP_per_s"] / facts["values"]["product_GFLOP_per_s"]
            ratio = f"{other['time_s'] * scale / found['time_s']:.1f}"
            memory = f"{other['peak_GB']:.1f} GB"
        rows.append(
            (
                "jmp-nano" if size == "nano" else size,
                STRUCTURES[name],
                forces,
                seconds(found["time_s"]),
                f"{found['efficiency']:.2f}",
                ratio,
                f"{found['peak_of_process_MB'] / 1024:.1f} GB",
                memory,
            )
        )
    head = (
        "network | structure | forces | time | efficiency | published code / this, "
        "in time | memory of the process | of the published code"
    )
    return table(head, rows)


def speed_vs(facts: dict[str, Any]) -> str:
    """Evaluations per second of several calculators."""
    rows = []
    for system, rates in facts["values"]["evaluations_per_s"].items():
        others = [rates[name] for name in OTHERS]
        ratio = rates["jmp-nano"] / max(others)
        cells = [f"{rate:.1f}" for rate in (rates["jmp-nano"], *others)]
        rows.append((STRUCTURES[system], *cells, f"{ratio:.2f}"))
    names = " | ".join(OTHERS.values())
    return table(f"structure | jmp-nano | {names} | jmp-nano / faster other", rows)


def speed_md(facts: dict[str, Any]) -> str:
    """Steps per second, and what a step takes beside the network."""
    rows = []
    for run, found in facts["values"]["runs"].items():
        model, name = run.split(",")[0].split("-")
        words = {"aspirin": "molecule", "rutile": "cell"}
        rows.append(
            (
                "jmp-nano" if model == "nano" else model,
                STRUCTURES[words.get(name, name)],
                f"{found['steps_per_second']:.3g}",
                f"{found['median_ms_per_step']:.3g} ms",
                f"{found['median_outside_ms_per_step']:.2f} ms",
                f"{found['median_outside_percent']:.1f} %",
            )
        )
    return table(
        "network | structure | steps per second | step | beside the network | share",
        rows,
    )


def speed_batches(facts: dict[str, Any]) -> str:
    """Molecules per second, alone and in batches."""
    rows = []
    for case, found in facts["values"].items():
        if not isinstance(found, dict):
            continue
        alone = found["one at a time"]["per_s"]
        size, threads = case.split(", ")
        for way in ("one at a time", "evaluate", "jmp-md energy"):
            rate = found[way]["per_s"]
            name = "`calc.evaluate`" if way == "evaluate" else way
            rows.append(
                (
                    "jmp-nano" if size == "nano" else size,
                    threads.replace("1 threads", "1 thread"),
                    name,
                    f"{rate:.0f}",
                    f"{rate / alone:.1f}",
                )
            )
    return table("network | on | way | molecules per second | ratio", rows)


def speed_neighbors(facts: dict[str, Any]) -> str:
    """Milliseconds of searches and graphs."""
    rows = []
    for n_atoms, found in facts["values"]["atoms"].items():
        search, nano = found["neighbors"], found["graph_jmp_nano"]
        times = [
            search["ours_ms"],
            search["matscipy_ms"],
            search.get("vesin_ms"),
            nano["fresh_ms"],
            nano["changed_ms"],
            nano["kept_ms"],
            found["graph_published"]["fresh_ms"],
        ]
        cells = ["–" if value is None else f"{value:.3g}" for value in times]
        rows.append((f"{int(n_atoms):,}".replace(",", " "), *cells))
    return table(
        "atoms | search | matscipy alone | vesin alone | graph of jmp-nano | step with "
        "new edges | step without | published graph",
        rows,
    )


def train_step(facts: dict[str, Any]) -> str:
    """A training step beside the enumerated form."""
    values = facts["values"]
    rows = [
        (
            form,
            seconds(found["wall_s"]),
            seconds(found["cpu_s"]),
            f"{found['peak_above_weights_MB'] / 1024:.2f} GB",
        )
        for form, found in values["forms"].items()
    ]
    ratio = values["ratio"]
    names = ("wall", "cpu", "memory")
    rows.append(("ratio", *(f"{100 * ratio[name]:.0f} %" for name in names)))
    return table("form | step | on the processor | peak above the weights", rows)


def precision(facts: dict[str, Any]) -> str:
    """Errors of float32 and of fewer digits."""
    rows = []
    for case, found in facts["values"]["cases"].items():
        size, name, forces = case.split("-")
        for kind, errors in found.items():
            if not isinstance(errors, dict):
                continue
            rows.append(
                (
                    "jmp-nano" if size == "nano" else f"{size}, {forces}",
                    STRUCTURES[name],
                    kind,
                    f"{errors['force_rms_error_meV_per_A']:.2g}",
                    f"{errors['force_max_error_meV_per_A']:.2g}",
                    f"{errors['force_relative_error']:.0e}",
                    f"{errors['energy_max_error_meV_per_atom']:.2g}",
                )
            )
    return table(
        "network | structure | arithmetic | forces, rms (meV/Å) | forces, largest "
        "(meV/Å) | forces, relative | energy (meV/atom)",
        rows,
    )


def drift(facts: dict[str, Any]) -> str:
    """Drift of the total energy of ethanol."""
    rows = [
        (
            kind,
            f"{found['drift_meV_per_atom_per_ps']:+.4f}",
            f"{found['fluctuation_meV_per_atom']:.4f}",
        )
        for kind, found in facts["values"]["nve"].items()
        if isinstance(found, dict)
    ]
    return table(
        "arithmetic | drift (meV/atom/ps) | scatter around it (meV/atom)", rows
    )


def memory_forces(facts: dict[str, Any]) -> str:
    """Peak memory by size."""
    ways = facts["values"]
    rows: dict[int, list[str]] = {}
    for place, found in enumerate(ways.values()):
        for point in found["points"]:
            cells = rows.setdefault(
                point["n_atoms"], [f"{point['edges']['main']}", *["–"] * len(ways)]
            )
            cells[1 + place] = f"{point['peak_above_weights_MB'] / 1024:.2f} GB"
    return table(
        "atoms | main edges | peak above the weights | with `recompute`",
        ((str(n_atoms), *cells) for n_atoms, cells in sorted(rows.items())),
    )


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "speed_forces": ("speed_forces", speed_forces),
    "speed_vs": ("speed_vs", speed_vs),
    "speed_md": ("speed_md", speed_md),
    "speed_batches": ("speed_batches", speed_batches),
    "speed_neighbors": ("speed_neighbors", speed_neighbors),
    "train_step": ("train_step", train_step),
    "precision": ("precision", precision),
    "drift": ("precision", drift),
    "memory_forces": ("memory_forces", memory_forces),
}
"""Table by name: the question whose result file it is made from, and what makes it."""


def filled(text: str) -> str:
    """Return a text with all tables made anew."""

    def made(match: re.Match[str]) -> str:
        name = match[1]
        path, facts = newest(name)
        command = facts["command"]
        source = (
            f"From `benchmarks/results/{path.name}`\n(`python benchmarks/{command}`)."
        )
        body = TABLES[name](facts)
        return f"<!-- table: {name} -->\n\n{body}\n\n{source}\n\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", made, text, flags=re.DOTALL)


def main() -> None:
    for path in FILES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
