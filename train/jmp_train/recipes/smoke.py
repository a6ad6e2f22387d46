"""A run of seconds on whatever stores are there, to see that everything works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jmp_calc.errors import DataError
from jmp_calc.models.config import NANO
from jmp_train.config import DataConfig, OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.store import store_path
from jmp_train.data.tasks import TASKS
from jmp_train.recipes.nano import GRAPH

TINY = replace(
    NANO,
    num_blocks=1,
    emb_size_atom=16,
    emb_size_edge=16,
    emb_size_trip_in=8,
    emb_size_trip_out=8,
    emb_size_quad_in=4,
    emb_size_quad_out=4,
    emb_size_aint_in=8,
    emb_size_aint_out=8,
    emb_size_rbf=8,
    emb_size_cbf=4,
    emb_size_sbf=4,
    num_spherical=3,
    num_radial=8,
    num_head_layers=2,
)
"""A network that is too small to be of use."""


def smoke(stores: Path, out: Path) -> TrainConfig:
    """Return the run: a tiny network, the tasks that have a store, twenty steps.

    Args:
        stores: Folder with the stores of at least one task.
        out: Folder of the run.

    Raises:
        DataError: If there is no store.
    """
    tasks = [name for name in TASKS if store_path(stores, name, "train").is_dir()]
    if not tasks:
        raise DataError(
            f"there are no stores in {stores}; make them with 'jmp-train data prepare'"
        )
    return TrainConfig(
        name="smoke",
        data=DataConfig(
            stores=stores,
            tasks=tuple(TaskConfig(name=name, graph=GRAPH) for name in tasks),
            max_atoms=64,
        ),
        model=TINY,
        optim=OptimConfig(learning_rate=3e-3, warmup_steps=5, ema_decay=0.9),
        out=out,
        max_steps=20,
        evaluate_every=10,
        evaluate_systems=4,
        scale_batches=2,
        checkpoint_every=10,
        log_every=5,
    )
