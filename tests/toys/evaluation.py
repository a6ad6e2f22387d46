"""Weights files and labelled files to measure errors with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np

from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import save_weights
from jmp_train.data.sample import Sample
from jmp_train.data.store import store_path
from toys.batches import GAP, METAL, toy_model
from toys.training import toy_crystals, toy_molecules, write_store


def save_toy(folder: Path, *heads: str) -> Path:
    """A weights file with some heads of the toy model."""
    model = toy_model()
    if heads:
        kept = JMPModel(model.config, [model.heads[name] for name in heads])
        kept.load_state_dict(model.state_dict(), strict=False)
        model = kept
    model.info = {"name": "toy"}
    path = folder / "toy.safetensors"
    save_weights(model, path)
    return path


def with_targets(samples: list[Sample]) -> list[Sample]:
    """Samples with a number and a class that follow from their atoms."""
    return [
        replace(
            sample,
            name=f"toy {i}",
            targets={"gap": 1.0 + 0.1 * i, "is_metal": float(i % 2)},
        )
        for i, sample in enumerate(samples)
    ]


def stressed(samples: list[Sample]) -> list[Sample]:
    """Crystals with a stress label."""
    return [replace(sample, stress=0.01 * np.eye(3)) for sample in samples]


def write_evaluation_stores(folder: Path) -> Path:
    """Test stores called like the heads of the toy model."""
    units = {"units": {"targets": {"gap": "eV"}}}
    molecules = with_targets(toy_molecules(7))
    write_store(store_path(folder, "qm7x", "test"), molecules)
    write_store(store_path(folder, "pbe", "test"), stressed(toy_crystals(3)))
    for name in (GAP.name, METAL.name):
        write_store(store_path(folder, name, "test"), molecules, **units)
    write_store(store_path(folder, "rmd17-ethanol", "test"), molecules)
    return folder


def write_frames(path: Path, n: int = 4) -> Path:
    """An extended XYZ file with the usual keys of labels."""
    frames = []
    for sample in toy_molecules(n):
        atoms = sample.to_atoms()
        atoms.info["REF_energy"] = sample.energy
        atoms.arrays["REF_forces"] = sample.forces
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return path
