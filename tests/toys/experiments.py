"""Stores and weights for the experiments: three sets to pre-train on, one to tune."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from jmp_calc.models.weights import save_weights
from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.budgets import BUDGETS
from jmp_train.experiments.settings import ExperimentSettings
from jmp_train.heads import build_model
from jmp_train.recipes.nano import GRAPH
from toys.training import labelled, toy_config, write_store

SETS = {
    "small": ("H2O", "NH3", "CH4"),
    "large": ("CH3OH", "H2CO", "C2H4", "CH4"),
    "solid": ("SiC",),
    "tune": ("H2O", "CH3OH", "C2H6", "HCN"),
}
"""Molecules of each set; two of ``tune`` occur in others."""
PRETRAINING = ("small", "large", "solid")
DOWNSTREAM = "tune"
SIZES = {"train": 12, "val": 4, "test": 8}
N_TRAIN = {"small": 16, "solid": 6}


def write_experiment_stores(folder: Path) -> Path:
    """Write all parts of all sets; ``tune`` has a target, too."""
    for place, (name, kinds) in enumerate(SETS.items()):
        sizes = SIZES | {"train": N_TRAIN.get(name, SIZES["train"])}
        for part, (split, n) in enumerate(sizes.items()):
            samples = [
                _sample(kinds[i % len(kinds)], [place, part, i]) for i in range(n)
            ]
            write_store(
                store_path(folder, name, split),
                samples,
                units={"targets": {"gap": "eV"}},
            )
    return folder


def _sample(kind: str, seed: list[int]) -> Sample:
    is_solid = kind == "SiC"
    atoms: Atoms = bulk(kind, "zincblende", a=4.36) if is_solid else molecule(kind)
    noise = np.random.default_rng(seed).normal(0, 0.08, (len(atoms), 3))
    atoms.positions += noise
    sample = labelled(atoms)
    gap = 5.0 + float(np.square(noise).sum())
    return replace(sample, name=f"{kind} {seed[-1]}", targets={"gap": gap})


def toy_settings(stores: Path, out: Path, **changes: Any) -> ExperimentSettings:
    """Settings of a cheap experiment that trains nothing before."""
    settings = {
        "out": out,
        "stores": stores,
        "pretraining": (),
        "downstream": (DOWNSTREAM,),
        "weights": "jmp-nano",
        "budget": BUDGETS["smoke"],
        "seeds": 2,
    }
    return ExperimentSettings(**settings | changes)


def write_toy_weights(stores: Path, path: Path) -> Path:
    """Write random weights with heads of two of the sets, as if they were trained."""
    config = toy_config(stores, path.parent)
    tasks = tuple(
        replace(config.data.tasks[0], name=name, graph=GRAPH)
        for name in (DOWNSTREAM, "solid")
    )
    config = replace(config, data=replace(config.data, tasks=tasks))
    headers = {
        task.name: Store(store_path(stores, task.name, "train")).header
        for task in tasks
    }
    model = build_model(config, headers)
    model.info = {"name": "toy", "licence": "MIT"}
    save_weights(model, path)
    return path
