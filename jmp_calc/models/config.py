"""What a network is (ModelConfig) and what its weights assume (GraphRules, HeadSpec).

Everything here is written into the weights file and read back from it; the calculator
accepts no second opinion on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jmp_calc.errors import ArgumentError

Rules = Literal["published", "smooth"]
Domain = Literal["molecule", "surface", "bulk"]
ForceKind = Literal["gradient", "direct"]
Reduction = Literal["sum", "mean"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphRules:
    """How a structure becomes the four graphs of GemNet-OC.

    ``published`` reproduces gemnet_oc section 2: one cutoff, hard nearest-K limits,
    symmetrisation that depends on atom order, a fixed radial scale of 12 angstrom.
    ``smooth`` has no neighbour limit and gives each graph its own cutoff, at which its
    envelope ends, so that nothing jumps and atom order never matters.
    """

    rules: Rules = "smooth"
    """Which set of rules the weights were trained with."""
    cutoff: float
    """Largest distance of a main edge, angstrom."""
    atom_edge_cutoff: float | None = None
    """Largest distance of an atom-edge edge, angstrom; None: ``cutoff``."""
    quadruplet_cutoff: float | None = None
    """Largest distance of a quadruplet (interaction) edge, angstrom; None: ``cutoff``."""
    atom_atom_cutoff: float | None = None
    """Largest distance of an atom-atom edge, angstrom; None: ``cutoff``."""
    max_neighbors: int | None = None
    """Base number M of incoming main edges per atom (published rules only)."""
    is_periodic: bool | None = None
    """False: never periodic; True: all three directions, whatever ``atoms.pbc`` says
    for the published rules; None: as ``atoms.pbc`` says."""
    radial_cutoff: float | None = None
    """Scale of the radial basis, angstrom; None: each graph's own cutoff."""
    quadruplet_tags: tuple[int, ...] | None = None
    """Keep a quadruplet edge only if one end has one of these tags; None: keep all."""

    def __post_init__(self) -> None:
        """Check that the rules are consistent."""
        if self.rules == "published" and self.max_neighbors is None:
            raise ArgumentError("published graph rules need max_neighbors")
        if self.rules == "smooth" and (
            self.max_neighbors is not None or self.radial_cutoff is not None
        ):
            raise ArgumentError(
                "smooth graph rules have neither max_neighbors nor radial_cutoff"
            )
        if not self.cutoff > 0:
            raise ArgumentError(f"cutoff is {self.cutoff} angstrom; it must be positive")

    @property
    def cutoffs(self) -> dict[str, float]:
        """Cutoff of each graph by name (main, atom_edge, quadruplet, atom_atom)."""
        return {
            "main": self.cutoff,
            "atom_edge": self.atom_edge_cutoff or self.cutoff,
            "quadruplet": self.quadruplet_cutoff or self.cutoff,
            "atom_atom": self.atom_atom_cutoff or self.cutoff,
        }

    @property
    def neighbor_limits(self) -> dict[str, int] | None:
        """Neighbour limit of each graph by name, or None without limits."""
        if self.max_neighbors is None:
            return None
        m = self.max_neighbors
        return {
            "main": m,
            "atom_edge": int(m * 20 / 30),
            "quadruplet": int(m * 8 / 30),
            "atom_atom": int(m * 1000 / 30),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec:
    """What a head's weights assume about their input and output."""

    name: str
    """Name of the task, as given to ``head=``."""
    graph: GraphRules
    """How the structures of this task become graphs."""
    forces: ForceKind
    """Force kind that the head was trained for."""
    has_direct_forces: bool = False
    """Whether the weights hold a direct force head for this task."""
    reduction: Reduction = "sum"
    """How per-atom numbers make the energy."""
    has_energy_bias: bool = True
    """Whether the hidden layers of the energy head have biases."""
    energy_scale: float = 1.0
    """eV per unit of network energy; gradient forces are minus its derivative."""
    energy_shift: float = 0.0
    """Constant added to every energy, eV."""
    force_scale: float = 1.0
    """eV/angstrom per unit of direct network force."""
    references: dict[int, float] | None = None
    """Reference energy by atomic number, eV; None: energies are relative and can be
    compared at equal composition only."""
    domain: Domain = "molecule"
    """Kind of structure the head was trained on."""
    is_default: bool = False
    """Preferred when several heads cover a structure."""
    elements: tuple[int, ...] = ()
    """Atomic numbers seen in training; empty: not recorded."""
    level_of_theory: str = "not stated"
    """Method of the training labels."""
    licence: str = "not stated"
    """Licence of the data that shaped this head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of a GemNet-OC network (gemnet_oc section 10)."""

    num_blocks: int
    emb_size_atom: int
    emb_size_edge: int
    emb_size_trip_in: int
    emb_size_trip_out: int
    emb_size_quad_in: int
    emb_size_quad_out: int
    emb_size_aint_in: int
    emb_size_aint_out: int
    emb_size_rbf: int
    emb_size_cbf: int
    emb_size_sbf: int
    num_before_skip: int
    num_after_skip: int
    num_concat: int
    num_atom: int
    num_output_afteratom: int
    num_atom_emb_layers: int
    num_global_out_layers: int
    num_spherical: int = 7
    num_radial: int = 128
    num_elements: int = 120
    num_head_layers: int = 5
    rules: Rules = "published"
    """Dihedrals and direct forces as published, or smooth (no jump, no noise)."""
    has_direct_forces: bool = False
    """Whether the backbone carries the force branch for direct heads."""


S = ModelConfig(
    num_blocks=4,
    emb_size_atom=256,
    emb_size_edge=512,
    emb_size_trip_in=64,
    emb_size_trip_out=64,
    emb_size_quad_in=32,
    emb_size_quad_out=32,
    emb_size_aint_in=64,
    emb_size_aint_out=64,
    emb_size_rbf=16,
    emb_size_cbf=16,
    emb_size_sbf=32,
    num_before_skip=2,
    num_after_skip=2,
    num_concat=1,
    num_atom=3,
    num_output_afteratom=3,
    num_atom_emb_layers=2,
    num_global_out_layers=2,
)
"""The published small ("base") shape."""

L = ModelConfig(
    num_blocks=6,
    emb_size_atom=256,
    emb_size_edge=1024,
    emb_size_trip_in=64,
    emb_size_trip_out=128,
    emb_size_quad_in=64,
    emb_size_quad_out=32,
    emb_size_aint_in=64,
    emb_size_aint_out=64,
    emb_size_rbf=32,
    emb_size_cbf=16,
    emb_size_sbf=64,
    num_before_skip=2,
    num_after_skip=2,
    num_concat=4,
    num_atom=3,
    num_output_afteratom=3,
    num_atom_emb_layers=2,
    num_global_out_layers=2,
)
"""The published large shape."""

NANO = ModelConfig(
    num_blocks=2,
    emb_size_atom=64,
    emb_size_edge=96,
    emb_size_trip_in=24,
    emb_size_trip_out=24,
    emb_size_quad_in=12,
    emb_size_quad_out=12,
    emb_size_aint_in=24,
    emb_size_aint_out=24,
    emb_size_rbf=16,
    emb_size_cbf=8,
    emb_size_sbf=12,
    num_before_skip=1,
    num_after_skip=1,
    num_concat=1,
    num_atom=1,
    num_output_afteratom=1,
    num_atom_emb_layers=1,
    num_global_out_layers=1,
    num_spherical=5,
    num_radial=32,
    num_head_layers=3,
    rules="smooth",
)
"""Small enough to ship and to run anywhere; ours, with the smooth rules."""

SIZES: dict[str, ModelConfig] = {"nano": NANO, "S": S, "L": L}
