"""Calculators of other projects, to be timed beside jmp-nano on the same structures.

    python -m pip install mace-torch chgnet
    python benchmarks/speed_forces.py --vs other_calculators:mace_small \
        other_calculators:chgnet

Weights are random where none come with the package: time does not depend on them.
"""

from __future__ import annotations

import numpy as np
import torch
from ase.calculators.calculator import Calculator


def mace_small() -> Calculator:
    """Return MACE in the shape of the small MACE-MP-0, float32, random weights.

    Source:
        Batatia et al., arXiv 2401.00096, table of hyperparameters: 128 scalar
        channels, 2 layers, 6 angstrom, correlation order 3, 89 elements.
    """
    from mace.calculators import MACECalculator
    from mace.modules import ScaleShiftMACE, gate_dict, interaction_classes

    from e3nn import o3  # isort: skip  # needs what importing mace sets

    elements = list(range(1, 90))
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    try:
        interaction = interaction_classes["RealAgnosticResidualInteractionBlock"]
        model = ScaleShiftMACE(
            r_max=6.0,
            num_bessel=10,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls=interaction,
            interaction_cls_first=interaction,
            num_interactions=2,
            num_elements=len(elements),
            hidden_irreps=o3.Irreps("128x0e"),
            MLP_irreps=o3.Irreps("16x0e"),
            atomic_energies=np.zeros(len(elements)),
            avg_num_neighbors=35.0,
            atomic_numbers=elements,
            correlation=3,
            gate=gate_dict["silu"],
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )
        return MACECalculator(models=[model], device="cpu", default_dtype="float32")
    finally:
        torch.set_default_dtype(before)


def chgnet() -> Calculator:
    """Return CHGNet on the CPU, with its model of version 0.3.0."""
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    return CHGNetCalculator(model=CHGNet.load(model_name="0.3.0"), use_device="cpu")
