"""Toy weights to start from, and files of labelled structures as users have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ase.io
import torch
from ase import Atoms

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.weights import save_weights
from jmp_train.data.sample import Sample
from jmp_train.recipes.smoke import TINY
from toys.training import REFERENCES, RULES, toy_molecules

ORGANIC = (1, 6, 7, 8)


def toy_weights(*, heads: Sequence[str] = ("qm7x", "other"), **fields) -> JMPModel:
    """A tiny network with heads for organic molecules and Morse references."""
    settings = {"references": REFERENCES, "elements": ORGANIC, "energy_scale": 2.5}
    specs = [
        HeadSpec(name=name, graph=RULES, forces="gradient", **{**settings, **fields})
        for name in heads
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = JMPModel(replace(TINY), specs)
    model.info = {"name": "toy-weights", "licence": "toy licence"}
    return model.eval()


def write_toy_weights(path: Path, **fields) -> Path:
    """Write :func:`toy_weights` as a file."""
    save_weights(toy_weights(**fields), path)
    return path


def to_frame(sample: Sample, *, with_forces: bool = True) -> Atoms:
    """A sample as a frame with the usual names of labels."""
    atoms = sample.to_atoms()
    atoms.info["REF_energy"] = sample.energy
    if with_forces:
        atoms.arrays["REF_forces"] = sample.forces
    return atoms


def write_user_file(
    path: Path, n: int = 12, *, seed: int = 0, with_forces: bool = True
) -> Path:
    """Write rattled molecules with Morse labels as extended XYZ."""
    frames = [to_frame(s, with_forces=with_forces) for s in toy_molecules(n, seed=seed)]
    ase.io.write(path, frames)
    return path
