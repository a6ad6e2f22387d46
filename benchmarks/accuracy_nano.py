"""Errors of jmp-nano on the held-out structures of its own data sets.

    python benchmarks/accuracy_nano.py STORES [--split test] [--model jmp-nano]

STORES is the folder that ``jmp-train data prepare`` wrote. Nothing was tuned on the
test part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from provenance import write_result

from jmp_calc import load_model
from jmp_train.data.batches import GraphDataset
from jmp_train.data.store import open_stores
from jmp_train.metrics import choose_samples, error_table, evaluate_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="jmp-nano")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    heads = list(model.heads)
    dataset = GraphDataset(
        open_stores(options.stores, heads, options.split),
        {name: model.heads[name].graph for name in heads},
    )
    errors = evaluate_model(
        model, dataset, choose_samples(dataset, None), forces="gradient", max_atoms=128
    )
    print(error_table(errors))
    values = {
        "model": options.model,
        "weights_sha256": model.info["weights_sha256"],
        "split": options.split,
        "tasks": {name: error.to_json() for name, error in errors.items()},
    }
    write_result("accuracy_nano", values, options.out)


if __name__ == "__main__":
    main()
