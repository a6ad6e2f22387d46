"""Fine-tuning on rMD17 from jmp-nano and from scratch, with the same budget.

    python benchmarks/finetune_rmd17.py RMD17 --minutes 20 [--molecule ethanol ...]

RMD17 is a folder with the files of the first split of the authors of the set
(rmd17_ethanol_train_01.npz and rmd17_ethanol_test_01.npz): 950 frames train, 50
validate, 1000 test. All arms have the defaults of ``jmp-train finetune --data`` and the
same number of optimizer steps, as many as the first arm makes in the given time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from provenance import write_result

from jmp_calc import load_model
from jmp_train.config import TrainConfig
from jmp_train.data.families.rmd17 import open_rmd17
from jmp_train.data.source import FamilyOptions
from jmp_train.data.store import Store, store_path
from jmp_train.finetune.pace import fit_to_time, with_steps
from jmp_train.finetune.run import finish_run
from jmp_train.finetune.settings import FinetuneSettings
from jmp_train.finetune.userplan import UserData, UserPlan, plan_user_run
from jmp_train.metrics import error_line
from jmp_train.parallel import Group
from jmp_train.prepare import prepare
from jmp_train.runlog import SUMMARY
from jmp_train.trainer import Trainer

ARMS = {
    "jmp-nano": {"weights": "jmp-nano"},
    "scratch": {"weights": "scratch", "size": "nano"},
    "jmp-nano, new head": {"weights": "jmp-nano", "head": "new"},
}
"""Settings of each arm."""


def prepare_molecule(root: Path, stores: Path, molecule: str) -> UserData:
    """Return the frames of a molecule; its stores are made if need be."""
    options = FamilyOptions(variant=molecule, fold=1)
    (source,) = open_rmd17(root, options)
    prepare([source], stores)
    parts = {
        split: Store(store_path(stores, source.facts.name, split))
        for split in ("train", "val", "test")
    }
    return UserData(folder=stores, facts=source.facts, stores=parts)


def plan(data: UserData, out: Path, arm: str, options: Any) -> UserPlan:
    """Return the run of an arm."""
    settings = FinetuneSettings(
        data=(options.rmd17,),
        out=out,
        seed=options.seed,
        device=options.device,
        learning_rate=options.lr,
        **ARMS[arm],
    )
    weights = settings.weights
    source = None if weights == "scratch" else load_model(weights)
    return plan_user_run(settings, data, source)


def train(config: TrainConfig, group: Group) -> dict[str, Any]:
    """Make a run and return its facts and errors."""
    trainer = Trainer.build(config, group=group)
    began = time.monotonic()
    result = trainer.run()
    seconds = time.monotonic() - began
    outcome = finish_run(trainer, result)
    summary = json.loads((config.out / SUMMARY).read_text(encoding="utf-8"))
    errors = {
        split: found[config.name].to_json() for split, found in outcome.errors.items()
    }
    return {
        "steps": result.step,
        "minutes": seconds / 60,
        "reason": result.reason,
        "kept_head": dict(config.start.heads) if config.start else {},
        "learning_rate": config.optim.learning_rate,
        "batch_systems": config.data.batch_systems,
        "n_parameters": summary["n_parameters"],
        "val_force_mae_meV_per_A": 1000 * errors["val"]["force_mae_eV_per_A"],
        "test_force_mae_meV_per_A": 1000 * errors["test"]["force_mae_eV_per_A"],
        "test_energy_mae_meV": 1000 * errors["test"]["energy_mae_eV"],
        "test_n_systems": errors["test"]["n_systems"],
        "test": error_line(errors["test"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rmd17", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="per arm")
    parser.add_argument("--molecule", nargs="+", default=["ethanol", "aspirin"])
    parser.add_argument("--arm", nargs="+", default=list(ARMS)[:2], choices=list(ARMS))
    parser.add_argument("--runs", type=Path, default=Path("runs/finetune_rmd17"))
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--lr", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = "cpu"
    if options.device != "cpu" and torch.cuda.is_available():
        device = "cuda"
    group = Group.single(device)
    found: dict[str, dict[str, Any]] = {}
    for molecule in options.molecule:
        data = prepare_molecule(options.rmd17, options.runs / "stores", molecule)
        n_steps, found[molecule] = None, {}
        for arm in options.arm:
            out = (
                options.runs / f"{molecule}-{arm.replace(', ', '-').replace(' ', '-')}"
            )
            config = replace(plan(data, out, arm, options).config, device=device)
            if n_steps is None:
                n_steps = fit_to_time(config, options.minutes, group).max_steps
            assert n_steps is not None
            found[molecule][arm] = train(with_steps(config, n_steps), group)
            print(f"{molecule:12s}{arm:20s}{found[molecule][arm]['test']}")
    values = {
        "data": "rMD17, split 01: 950 train, 50 val, 1000 test frames",
        "minutes_per_arm": options.minutes,
        "seed": options.seed,
        "molecules": found,
    }
    write_result("finetune_rmd17", values, options.out)


if __name__ == "__main__":
    main()
