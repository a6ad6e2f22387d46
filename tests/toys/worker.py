"""One process of a run, for torchrun: ``worker.py STORES OUT STEPS``.

The run goes on if its folder holds a checkpoint, as it does after a restart.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from jmp_train.checkpoint_folders import CHECKPOINTS, latest
from jmp_train.cli.show import Stopper
from jmp_train.config import TrainConfig
from jmp_train.parallel import start_group
from jmp_train.progress import Watcher
from jmp_train.trainer import Trainer
from toys.training import toy_config


def worker_config(stores: Path, out: Path, n_steps: int) -> TrainConfig:
    """A run with two batches a step, one for each of two processes, and dropout."""
    config = toy_config(stores, out, max_steps=n_steps, checkpoint_every=3)
    data = replace(config.data, batches_per_step=2, edge_dropout=0.2)
    return replace(config, data=data)


def main() -> None:
    stores, out, n_steps = sys.argv[1:]
    torch.set_num_threads(1)
    config = worker_config(Path(stores), Path(out), int(n_steps))
    is_resumed = latest(config.out / CHECKPOINTS) is not None
    with start_group("cpu") as group, Stopper() as stopper:
        trainer = Trainer.build(config, group=group, is_resumed=is_resumed)
        trainer.run(Watcher(should_stop=lambda: stopper.is_asked))


if __name__ == "__main__":
    main()
