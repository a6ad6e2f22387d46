"""How much the runs of an experiment may cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import NANO, ForceKind, L, ModelConfig, S
from jmp_train.recipes.smoke import TINY


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much each run of an experiment may cost; the same for all of its arms."""

    name: str
    """Key of ``BUDGETS``."""
    pretrain_steps: int
    """Optimizer steps of a pre-training."""
    finetune_steps: int
    """Optimizer steps of a fine-tuning."""
    n_train: tuple[int, ...]
    """Training systems of a learning curve; 0: all that there are."""
    model: ModelConfig
    """Network of runs that start at random."""
    sizes: dict[str, ModelConfig]
    """Networks of a scaling experiment by name."""
    seeds: int
    """Repeats."""
    evaluate_systems: int
    """Systems of each task in a validation."""
    md_steps: int
    """Steps of a simulation at constant energy."""
    max_atoms: int = 96
    """Atoms of a batch."""
    pretrain_rate: float = 2e-3
    """Peak learning rate of a pre-training."""
    finetune_rate: float = 1e-3
    """Peak learning rate of a fine-tuning."""
    pretrain_forces: ForceKind = "gradient"
    """Forces of a pre-training; direct ones, as published, are cheaper."""


_MIDDLE = replace(NANO, emb_size_edge=64, emb_size_atom=48)
_SMOOTH_S = replace(S, rules="smooth")
_SMALLER = replace(
    _SMOOTH_S, emb_size_edge=256, emb_size_atom=128, num_blocks=3, num_head_layers=3
)

BUDGETS: dict[str, Budget] = {
    "smoke": Budget(
        name="smoke",
        pretrain_steps=4,
        finetune_steps=4,
        n_train=(8, 0),
        model=TINY,
        sizes={"tiny": TINY, "wider": replace(TINY, emb_size_edge=24)},
        seeds=1,
        evaluate_systems=4,
        md_steps=10,
        max_atoms=64,
    ),
    "small": Budget(
        name="small",
        pretrain_steps=1000,
        finetune_steps=600,
        n_train=(50, 200, 0),
        model=NANO,
        sizes={"tiny": TINY, "middle": _MIDDLE, "nano": NANO},
        seeds=3,
        evaluate_systems=64,
        md_steps=2000,
    ),
    "full": Budget(
        name="full",
        pretrain_steps=200_000,
        finetune_steps=20_000,
        n_train=(100, 1000, 10_000, 0),
        model=_SMOOTH_S,
        sizes={
            "nano": NANO,
            "smaller": _SMALLER,
            "S": _SMOOTH_S,
            "L": replace(L, rules="smooth"),
        },
        seeds=3,
        evaluate_systems=1000,
        md_steps=20_000,
        max_atoms=512,
        pretrain_rate=3e-4,
        finetune_rate=8e-5,
        pretrain_forces="direct",
    ),
}
"""Budgets by name: minutes on two cores, hours on two cores, weeks on a GPU.

Source:
    Rates of the full budget: training specification, sections 1.8 and 6. The rest is
    ours.
"""


def budget_named(name: str) -> Budget:
    """Return a budget.

    Args:
        name: Key of ``BUDGETS``.

    Raises:
        ArgumentError: If there is none of that name.
    """
    if name not in BUDGETS:
        raise ArgumentError(
            f"unknown budget {name!r}; choose from {', '.join(BUDGETS)}"
            + did_you_mean(name, BUDGETS)
        )
    return BUDGETS[name]
