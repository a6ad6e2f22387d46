"""A whole evaluation: from weights and data to a folder with report and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jmp_calc.errors import ArgumentError
from jmp_calc.files import replace_text
from jmp_calc.models.config import HeadSpec
from jmp_calc.pictures import save_figure
from jmp_train.config import Device
from jmp_train.data.splits import Split
from jmp_train.devices import choose_device
from jmp_train.evaluation.models import Measured, open_measured
from jmp_train.evaluation.report import report_facts, report_text
from jmp_train.evaluation.scores import SetScores, score_set
from jmp_train.evaluation.sets import EvaluationSet, file_set, store_sets
from jmp_train.plots.parity import Parity, draw_confusion, draw_parity

REPORT = "report.md"
"""Name of the report for people."""
FACTS = "report.json"
"""Name of the report for programs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSettings:
    """What is measured, and how."""

    weights: str
    """Name of weights, a weights file, or the folder of a run or checkpoint."""
    stores: Path | None = None
    """Folder of stores; None: that of the run."""
    data: tuple[Path, ...] = ()
    """Files or folders of labelled structures to measure on, instead of stores."""
    split: Split = "test"
    """Part of the stores."""
    tasks: tuple[str, ...] = ()
    """Tasks of the run, or stores; empty: all of the run, or all called like a head."""
    head: str | None = None
    """Head that predicts; None: the one called like the set, or the only one."""
    out: Path | None = None
    """Folder of the report; None: one in that of the run, or in the current one."""
    is_best: bool = False
    """Take the best checkpoint of a run, and not the last."""
    is_averaged: bool = True
    """Take the averaged weights of a run, if it keeps an average."""
    has_frames: bool = False
    """Write predicted forces of every atom as extended XYZ, too."""
    has_pictures: bool = True
    """Draw predictions against labels."""
    limit: int | None = None
    """Systems of each set to measure on; None: all."""
    max_atoms: int = 512
    """Atoms in a batch."""
    device: Device = "auto"
    """Where to compute; auto: the GPU if there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What was measured and where it is written."""

    measured: Measured
    """The model."""
    scores: list[SetScores]
    """What was measured on each set."""
    out: Path
    """Folder of the report."""


Progress = Callable[[str, int, int], None]
"""Is told the set, its systems, and how many of them a batch has added."""


def run_evaluation(
    settings: EvaluationSettings, progress: Progress | None = None
) -> Evaluation:
    """Measure a model and write report, tables and pictures.

    Args:
        settings: What, and how.
        progress: Hears how far it is.

    Raises:
        ArgumentError: If it is not clear what is to be measured.
        DataError: If data are missing or have no labels.
        CheckpointError: If weights are missing or damaged.
    """
    if settings.data and settings.stores is not None:
        raise ArgumentError("--data and --stores are given; choose one of them")
    device = choose_device(settings.device)
    measured = open_measured(
        settings.weights, is_best=settings.is_best, is_averaged=settings.is_averaged
    )
    out = settings.out or _default_folder(measured, settings)
    model = measured.model.to(device)
    with ExitStack() as stack:
        found = _sets(measured, settings, out, stack)
        out.mkdir(parents=True, exist_ok=True)
        scores = []
        for each in found:
            n = min(len(each.dataset), settings.limit or len(each.dataset))
            scores.append(
                score_set(
                    model,
                    each,
                    out=out,
                    max_atoms=settings.max_atoms,
                    device=device,
                    has_frames=settings.has_frames,
                    limit=settings.limit,
                    progress=_listener(progress, each.name, n),
                )
            )
    pictures = {
        score.name: picture
        for score, each in zip(scores, found, strict=True)
        if settings.has_pictures
        and (picture := _draw(score, each.head, measured, out)) is not None
    }
    write_json(out / FACTS, report_facts(measured, scores))
    replace_text(out / REPORT, report_text(measured, scores, pictures))
    return Evaluation(measured=measured, scores=scores, out=out)


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write plain data as a JSON file, whole or not at all.

    Args:
        path: The file.
        facts: Plain data.
    """
    text = json.dumps(facts, indent=2, ensure_ascii=False, default=str)
    replace_text(path, text + "\n")


def _listener(
    progress: Progress | None, name: str, n: int
) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda added: progress(name, n, added)


def _default_folder(measured: Measured, settings: EvaluationSettings) -> Path:
    data = settings.data
    part = data[0].name.split(".")[0] if data else settings.split
    if measured.run is not None:
        return measured.run / f"evaluation-{part}"
    return Path(f"evaluation-{measured.name}-{part}")


def _sets(
    measured: Measured, settings: EvaluationSettings, out: Path, stack: ExitStack
) -> list[EvaluationSet]:
    if not settings.data:
        return store_sets(
            measured,
            settings.stores,
            settings.split,
            names=settings.tasks,
            head=settings.head,
        )
    out.mkdir(parents=True, exist_ok=True)
    made = file_set(measured, settings.data, head=settings.head, out=out)
    return [stack.enter_context(made)]


def _draw(
    score: SetScores, spec: HeadSpec, measured: Measured, out: Path
) -> str | None:
    title = f"{measured.name} on {score.title}"
    picture = out / f"parity-{score.name}.png"
    if score.errors.classes is not None:
        assert spec.target is not None
        confusion = score.errors.classes.confusion
        names = spec.target.classes or tuple(map(str, range(len(confusion))))
        return save_figure(draw_confusion(confusion, names, title), picture).name
    quantities = _quantities(score, spec)
    if not quantities:
        return None
    return save_figure(draw_parity(quantities, title), picture).name


def _quantities(score: SetScores, spec: HeadSpec) -> list[Parity]:
    unit = spec.target.unit if spec.target is not None else ""
    name = spec.target.name if spec.target is not None else ""
    styles = {
        "energy": ("energy per atom, without references", "eV", "meV/atom", 1000.0),
        "forces": ("force components", "eV/Å", "meV/Å", 1000.0),
        "stress": ("stress components", "eV/Å³", "meV/Å³", 1000.0),
        "target": (name, unit, unit, 1.0),
    }
    found = []
    for key, reservoir in score.points.items():
        pairs = np.asarray(reservoir.rows)
        if not len(pairs):
            continue
        title, label_unit, error_unit, factor = styles[key]
        found.append(
            Parity(
                title=title,
                unit=label_unit,
                error_unit=error_unit,
                error_factor=factor,
                pairs=pairs,
                n_all=reservoir.n_seen,
            )
        )
    return found
