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
            scale = published["GFLOP_per_s"] / found["floor_GFLOP_per_s"]
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


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "speed_forces": speed_forces,
    "speed_vs": speed_vs,
}


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
