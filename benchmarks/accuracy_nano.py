"""Errors of jmp-nano on the held-out structures of its own data sets.

    python benchmarks/accuracy_nano.py STORES [--split test] [--model jmp-nano]

STORES is the folder that ``jmp-train data prepare`` wrote. Nothing was tuned on the
test part. The numbers are those of ``jmp-train evaluate``; its report with pictures is
written to ``--report``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from provenance import write_result
from tqdm import tqdm

from jmp_train.evaluation.report import report_facts
from jmp_train.evaluation.run import REPORT, EvaluationSettings, run_evaluation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="jmp-nano")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tqdm(unit="system") as bar:

        def show(name: str, _n: int, added: int) -> None:
            bar.set_description(name)
            bar.update(added)

        done = run_evaluation(
            EvaluationSettings(
                weights=options.model,
                stores=options.stores,
                split=options.split,
                out=options.report or Path(folder),
                max_atoms=128,
            ),
            show,
        )
        print((done.out / REPORT).read_text(encoding="utf-8"))
    facts = report_facts(done.measured, done.scores)
    values = {
        "model": options.model,
        "weights_sha256": facts["sha256"],
        "split": options.split,
        "tasks": {
            name: found["errors"]
            | {
                "level_of_theory": found["level_of_theory_of_labels"],
                "by_source": found["by_source"],
            }
            for name, found in facts["sets"].items()
        },
    }
    write_result("accuracy_nano", values, options.out)


if __name__ == "__main__":
    main()
