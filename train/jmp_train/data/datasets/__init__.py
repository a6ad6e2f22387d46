"""The data sets that can be trained on; one file each.

The sets kept for proofs about transfer (rMD17, MD17 CCSD(T), ethanol PBE) and those
whose licence would bind the weights are not here on purpose.
"""

from __future__ import annotations

from jmp_train.data.datasets import (
    acac,
    ani1x,
    ani2x_diatomics,
    bo2_oxides,
    carbon_gap17,
    mlearn,
    oc20_relaxations,
    qm7x,
    s66x8,
    spice,
    threebpa,
)
from jmp_train.data.datasets.info import DatasetInfo

DATASETS: dict[str, DatasetInfo] = {
    "threebpa": threebpa.INFO,
    "ani1x": ani1x.INFO,
    "ani2x_diatomics": ani2x_diatomics.INFO,
    "s66x8": s66x8.INFO,
    "qm7x": qm7x.INFO,
    "oc20_relaxations": oc20_relaxations.INFO,
    "mlearn": mlearn.INFO,
    "bo2_oxides": bo2_oxides.INFO,
    "carbon_gap17": carbon_gap17.INFO,
    "acac": acac.INFO,
    "spice": spice.INFO,
}
"""Data sets by name."""
