"""Labelled toy systems, their stores, and a tiny run on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.morse import MorsePotential

from jmp_calc.models.config import GraphRules
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.sample import Sample, molecule_sample
from jmp_train.data.store import StoreWriter, store_path
from jmp_train.normalize import StatisticsAccumulator, TaskStatistics
from jmp_train.recipes.smoke import TINY

RULES = GraphRules(cutoff=3.0)
TOY_TASKS = ("qm7x", "pbe")
REFERENCES = {1: -13.0, 6: -1030.0, 7: -1485.0, 8: -2040.0, 14: -5.0}
MOLECULES = ("H2O", "CH4", "NH3", "CH3OH")


def labelled(atoms: Atoms, *, group: str = "toy") -> Sample:
    """A sample with the energy and forces of a Morse potential plus references."""
    atoms = atoms.copy()
    atoms.calc = MorsePotential(epsilon=0.5, r0=1.2, rho0=2.0, rcut1=2.4, rcut2=2.8)
    energy = atoms.get_potential_energy() + sum(REFERENCES[z] for z in atoms.numbers)
    sample = molecule_sample(
        atoms.numbers,
        atoms.positions,
        energy=energy,
        forces=atoms.get_forces(),
        source="qm7x",
        group=group,
    )
    if not atoms.pbc.any():
        return replace(sample, task="qm7x")
    return replace(
        sample,
        cell=atoms.cell.array.copy(),
        pbc=atoms.pbc.copy(),
        tags=np.ones(len(atoms), dtype=np.int64),
        source="mlearn",
        task="pbe",
    )


def toy_molecules(n: int, *, seed: int = 0) -> list[Sample]:
    """Rattled small molecules, one kind after the other."""
    return [
        labelled(_rattled(molecule(MOLECULES[i % len(MOLECULES)]), [seed, i]))
        for i in range(n)
    ]


def toy_crystals(n: int, *, seed: int = 0) -> list[Sample]:
    """Rattled silicon cells."""
    return [labelled(_rattled(bulk("Si"), [seed, 1000 + i])) for i in range(n)]


def _rattled(atoms: Atoms, seed: list[int]) -> Atoms:
    noise = np.random.default_rng(seed).normal(0, 0.08, (len(atoms), 3))
    atoms.positions += noise
    return atoms


def statistics_of(samples: list[Sample]) -> TaskStatistics:
    """The statistics of these samples."""
    accumulator = StatisticsAccumulator()
    for sample in samples:
        accumulator.add(sample)
    return accumulator.finish()


def write_store(path: Path, samples: list[Sample], **facts: object) -> Path:
    """Write samples and their statistics as a store; its name says task and part."""
    name, _, split = path.name.rpartition("-")
    domain = "bulk" if samples[0].is_periodic else "molecule"
    known = {
        "task": name,
        "split": split,
        "domain": domain,
        "level_of_theory": "Morse",
        "licence": "MIT",
        "coverage": "a few toys",
        "is_default": domain == "molecule",
        "datasets": [
            {
                "title": f"toy {name}",
                "level_of_theory": "Morse",
                "licence": "MIT",
                "citation": "",
            }
        ],
        "statistics": statistics_of(samples).to_json(),
    }
    with StoreWriter(path) as writer:
        for sample in samples:
            writer.add(sample)
        writer.finish(known | facts)
    return path


def write_toy_stores(folder: Path) -> Path:
    """Write train, val and test stores of two toy tasks."""
    for seed, (split, n) in enumerate((("train", 10), ("val", 3), ("test", 2))):
        write_store(store_path(folder, "qm7x", split), toy_molecules(n, seed=seed))
        write_store(store_path(folder, "pbe", split), toy_crystals(n // 2, seed=seed))
    return folder


def toy_config(stores: Path, out: Path, **changes: object) -> TrainConfig:
    """A run of a few steps of a tiny network on the toy stores, on the CPU."""
    config = TrainConfig(
        name="toy",
        data=DataConfig(
            stores=stores,
            tasks=tuple(TaskConfig(name=name, graph=RULES) for name in TOY_TASKS),
            max_atoms=12,
            graph_cache=100,
        ),
        model=TINY,
        optim=OptimConfig(learning_rate=3e-3, warmup_steps=2, ema_decay=0.5),
        out=out,
        max_steps=4,
        device="cpu",
        evaluate_every=1000,
        scale_batches=1,
        checkpoint_every=1000,
        log_every=1,
    )
    return replace(config, **changes)
