"""GemNet-OC: atom graph to per-atom and per-edge features (sections 4 to 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.config import ModelConfig
from jmp_calc.models.embedding import Bases, EdgeEmbedding, Shared
from jmp_calc.models.interaction import AtomUpdate, InteractionBlock
from jmp_calc.models.layers import (
    INV_SQRT_2,
    Dense,
    ScaleFactor,
    residual_stack,
)


class OutputBlock(AtomUpdate):
    """Features of one depth, for the final mix: per atom, and per edge if direct."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        n_edge, n_atom = config.emb_size_edge, config.emb_size_atom
        self.after_atom = residual_stack(config.num_output_afteratom, n_atom)
        if config.has_direct_forces:
            self.force_residuals = residual_stack(config.num_atom, n_edge)
            self.force_radial = Dense(config.emb_size_rbf, n_edge, activation=False)
            self.force_scale = ScaleFactor()

    def atom_features(
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        edge: Float[Tensor, "edges edge_dim"],
        shared: Shared,
        kept: float = 1.0,
    ) -> Float[Tensor, "atoms atom_dim"]:
        """Return the energy features of this depth; ``kept`` as for the sum over edges.

        Source:
            GemNet-OC specification, section 7: only output blocks make up for edge
            dropout, before the scale factor.
        """
        x: Tensor = self(edge, shared.radial_output, shared, kept)
        if len(self.after_atom):
            x = self.after_atom((x + atom) * INV_SQRT_2)
        return x

    def edge_features(
        self, edge: Float[Tensor, "edges edge_dim"], shared: Shared
    ) -> Float[Tensor, "edges edge_dim"]:
        """Return the direct-force features of this depth."""
        x = self.force_residuals(edge)
        out: Tensor = self.force_scale(
            x * self.force_radial(shared.radial_output), lambda: x
        )
        return out


class GemNetOC(torch.nn.Module):
    """The backbone shared by all tasks.

    Source:
        Gasteiger et al., "GemNet-OC", arXiv 2204.02782, in the variant of JMP
        (arXiv 2310.16802); written from a specification of the published network.
    """

    edge_dropout: float
    """Part of the edges that the graphs of training lack, a setting of the run and not
    of the weights. In training mode output blocks divide their sums by the rest."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.edge_dropout = 0.0
        n_edge, n_atom = config.emb_size_edge, config.emb_size_atom
        n_outputs = config.num_blocks + 1
        self.bases = Bases(config)
        self.edge_embedding = EdgeEmbedding(n_atom, config.num_radial, n_edge)
        self.blocks = torch.nn.ModuleList(
            InteractionBlock(config) for _ in range(config.num_blocks)
        )
        self.outputs = torch.nn.ModuleList(
            OutputBlock(config) for _ in range(n_outputs)
        )
        self.energy_mlp = _final_mlp(n_atom, n_outputs, config.num_global_out_layers)
        if config.has_direct_forces:
            self.force_mlp = _final_mlp(n_edge, n_outputs, config.num_global_out_layers)

    def forward(
        self,
        atom: Float[Tensor, "atoms atom_dim"],
        graph: AtomGraph,
        with_forces: bool = False,
        recompute: bool = False,
    ) -> tuple[
        Float[Tensor, "atoms atom_dim"], Float[Tensor, "edges edge_dim"], Shared
    ]:
        """Return atom features, edge features and the geometry they belong to.

        Args:
            atom: Embedded atoms.
            graph: Topology and coordinates.
            with_forces: Whether to make the edge features; empty (edges, 0) if not.
            recompute: Whether to keep only what enters each block for the derivative
                and to compute the block again there: the same numbers, in less memory
                and more time.
        """
        run = _run_and_forget if recompute else _run
        shared: Shared = run(self.bases, graph)
        main = graph.main
        edge: Tensor = run(
            self.edge_embedding, atom, shared.radial_main, main.source, main.target
        )
        atoms, edges = [], []
        for depth in range(len(self.outputs)):
            atom, edge, of_atoms, of_edges = run(
                self._depth, depth, atom, edge, shared, with_forces
            )
            atoms.append(of_atoms)
            edges.append(of_edges)
        atom_features = self.energy_mlp(torch.cat(atoms, dim=-1))
        edge_features = (
            self.force_mlp(torch.cat(edges, dim=-1))
            if with_forces
            else edge.new_zeros((edge.shape[0], 0))
        )
        return atom_features, edge_features, shared

    def _depth(
        self, depth: int, atom: Tensor, edge: Tensor, shared: Shared, with_forces: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return new atom and edge features, and what the final mix gets of them."""
        if depth:
            atom, edge = self.blocks[depth - 1](atom, edge, shared)
        output: Any = self.outputs[depth]  # or its form for inference
        kept = 1 - self.edge_dropout if self.training else 1.0
        of_atoms = output.atom_features(atom, edge, shared, kept)
        of_edges = output.edge_features(edge, shared) if with_forces else None
        return atom, edge, of_atoms, of_edges


def _run(function: Callable[..., Any], *inputs: Any) -> Any:
    return function(*inputs)


def _run_and_forget(function: Callable[..., Any], *inputs: Any) -> Any:
    """Apply a function of which only the inputs stay, until it is differentiated."""
    # nothing in it is random, so no state of generators has to be kept
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def _final_mlp(width: int, n_outputs: int, n_layers: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        Dense(width * n_outputs, width), *residual_stack(n_layers, width)
    )
