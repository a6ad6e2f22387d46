"""The published pre-training of JMP-S and JMP-L.

Global batch, GPUs and steps of the published runs are not known: here a GPU has four
systems, and the global batch follows from the number of GPUs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jmp_calc.models.config import GraphRules, L, ModelConfig, S
from jmp_calc.models.published_tasks import (
    MAX_NEIGHBORS,
    QUADRUPLET_TAGS,
    RADIAL_CUTOFF,
    TASKS,
)
from jmp_train.config import (
    DataConfig,
    OptimConfig,
    TaskConfig,
    TaskScales,
    TrainConfig,
)

FORCE_WEIGHTS = {"oc20": 73.0, "oc22": 80.0, "ani1x": 15.0, "transition1x": 14.0}
"""Factors of the force terms, about the mean atoms of each set.

Source:
    Training specification, section 1.1.
"""


def jmp_small(stores: Path, out: Path) -> TrainConfig:
    """Return the pre-training of JMP-S: four blocks, about 30 M parameters.

    Args:
        stores: Folder of the stores oc20, oc22, ani1x and transition1x.
        out: Folder of the run.

    Source:
        Training specification, sections 1 and 6: as published but for bf16 in place of
        fp16, a learning rate that is held at the end of its cosine, and references of
        the elements that are fitted to the training parts.
    """
    return _published("jmp-small", S, stores, out)


def jmp_large(stores: Path, out: Path) -> TrainConfig:
    """Return the pre-training of JMP-L: six blocks, about 235 M parameters.

    Args:
        stores: As for :func:`jmp_small`.
        out: Folder of the run.

    Source:
        As for :func:`jmp_small`.
    """
    return _published("jmp-large", L, stores, out)


def published_task(name: str) -> TaskConfig:
    """Return a published pre-training task, with its published scales.

    Args:
        name: Key of ``FORCE_WEIGHTS``.
    """
    known = TASKS[name]
    graph = GraphRules(
        rules="published",
        cutoff=known.cutoff,
        max_neighbors=MAX_NEIGHBORS,
        radial_cutoff=RADIAL_CUTOFF,
        is_periodic=known.is_periodic,
        quadruplet_tags=QUADRUPLET_TAGS,
    )
    return TaskConfig(
        name=name,
        graph=graph,
        forces="direct",
        force_weight=FORCE_WEIGHTS[name],
        scales=TaskScales(
            energy_scale=known.energy_scale, force_scale=known.force_scale
        ),
    )


def _published(name: str, shape: ModelConfig, stores: Path, out: Path) -> TrainConfig:
    return TrainConfig(
        name=name,
        data=DataConfig(
            stores=stores,
            tasks=tuple(published_task(task) for task in FORCE_WEIGHTS),
            temperature=2.0,
            batch_systems=4,
            batches_per_step=None,
            edge_dropout=0.1,
            workers=8,
        ),
        model=replace(shape, has_direct_forces=True),
        optim=OptimConfig(),
        out=out,
        average="batches",
        epochs=2,
        precision="bf16",
        evaluate_every=10000,
        evaluate_systems=2000,
        checkpoint_every=2000,
        keep_checkpoints=3,
        log_every=50,
    )
