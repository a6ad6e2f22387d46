"""Write the tables of results into the two READMEs and the card of jmp-nano.

    python benchmarks/readme_tables.py [NAME ...]

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; everything between
them is made from the newest result file of its question that was measured on a CPU.
With names, only these are written. A test checks that nothing differs.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILES = (
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "jmp_calc" / "weights" / "jmp-nano.md",
)
RESULTS = ROOT / "benchmarks" / "results"
STRUCTURES = {
    "ethanol": "ethanol, 9 atoms",
    "molecule": "aspirin, 21 atoms",
    "cell": "rutile, 96 atoms",
}
OTHERS = {"mace_small": "MACE, small", "chgnet": "CHGNet 0.3.0"}


def newest(question: str) -> tuple[Path, dict[str, Any]]:
    """Return the newest result file that answers a question, and its content.

    Raises:
        FileNotFoundError: If there is none that was measured on a CPU.
    """
    found = RESULTS.glob(f"{question}_*threads_*.json")
    # of one day the one with more threads
    path = max(found, key=lambda p: (p.stem.rsplit("_", 1)[1], p.name), default=None)
    if path is None:
        raise FileNotFoundError(
            f"benchmarks/results has no file {question}_*threads_*.json, which the "
            f"table needs; measure it first: benchmarks/README.md has the command"
        )
    return path, json.loads(path.read_text(encoding="utf-8"))


def source(path: Path, facts: dict[str, Any]) -> str:
    """Return where the numbers of a table are from."""
    threads = facts["hardware"].rsplit("-", 1)[1].removesuffix("threads")
    threads += " thread" if threads == "1" else " threads"
    on = f"{facts['processor']}, {threads}" if "processor" in facts else threads
    return sentence(
        f"From `benchmarks/results/{path.name}` (`python benchmarks/"
        f"{facts['command']}`; {on}, torch {facts['versions']['torch']})."
    )


def sentence(text: str) -> str:
    """Return text in lines of the usual length."""
    return textwrap.fill(text, 88, break_long_words=False, break_on_hyphens=False)


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown; columns of ``head`` are divided by bars."""
    names = [name.strip() for name in head.split("|")]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def digits(value: float, n: int = 3) -> str:
    """Return a number with so many digits, large ones without an exponent."""
    return f"{float(f'{value:.{n}g}'):g}"


def seconds(value: float) -> str:
    """Return a time with three digits."""
    return f"{digits(1000 * value)} ms" if value < 0.9995 else f"{digits(value)} s"


def speed_forces(facts: dict[str, Any]) -> str:
    """Time, efficiency and memory, beside the published code."""
    published = json.loads(
        (ROOT / "benchmarks" / "published_code.json").read_text(encoding="utf-8")
    )
    # times of another day, as if large products had been as fast as in this one
    scale = published["GFLOP_per_s"] / facts["values"]["product_GFLOP_per_s"]
    rows = []
    for case, found in facts["values"]["cases"].items():
        size, name, forces = case.split("-")
        other = published["cases"].get(case, {})
        ratio, memory = "–", "–"
        if "time_s" in other:
            ratio = f"{other['time_s'] * scale / found['time_s']:.1f}"
            memory = f"{other['peak_GB']:.1f} GB"
        elif "more_than_GB" in other:
            memory = f"more than {other['more_than_GB']} GB"
        rows.append(
            (
                "jmp-nano" if size == "nano" else size,
                STRUCTURES[name],
                forces,
                seconds(found["time_s"]),
                f"{found['efficiency']:.2f}",
                f"{found['floor_packed_s'] / found['time_s']:.2f}",
                ratio,
                f"{found['peak_of_process_MB'] / 1024:.1f} GB",
                memory,
            )
        )
    head = (
        "network | structure | forces | time | efficiency | by packed products | times "
        "as fast as the published code | memory | memory of the published code"
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
    """Steps per second, what a step takes around the network, and how runs start."""
    start = facts["values"]["start"]
    rows = []
    words = {"aspirin": "molecule", "rutile": "cell"}
    for run, found in facts["values"]["runs"].items():
        model, name = run.split(",")[0].split("-")
        rows.append(
            (
                "jmp-nano" if model == "nano" else model,
                STRUCTURES[words.get(name, name)],
                digits(found["steps_per_second"]),
                f"{digits(found['median_ms_per_step'])} ms",
                f"{found['median_outside_ms_per_step']:.2f} ms",
                f"{found['median_outside_percent']:.1f} %",
            )
        )
    head = (
        "network | structure | steps per second | step | of it outside of the network "
        "| share"
    )
    of_starts = sentence(
        f"`jmp-md run` has done one step of ethanol "
        f"{seconds(start['run_of_one_step_s'])} after it was called; the slowest "
        f"`--help` (of `{start['slowest_help']}`) takes "
        f"{seconds(start['slowest_help_s'])}."
    )
    return f"{table(head, rows)}\n\n{of_starts}"


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
            names = {"evaluate": "`calc.evaluate`", "jmp-md energy": "`jmp-md energy`"}
            rows.append(
                (
                    "jmp-nano" if size == "nano" else size,
                    threads.replace("1 threads", "1 thread"),
                    names.get(way, way),
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
        cells = ["–" if value is None else digits(value) for value in times]
        rows.append((f"{int(n_atoms):,}".replace(",", " "), *cells))
    return table(
        f"atoms | search, {facts['values']['cutoff_A']:g} Å | matscipy | vesin | graph "
        "of jmp-nano | step with new edges | step without | graph of S and L",
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
    batch = f"{values['model']}, batch of {values['batch_systems']}"
    return table(f"{batch} | step | on the processor | peak above the weights", rows)


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
                    digits(errors["force_rms_error_meV_per_A"], 2),
                    digits(errors["force_max_error_meV_per_A"], 2),
                    digits(errors["force_relative_error"], 2),
                    digits(errors["energy_max_error_meV_per_atom"], 2),
                )
            )
    return table(
        "network | structure | arithmetic | forces, rms (meV/Å) | forces, largest "
        "(meV/Å) | forces, relative | energy (meV/atom)",
        rows,
    )


def drift(facts: dict[str, Any]) -> str:
    """What fewer digits do to jmp-nano: errors of forces, and the energy of a run."""
    cases = facts["values"]["cases"]
    rows = []
    for kind, found in facts["values"]["nve"].items():
        if not isinstance(found, dict):
            continue
        errors = [
            digits(cases[case][kind]["force_rms_error_meV_per_A"], 2)
            if kind in cases[case]
            else "reference"
            for case in ("nano-ethanol-gradient", "nano-molecule-gradient")
        ]
        rows.append(
            (
                kind,
                *errors,
                f"{found['drift_meV_per_atom_per_ps']:+.4f}",
                f"{found['fluctuation_meV_per_atom']:.4f}",
            )
        )
    return table(
        "arithmetic | error of forces, ethanol (meV/Å) | aspirin | drift "
        "(meV/atom/ps) | scatter (meV/atom)",
        rows,
    )


def memory_forces(facts: dict[str, Any]) -> str:
    """Peak memory by size, and how it grows."""
    keeping, again = facts["values"]["keeping"], facts["values"]["recomputing"]
    recomputed = {point["n_atoms"]: point for point in again["points"]}
    kept = {point["n_atoms"]: point for point in keeping["points"]}
    rows = []
    for n_atoms, point in sorted({**recomputed, **kept}.items()):
        both = [kept.get(n_atoms), recomputed.get(n_atoms)]
        cells = [
            f"{found['peak_above_weights_MB'] / 1024:.2f} GB" if found else "–"
            for found in both
        ]
        times = [found.get("cpu_s") if found else None for found in both]
        # times of busy machines are left out of the file
        ratio = f"{times[1] / times[0]:.2f}" if None not in times else "–"
        rows.append((str(n_atoms), str(point["edges"]["main"]), *cells, ratio))
    off = max(way["largest_departure_from_line"] for way in (keeping, again))
    slopes = [digits(way["kB_per_main_edge"]) for way in (keeping, again)]
    of_lines = sentence(
        f"Straight lines through these points have {slopes[0]} kB for each main edge, "
        f"and {slopes[1]} kB with `recompute`; the point farthest from its line is "
        f"{100 * off:.0f} % off."
    )
    head = "atoms | main edges | memory | with `recompute` | times as long"
    return f"{table(head, rows)}\n\n{of_lines}"


_ERRORS = "structures | energy meV/atom | none | forces meV/Å | none"


def _errors(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(found["n_systems"]),
        f"{found['energy_mae_meV_per_atom']:.1f}",
        f"{found['baseline_energy_mae_meV_per_atom']:.1f}",
        f"{1000 * found['force_mae_eV_per_A']:.0f}",
        f"{1000 * found['baseline_force_mae_eV_per_A']:.0f}",
    )


def accuracy(facts: dict[str, Any]) -> str:
    """Errors on held-out structures by head."""
    rows = [
        (f"`{task}`", found["level_of_theory"], *_errors(found))
        for task, found in facts["values"]["tasks"].items()
    ]
    return table(f"head | level of theory | {_ERRORS}", rows)


def accuracy_origins(facts: dict[str, Any]) -> str:
    """Errors on held-out structures of a head, by what they are."""
    rows = [
        (f"`{task}`", name.removeprefix(f"{task}, "), *_errors(found))
        for task, of_task in facts["values"]["tasks"].items()
        for name, found in sorted(of_task["by_source"].items())
        if len(of_task["by_source"]) > 1
    ]
    return table(f"head | set or origin | {_ERRORS}", rows)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "accuracy": ("accuracy_nano", accuracy),
    "accuracy_origins": ("accuracy_nano", accuracy_origins),
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


def filled(text: str, names: Sequence[str] = tuple(TABLES)) -> str:
    """Return a text with tables made anew.

    Args:
        text: Any text with marks.
        names: Which tables; others stay as they are.

    Raises:
        FileNotFoundError: If the result file of a table is missing.
        ValueError: If a mark names no table, or a result file lacks what a table needs.
    """

    def made(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(
                f"there is no table {name!r}; choose from {', '.join(TABLES)}"
            )
        if name not in names:
            return match[0]
        question, make = TABLES[name]
        path, facts = newest(question)
        try:
            body = make(facts)
        except KeyError as error:
            raise ValueError(
                f"{path.name} has no {error}, which table {name!r} needs: it was "
                "written by another version of its script; measure it anew"
            ) from error
        end = f"{body}\n\n{source(path, facts)}\n\n<!-- end -->"
        return f"<!-- table: {name} -->\n\n{end}"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", made, text, flags=re.DOTALL)


def main() -> None:
    names = sys.argv[1:] or list(TABLES)
    try:
        if unknown := [name for name in names if name not in TABLES]:
            raise ValueError(
                f"there is no table {', '.join(map(repr, unknown))}; choose from "
                f"{', '.join(TABLES)}"
            )
        texts = {
            path: filled(path.read_text(encoding="utf-8"), names) for path in FILES
        }
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
