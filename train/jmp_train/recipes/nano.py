"""The run that makes the bundled model jmp-nano."""

from __future__ import annotations

from pathlib import Path

from jmp_calc.models.config import NANO, GraphRules
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.tasks import MADE_TASKS, TASKS

GRAPH = GraphRules(
    rules="smooth",
    cutoff=4.5,
    atom_edge_cutoff=4.5,
    quadruplet_cutoff=3.2,
    atom_atom_cutoff=6.0,
)
"""Graphs of every head of jmp-nano. No number of neighbours is limited."""

SHARES = {"oc20": 0.15, "pbe": 0.1}
"""Largest part of the compute of tasks that are dear."""


def nano(stores: Path, out: Path) -> TrainConfig:
    """Return the run: all tasks, gradient forces, smooth rules, two cores.

    Rates are larger and the average is longer than in the published pre-training,
    because the network is small and the run short. Slabs and crystals are far dearer
    than molecules and may take a quarter of the compute together; most of it goes to
    the molecules of GFN2-xTB, which dynamics is to run on.

    Args:
        stores: Folder of the stores of all tasks.
        out: Folder of the run.
    """
    names = (*MADE_TASKS, *TASKS)
    return TrainConfig(
        name="jmp-nano",
        data=DataConfig(
            stores=stores,
            tasks=tuple(
                TaskConfig(name=name, graph=GRAPH, max_share=SHARES.get(name, 1.0))
                for name in names
            ),
            temperature=1.3,
            max_atoms=120,
            max_pairs=3000,
            batches_per_step=2,
            graph_cache=100_000,
        ),
        model=NANO,
        optim=OptimConfig(
            learning_rate=1.5e-3,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            warmup_steps=300,
            warmup_start=0.05,
            final=0.01,
            clip_norm=10.0,
            ema_decay=0.998,
        ),
        out=out,
        max_steps=20_000,
        evaluate_every=2000,
        evaluate_systems=48,
        scale_batches=8,
        checkpoint_every=500,
        log_every=50,
    )
