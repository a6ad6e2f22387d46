"""What does a step of molecular dynamics take, in the network and around it?

    python benchmarks/speed_md.py [--cases nano-ethanol ...] [--repeats 3] [--threads 2]

Each case is ``jmp-md run`` as users call it: NVT, rows and frames every 10 steps, all
watches, and a progress bar that is drawn. ``network`` is the time within the network
(energy and its derivative), ``outside`` all the rest of a step: integrator, graph,
conversion, watches, files. Both are means over the steps after the first 10, wall time;
``cpu`` is processor time of all threads. A run is a process of its own; the spread is
that of the repeats. S has random weights and graphs of 7 angstrom and 100 neighbours.

``start`` is the wall time of whole processes, least of the repeats: ``jmp-md run`` with
one step of ethanol by jmp-nano, and the slowest ``--help`` of a verb.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ase.io import write
from provenance import write_result
from speed_forces import RULES, structure

from jmp_calc.cli import VERBS, main
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import SIZES, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import save_weights
from jmp_train.cli import VERBS as TRAIN_VERBS

CASES = {
    "nano-ethanol": ("ethanol", 200),
    "nano-aspirin": ("molecule", 100),
    "nano-rutile": ("cell", 20),
    "S-aspirin": ("molecule", 20),
}
"""Case -> structure, and steps that are timed."""

WARM_UP = 10
"""Steps that are not timed; a multiple of the strides of log and trajectory."""


class Terminal(io.StringIO):
    """Stands in for a terminal, on which progress is shown."""

    def isatty(self) -> bool:
        return True


def random_weights(path: Path) -> None:
    """Write a weights file of size S for gradient forces on molecules."""
    torch.manual_seed(0)
    rules = GraphRules(
        rules="published",
        atom_edge_cutoff=None,
        radial_cutoff=12.0,
        atom_atom_cutoff=12.0,
        **RULES["molecule", "gradient"],
    )
    spec = HeadSpec(name="task", graph=rules, forces="gradient", domain="molecule")
    save_weights(JMPModel(SIZES["S"], [spec]), path)


def timed_run(case: str, folder: Path) -> dict[str, float]:
    """Run one case in this process; return times per step, ms."""
    calls: list[tuple[float, float, float]] = []
    forward = JMPModel.forward

    def timed(self: JMPModel, *args: Any, **options: Any) -> Any:
        start, cpu = time.perf_counter(), time.process_time()
        result = forward(self, *args, **options)
        calls.append((start, time.perf_counter(), cpu))
        return result

    JMPModel.forward = timed
    name, steps = CASES[case]
    write(folder / "start.xyz", structure(name))
    words = ["run", str(folder / "start.xyz"), "--out", str(folder / "out")]
    words += ["--steps", str(WARM_UP + steps)]
    if case.startswith("S-"):
        random_weights(folder / "random.safetensors")
        # random forces heat, and no step is to be lost to the watches
        words += ["--model", str(folder / "random.safetensors")]
        words += ["--temperature-K", "10", "--max-energy-change-eV-per-atom", "1e6"]
        words += ["--max-temperature-K", "1e6", "--min-contact", "0.01"]
    elif name == "cell":
        words += ["--head", "pbe"]
    told = Terminal()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    # one evaluation at the start, and one in each step
    if code != 0 or len(calls) != 1 + WARM_UP + steps:
        sys.exit(f"{case}: exit code {code}, {len(calls)} calls\n{told.getvalue()}")
    timed_calls = calls[WARM_UP:]
    whole = timed_calls[-1][0] - timed_calls[0][0]
    network = sum(end - start for start, end, _ in timed_calls[:-1])
    cpu = timed_calls[-1][2] - timed_calls[0][2]
    return {
        "ms_per_step": 1000 * whole / steps,
        "network_ms_per_step": 1000 * network / steps,
        "outside_ms_per_step": 1000 * (whole - network) / steps,
        "outside_percent": 100 * (whole - network) / whole,
        "cpu_ms_per_step": 1000 * cpu / steps,
    }


def in_process(words: list[str], threads: int) -> str:
    """Run a program with a number of threads; return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def measured(case: str, repeats: int, threads: int) -> dict[str, Any]:
    """Return medians and spreads of a case over runs."""
    words = [sys.executable, __file__, "--worker", case]
    runs = [json.loads(in_process(words, threads)) for _ in range(repeats)]
    found: dict[str, Any] = {
        "n_atoms": len(structure(CASES[case][0])),
        "timed_steps": CASES[case][1],
    }
    for name in runs[0]:
        values = [run[name] for run in runs]
        found[f"median_{name}"] = statistics.median(values)
        found[f"min_{name}"], found[f"max_{name}"] = min(values), max(values)
    found["steps_per_second"] = 1000 / found["median_ms_per_step"]
    return found


def program(name: str) -> str:
    """Return where a program of this environment is."""
    return str(Path(sys.executable).with_name(name))


def seconds_of(words: list[str], repeats: int, threads: int) -> float:
    """Return the least wall time of a whole process."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        in_process(words, threads)
        times.append(time.perf_counter() - start)
    return min(times)


def measured_start(repeats: int, threads: int) -> dict[str, Any]:
    """Return how long programs take until they help, or have done one step."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "ethanol.xyz", structure("ethanol"))
        words = [program("jmp-md"), "run", f"{folder}/ethanol.xyz", "--steps", "1"]
        words += ["--overwrite", "--out", folder + "/out"]
        run_s = seconds_of(words, repeats, threads)
    helps = {
        f"{name} {verb}": seconds_of([program(name), verb, "--help"], repeats, threads)
        for name, verbs in (("jmp-md", VERBS), ("jmp-train", TRAIN_VERBS))
        for verb in verbs
    }
    slowest = max(helps, key=lambda name: helps[name])
    return {
        "run_of_one_step_s": run_s,
        "slowest_help": slowest,
        "slowest_help_s": helps[slowest],
    }


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=list(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(timed_run(options.worker, Path(folder))))
        return
    torch.set_num_threads(options.threads)
    start = measured_start(options.repeats, options.threads)
    print(
        f"start: run of one step {start['run_of_one_step_s']:.2f} s, slowest help "
        f"{start['slowest_help_s']:.2f} s ({start['slowest_help']})"
    )
    runs = {}
    for case in options.cases:
        found = measured(case, options.repeats, options.threads)
        # jmp-md computes in float32 unless told otherwise
        runs[f"{case}, float32"] = found
        print(
            f"{case:13s} {found['steps_per_second']:7.2f} steps/s, "
            f"{found['median_ms_per_step']:.2f} ms: network "
            f"{found['median_network_ms_per_step']:.2f}, outside "
            f"{found['median_outside_ms_per_step']:.2f} "
            f"({found['median_outside_percent']:.1f} %)",
            flush=True,
        )
    values = {"repeats": options.repeats, "start": start, "runs": runs}
    write_result("speed_md", values, options.out)


if __name__ == "__main__":
    run()
