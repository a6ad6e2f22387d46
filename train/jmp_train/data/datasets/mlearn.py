"""mlearn: crystals, surfaces, vacancies and hot cells of Si, Mo and Cu."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from jmp_calc.errors import DataError
from jmp_train.data.datasets.info import DatasetInfo, find_file
from jmp_train.data.sample import Sample

_FILES = ("Cu_test", "Mo_test", "Mo_training", "Si_test", "Si_training")


def read(root: Path) -> Iterator[Sample]:
    """Yield the structures of all five files.

    Args:
        root: Data root.

    Raises:
        DataError: If a site is not fully occupied by one element.
    """
    for name in _FILES:
        path = find_file(root, "mlearn", f"{name}.json.gz")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            records = json.load(file)
        for record in records:
            sites = record["structure"]["sites"]
            if any(len(site["species"]) != 1 for site in sites):
                raise DataError(f"{path} has a site with more than one element")
            symbols = [site["species"][0]["element"] for site in sites]
            yield Sample(
                numbers=np.array([atomic_numbers[symbol] for symbol in symbols]),
                positions=np.array([site["xyz"] for site in sites], dtype=np.float64),
                cell=np.array(record["structure"]["lattice"]["matrix"], dtype=float),
                pbc=np.ones(3, dtype=bool),
                energy=float(record["outputs"]["energy"]),
                forces=np.array(record["outputs"]["forces"], dtype=np.float64),
                tags=np.ones(len(sites), dtype=np.int64),
                source="mlearn",
                group=f"{symbols[0]} {record['group']}",
            )


INFO = DatasetInfo(
    name="mlearn",
    folder="mlearn",
    read=read,
    title="mlearn (Si, Mo, Cu)",
    level_of_theory="PBE, VASP",
    licence="BSD-3-Clause",
    units="eV, eV/Å, Å",
    split="structure",
    citation="Zuo et al., J. Phys. Chem. A 124, 731 (2020)",
    notes="The published division is ignored, since copper has a test file only.",
)
"""The mlearn data set."""
