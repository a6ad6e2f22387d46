"""The run that makes the bundled model jmp-nano."""

from __future__ import annotations

from pathlib import Path

from jmp_calc.models.config import NANO, GraphRules
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.tasks import TASKS

GRAPH = GraphRules(
    rules="smooth",
    cutoff=5.0,
    atom_edge_cutoff=5.0,
    quadruplet_cutoff=4.0,
    atom_atom_cutoff=6.0,
)
"""Graphs of every head of jmp-nano."""


def nano(stores: Path, out: Path) -> TrainConfig:
    """Return the run: all tasks, gradient forces, smooth rules, two cores.

    Rates are larger and the average is longer than in the published pre-training,
    because the network is small and the run short. Slabs and crystals are far dearer
    than molecules, so no task may take more than 30 % of the compute.

    Args:
        stores: Folder of the stores of all tasks.
        out: Folder of the run.
    """
    return TrainConfig(
        name="jmp-nano",
        data=DataConfig(
            stores=stores,
            tasks=tuple(TaskConfig(name=name, graph=GRAPH) for name in TASKS),
            temperature=2.0,
            max_task_share=0.3,
            max_atoms=80,
            max_pairs=2000,
            batches_per_step=2,
            graph_cache=20000,
        ),
        model=NANO,
        optim=OptimConfig(
            learning_rate=2e-3,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            warmup_steps=200,
            warmup_start=0.05,
            final=0.01,
            clip_norm=10.0,
            ema_decay=0.995,
        ),
        out=out,
        max_steps=6000,
        evaluate_every=500,
        evaluate_systems=24,
        scale_batches=8,
        checkpoint_every=100,
        log_every=20,
    )
