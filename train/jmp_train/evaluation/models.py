"""From a name, a weights file or the folder of a run to the model to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from jmp_calc.files import file_hash
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained.loading import load_model, locate
from jmp_train.checkpoint_folders import find_checkpoint
from jmp_train.config import TrainConfig
from jmp_train.export import export_weights, finished_weights
from jmp_train.run_state import read_state


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A model and where it comes from."""

    model: JMPModel
    """The network, on the CPU."""
    name: str
    """What it is called in reports."""
    origin: str
    """File or checkpoint, in words."""
    sha256: str = ""
    """Hash of the weights file; empty for a run."""
    run: Path | None = None
    """Folder of the run; None: it comes from a weights file."""
    step: int | None = None
    """Optimizer steps of the run."""
    config: TrainConfig | None = None
    """Settings of the run."""


def open_measured(
    place: str, *, is_best: bool = False, is_averaged: bool = True
) -> Measured:
    """Return the model that a user names.

    Args:
        place: Name of weights, a weights file, or the folder of a run or checkpoint.
        is_best: Of a run, take the best checkpoint. By default it is the weights file
            that the run left when it ended, or else the last checkpoint.
        is_averaged: Of a run, take the averaged weights if it keeps an average.

    Raises:
        ArgumentError: If there is no such name or file.
        CheckpointError: If the run has no such checkpoint, or a file is damaged.
    """
    path = Path(place)
    if not path.is_dir():
        model = load_model(place)
        file = locate(place)
        name = str(model.info.get("name") or file.stem)
        return Measured(model=model, name=name, origin=place, sha256=file_hash(file))
    left = None if is_best or not is_averaged else _left_by(path)
    if left is not None:
        return left
    checkpoint = find_checkpoint(path, is_best=is_best)
    state = read_state(checkpoint)
    with TemporaryDirectory() as folder:
        # the file of the checkpoint is what would be exported from it
        file = export_weights(
            checkpoint, Path(folder) / "weights.safetensors", is_averaged=is_averaged
        )
        model = load_model(file)
    return Measured(
        model=model,
        name=state.config.name,
        origin=f"{checkpoint}",
        run=path,
        step=state.position.step,
        config=state.config,
    )


def _left_by(run: Path) -> Measured | None:
    """Return the weights file of a run that has ended; None if it goes on, or has none.

    It is what the run is for, and has what is fitted after the last step, such as the
    zero of the energy of a run on forces alone, which no checkpoint has.
    """
    left = finished_weights(run)
    if left is None:
        return None
    file, state = left
    return Measured(
        model=load_model(str(file)),
        name=state.config.name,
        origin=str(file),
        sha256=file_hash(file),
        run=run,
        step=state.position.step,
        config=state.config,
    )
