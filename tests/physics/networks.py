"""Networks with random weights for physics: small, float64, with visible output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms

from jmp_calc.graph.batch import collate
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import NANO, ForceKind, GraphRules, HeadSpec, Rules
from jmp_calc.models.jmp import JMPModel

SMOOTH = GraphRules(
    cutoff=4.0, atom_edge_cutoff=3.6, quadruplet_cutoff=3.2, atom_atom_cutoff=4.5
)
"""Four different cutoffs, so that no two events coincide."""
PUBLISHED = GraphRules(
    rules="published",
    cutoff=4.0,
    max_neighbors=1000,
    radial_cutoff=12.0,
    quadruplet_tags=(1, 2),
)
"""The published rules without active limits; periodic as the atoms are."""
RULES = {"smooth": SMOOTH, "published": PUBLISHED}
SIZES = {
    "num_blocks": 2,
    "emb_size_atom": 8,
    "emb_size_edge": 12,
    "emb_size_trip_in": 6,
    "emb_size_trip_out": 5,
    "emb_size_quad_in": 4,
    "emb_size_quad_out": 5,
    "emb_size_aint_in": 6,
    "emb_size_aint_out": 5,
    "emb_size_rbf": 6,
    "emb_size_cbf": 4,
    "emb_size_sbf": 5,
    "num_output_afteratom": 1,
    "num_global_out_layers": 1,
    "num_spherical": 5,
    "num_radial": 16,
    "num_head_layers": 2,
}
FACTOR = 2.0
"""Scale factor of every layer; makes the part of each interaction visible."""


def tiny_model(rules: Rules) -> JMPModel:
    """A network with one head, "task", that has gradient and direct forces.

    The weights are the same for both sets of rules.
    """
    config = replace(NANO, **SIZES, rules=rules, has_direct_forces=True)
    spec = HeadSpec(
        name="task", graph=RULES[rules], forces="gradient", has_direct_forces=True
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = JMPModel(config, [spec]).double()
    for name, buffer in model.named_buffers():
        if name.endswith("factor"):
            buffer.fill_(FACTOR)
    return model.requires_grad_(False).eval()


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Network units; per system, or per atom of all systems in a row."""

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def evaluate(
    model: JMPModel,
    systems: Atoms | Sequence[Atoms],
    *,
    rules: GraphRules | None = None,
    kind: ForceKind = "gradient",
) -> Result:
    """Energies, forces and virials of one or many systems, in one batch."""
    graph_rules = rules or model.heads["task"].graph
    several = [systems] if isinstance(systems, Atoms) else systems
    batch = collate([build_graph(atoms, graph_rules) for atoms in several])
    found = model(batch, "task", forces=kind, stress=True)
    return Result(
        energy=found.energy.numpy(force=True),
        forces=found.forces.numpy(force=True),
        virial=found.virial.numpy(force=True),
    )


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest magnitude of what is expected."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
