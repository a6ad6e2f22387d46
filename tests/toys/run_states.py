"""A run that has saved one checkpoint, without any training."""

from __future__ import annotations

from pathlib import Path

from jmp_calc.models.config import TargetSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.checkpoint import AVERAGE, MODEL, Checkpointer
from jmp_train.checkpoint_folders import CHECKPOINTS
from jmp_train.run_state import Position, RunState
from toys.models import build, spec
from toys.training import toy_config

HEADERS = {
    "qm7x": {
        "fingerprint": "abc",
        "licence": "CC-BY-4.0",
        "n_systems": 10,
        "datasets": [{"title": "QM7-X", "licence": "CC-BY-4.0"}],
    },
    "pbe": {"fingerprint": "def", "licence": "MIT", "n_systems": 5, "datasets": []},
}


def toy_model() -> JMPModel:
    """One head of energies and forces, and one that predicts a property."""
    config = toy_config(Path("stores"), Path("run")).model
    target = TargetSpec(name="gap", unit="eV", scale=2.0, shift=1.0)
    return build(
        config,
        spec("qm7x", references={1: -13.0}),
        spec("pbe", kind="scalar", forces=None, target=target),
    )


def toy_state(run: Path, model: JMPModel) -> RunState:
    """Plain facts of a run after three steps."""
    return RunState(
        config=toy_config(Path("stores"), run),
        headers=HEADERS,
        heads=tuple(model.heads.values()),
        info={"name": "toy", "licence": "CC-BY-NC-4.0", "training": {"start": "x"}},
        position=Position(step=3, epoch=1, place=2, seconds=0.5, seen=(7, 8)),
        parts={"schedule": {"rate": 0.1}},
    )


def save_toy_run(run: Path, *, has_average: bool = True, is_best: bool = False) -> Path:
    """Save raw weights of one everywhere and averages of two; return the checkpoint."""
    model = toy_model()
    tensors = {
        MODEL + name: value.fill_(1.0)
        if name in dict(model.named_parameters())
        else value
        for name, value in model.state_dict().items()
    }
    if has_average:
        tensors |= {
            AVERAGE + name: parameter.detach() * 2
            for name, parameter in model.named_parameters()
        }
    checkpointer = Checkpointer(run / CHECKPOINTS, keep=2)
    checkpointer.save(3, toy_state(run, model).to_json(), tensors, is_best=is_best)
    checkpointer.wait()
    path = checkpointer.latest()
    assert path is not None
    return path
