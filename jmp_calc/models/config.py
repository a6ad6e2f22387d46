"""What a network is (ModelConfig) and what a head's weights assume (HeadSpec).

Everything here is written into the weights file and read back from it; the calculator
accepts no second opinion on it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from jmp_calc.errors import ArgumentError
from jmp_calc.graph.rules import GraphRules as GraphRules
from jmp_calc.graph.rules import Rules as Rules

Domain = Literal["molecule", "surface", "bulk"]
ForceKind = Literal["gradient", "direct"]
Reduction = Literal["sum", "mean"]
TargetReduction = Literal["sum", "mean", "max"]
HeadKind = Literal["energy_forces", "scalar", "spatial_extent", "binary", "multiclass"]
"""Keys of ``HEADS`` in ``heads.py``."""

_MAX_CLASSES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpec:
    """What a head other than ``energy_forces`` predicts, and in which unit.

    The value of a system is ``scale * x + shift + sum of references``, where x is the
    reduction of the network's output over the atoms.
    """

    name: str
    """Name of the quantity, such as ``gap``."""
    unit: str = ""
    """Unit of the value; empty: a plain number or a class."""
    scale: float = 1.0
    """Unit per network unit."""
    shift: float = 0.0
    """Constant added to every value."""
    reduction: TargetReduction = "sum"
    """How the numbers of the atoms make the number of the system."""
    references: dict[int, float] | None = None
    """Reference value by atomic number, added for each atom; None: no references."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the logits (class heads only)."""
    dropout: float = 0.0
    """Part of the input features that is dropped in training (class heads only)."""

    def __post_init__(self) -> None:
        """Check name, scale and dropout."""
        if not self.name:
            raise ArgumentError("a target needs a name")
        if not self.scale > 0:
            raise ArgumentError(
                f"the scale of target {self.name!r} is {self.scale}; it must be "
                "positive"
            )
        if not 0 <= self.dropout < 1:
            raise ArgumentError(
                f"the dropout of target {self.name!r} is {self.dropout}; it must be at "
                "least 0 and below 1"
            )
        if len(set(self.classes)) < len(self.classes):
            raise ArgumentError(
                f"the classes of target {self.name!r} are {', '.join(self.classes)}; "
                "give each only once"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSpec:
    """What a head's weights assume about their input and output."""

    name: str
    """Name of the task, as given to ``head=``."""
    kind: HeadKind = "energy_forces"
    """What the head predicts; a key of ``HEADS``."""
    graph: GraphRules
    """How the structures of this task become graphs."""
    forces: ForceKind | None
    """Force kind that the head was trained for; None: it predicts no forces."""
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
    target: TargetSpec | None = None
    """What is predicted; None: energy and forces."""
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
    coverage: str = ""
    """What the head was trained on, in words that complete "was trained on"; empty:
    not recorded."""
    licence: str = "not stated"
    """Licence of the data that shaped this head."""

    def __post_init__(self) -> None:
        """Check that kind, target and forces go together."""
        what = f"head {self.name!r} of kind {self.kind!r}"
        if self.kind == "energy_forces":
            if self.target is not None:
                raise ArgumentError(
                    f"{what} has a target, {self.target.name!r}; it predicts energy "
                    "and forces, so give none"
                )
            return
        if self.target is None:
            raise ArgumentError(f"{what} needs a target that says what it predicts")
        if self.forces is not None or self.has_direct_forces:
            raise ArgumentError(f"{what} predicts no forces; set forces=None")
        self._check_target(self.target, what)

    def _check_target(self, target: TargetSpec, what: str) -> None:
        wanted = {"binary": (0, 2), "multiclass": range(2, _MAX_CLASSES + 1)}
        if len(target.classes) not in wanted.get(self.kind, (0,)):
            need = {
                "binary": "two or none",
                "multiclass": f"the names of 2 to {_MAX_CLASSES}",
            }
            raise ArgumentError(
                f"{what} has {len(target.classes)} classes; give "
                f"{need.get(self.kind, 'none')}"
            )
        if self.kind == "spatial_extent" and target.reduction != "sum":
            raise ArgumentError(
                f"{what} has the reduction {target.reduction!r}; it is a sum"
            )

    @property
    def n_outputs(self) -> int:
        """Numbers that the head gives per system."""
        if self.kind != "multiclass" or self.target is None:
            return 1
        return len(self.target.classes)


_OPTIONAL_LAYERS = (
    "num_before_skip",
    "num_after_skip",
    "num_concat",
    "num_atom",
    "num_output_afteratom",
    "num_atom_emb_layers",
    "num_global_out_layers",
    "num_head_layers",
)


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

    def __post_init__(self) -> None:
        """Check that widths are positive and that there is a block."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            # layers beside the main path may be left out
            least = 0 if field.name in _OPTIONAL_LAYERS else 1
            if value < least:
                raise ArgumentError(
                    f"the network's {field.name} is {value}; it must be {least} or more"
                )


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
    emb_size_atom=96,
    emb_size_edge=96,
    emb_size_trip_in=24,
    emb_size_trip_out=24,
    emb_size_quad_in=16,
    emb_size_quad_out=16,
    emb_size_aint_in=32,
    emb_size_aint_out=32,
    emb_size_rbf=16,
    emb_size_cbf=8,
    emb_size_sbf=16,
    num_before_skip=1,
    num_after_skip=1,
    num_concat=1,
    num_atom=1,
    num_output_afteratom=0,
    num_atom_emb_layers=1,
    num_global_out_layers=0,
    num_spherical=4,
    num_radial=32,
    num_head_layers=2,
    rules="smooth",
)
"""Small enough to ship and to run anywhere; ours, with the smooth rules."""

SIZES: dict[str, ModelConfig] = {"nano": NANO, "S": S, "L": L}
