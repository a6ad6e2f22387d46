"""From a trained network to the same network for inference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.models.backbone import OutputBlock
from jmp_calc.models.embedding import Shared
from jmp_calc.models.frozen.bases import FrozenBases
from jmp_calc.models.frozen.block import (
    FrozenAtomUpdate,
    FrozenBlock,
    FrozenResiduals,
    Weights,
    factor_of,
    transposed,
)
from jmp_calc.models.interaction import InteractionBlock
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.layers import INV_SQRT_2


@torch.no_grad()
def freeze_(model: JMPModel) -> JMPModel:
    """Turn a network into its form for inference, in place, and return it.

    Energies, forces and stress stay the same up to rounding, with fewer operations and
    less memory. The network can no longer be trained, saved, or differentiated twice,
    nor (as before) inside transforms of ``torch.func``, such as vmap. What is frozen
    already stays as it is.

    Args:
        model: The network, on the device and in the precision that it is to have.
    """
    backbone = model.eval().requires_grad_(False).backbone
    for k, block in enumerate(backbone.blocks):
        if isinstance(block, InteractionBlock):
            backbone.blocks[k] = FrozenBlock(block)
    for k, output in enumerate(backbone.outputs):
        if isinstance(output, OutputBlock):
            backbone.outputs[k] = FrozenOutput(output)
    if not isinstance(backbone.bases, FrozenBases):
        backbone.bases = FrozenBases(backbone.bases)
    has_gradients = any(head.forces == "gradient" for head in model.heads.values())
    for module in backbone.modules():
        if isinstance(module, Weights):
            module.pack(transposed=has_gradients)
    return model


def is_frozen(model: JMPModel) -> bool:
    """Return whether a network is in its form for inference.

    Args:
        model: The network.
    """
    return any(isinstance(block, FrozenBlock) for block in model.backbone.blocks)


class FrozenOutput(FrozenAtomUpdate):
    """Features of one depth, for the final mix: per atom, and per edge if direct."""

    force_gate: Tensor

    def __init__(self, output: OutputBlock) -> None:
        super().__init__(output)
        self.after_atom = FrozenResiduals(output.after_atom)
        self.has_after_atom = len(output.after_atom) > 0
        if hasattr(output, "force_residuals"):
            self.force_residuals = FrozenResiduals(output.force_residuals)
            scale = factor_of(output.force_scale)
            self.keep("force_gate", transposed(output.force_radial, scale))

    def atom_features(
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        edge: Float[Tensor, "edges edge_dim"],
        shared: Shared,
        kept: float = 1.0,
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return the energy features of this depth; no edges are dropped."""
        assert kept == 1
        x: Tensor = self(edge, shared.radial_output, shared)
        if self.has_after_atom:
            x = self.after_atom((x + atom) * INV_SQRT_2)
        return x

    def edge_features(
        self, edge: Float[Tensor, "edges edge_dim"], shared: Shared
    ) -> Float[Tensor, "edges edge_dim"]:
        """Return the direct-force features of this depth."""
        x: Tensor = self.force_residuals(edge)
        return x * torch.mm(shared.radial_output, self.force_gate)
