"""Which labelled systems a model is measured on, and by which head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.head_choice import choose_head
from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_calc.models.config import HeadSpec
from jmp_train.config import TaskConfig
from jmp_train.data.batches import GraphDataset
from jmp_train.data.families.user import open_user_files
from jmp_train.data.layouts.ase_files import find_files, read_frames
from jmp_train.data.source import FamilyOptions, Record
from jmp_train.data.splits import Split
from jmp_train.data.store import Store, StoreWriter, store_path
from jmp_train.evaluation.models import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationSet:
    """Labelled systems and the head that predicts them."""

    name: str
    """Name of the set."""
    title: str
    """The set and its part, for people."""
    head: HeadSpec
    """What predicts."""
    dataset: GraphDataset
    """The systems."""
    level_of_theory: str = "not stated"
    """Method of the labels."""
    test_of: str = ""
    """Set of which these are the test part, as ``prepare`` calls it; empty: another
    part, or files, to which published test errors do not apply."""
    notes: tuple[str, ...] = ()
    """What a reader of the errors should know."""

    @property
    def task(self) -> TaskConfig:
        """The head as a task."""
        return self.dataset.tasks[self.head.name]


def choose_spec(measured: Measured, name: str | None, wanted: str) -> HeadSpec:
    """Return the head that predicts a set.

    Args:
        measured: The model.
        name: Head asked for; None: the one called like the set, or the only one.
        wanted: Name of the set.

    Raises:
        ArgumentError: If there is no such head, or several and none was named.
    """
    heads = measured.model.heads
    if name is not None and name not in heads:
        raise ArgumentError(
            f"{measured.name} has no head {name!r}; it has {', '.join(heads)}"
            + did_you_mean(name, heads)
        )
    if name is not None:
        return heads[name]
    if wanted in heads:
        return heads[wanted]
    if len(heads) == 1:
        return next(iter(heads.values()))
    raise ArgumentError(
        f"no head of {measured.name} is called {wanted!r} like the set; name one with "
        f"--head: {', '.join(heads)}"
    )


def store_sets(
    measured: Measured,
    stores: Path | None,
    split: Split,
    *,
    names: Sequence[str] = (),
    head: str | None = None,
) -> list[EvaluationSet]:
    """Return the sets of stores to measure on.

    Args:
        measured: The model.
        stores: Folder of the stores; None: that of the run.
        split: Part of the stores.
        names: Tasks of the run, or stores; empty: all tasks of the run, or all stores
            that are called like a head.
        head: What predicts them; None: the head called like the set, or the only one.

    Raises:
        ArgumentError: If it is not clear which sets or heads are meant.
        DataError: If a store is missing.
    """
    of_run: dict[str, str] = {}
    if measured.config is not None:
        data = measured.config.data
        stores = stores or data.stores
        of_run = {task.name: task.store or task.name for task in data.tasks}
    if stores is None:
        raise ArgumentError(
            "say what to measure on: --stores FOLDER (made by 'jmp-train data "
            "prepare'), or --data FILE"
        )
    chosen = list(names) or list(of_run) or _stores_of_heads(measured, stores, split)
    found = []
    for name in chosen:
        store = of_run.get(name, name)
        each = _set_of(
            name,
            Store(store_path(stores, store, split)),
            choose_spec(measured, head, name),
            f"{name}, {split} part",
        )
        found.append(replace(each, test_of=store if split == "test" else ""))
    return found


def _stores_of_heads(measured: Measured, stores: Path, split: Split) -> list[str]:
    heads = measured.model.heads
    found = [name for name in heads if store_path(stores, name, split).exists()]
    if found:
        return found
    suffix = f"-{split}"
    there = sorted(path.name.removesuffix(suffix) for path in stores.glob(f"*{suffix}"))
    raise ArgumentError(
        f"no store of the {split} part in {stores} is called like a head of "
        f"{measured.name} ({', '.join(heads)}); name it with --task, and its head with "
        f"--head: {', '.join(there) or 'there is none'}"
    )


@contextmanager
def file_set(
    measured: Measured, files: Sequence[Path], *, head: str | None, out: Path
) -> Iterator[EvaluationSet]:
    """Yield the frames of files as a set; they pass through a store that is removed.

    Args:
        measured: The model.
        files: Files of any format that ASE reads.
        head: What predicts them; None: the only head, or what a calculator would take
            for the first frame.
        out: Folder in which the store is made.

    Raises:
        ArgumentError: If there is no such head.
        UnsupportedSystemError: If none was named, and none or several fit.
        DataError: If there is no frame with labels.
    """
    spec = _spec_for_files(measured, files, head)
    options = FamilyOptions(split="test")
    if spec.target is not None:
        options = replace(options, targets=(spec.target.name,))
    source = open_user_files(files, options)
    skipped: dict[str, int] = {}
    with TemporaryDirectory(dir=out, prefix=".frames-") as folder:
        path = Path(folder) / "frames-test"
        with StoreWriter(path) as writer:
            for part in source.parts():
                for item in source.read(part):
                    if isinstance(item, Record):
                        writer.add(item.sample)
                    else:
                        skipped[item.reason] = skipped.get(item.reason, 0) + 1
            if not len(writer):
                reasons = ", ".join(skipped) or "there are none"
                raise DataError(
                    f"no frame of {', '.join(map(str, files))} can be used: {reasons}"
                )
            writer.finish({})
        name = source.facts.name
        found = _set_of(name, Store(path), spec, name)
        notes = [f"left out: {n} frames ({why})" for why, n in skipped.items()]
        yield replace(found, notes=(*source.notes, *notes, *found.notes))


def _spec_for_files(
    measured: Measured, files: Sequence[Path], head: str | None
) -> HeadSpec:
    if head is not None or len(measured.model.heads) == 1:
        return choose_spec(measured, head, "")
    first = next(iter(read_frames(find_files(files)[0], slice(0, 1))))
    kind = classify(first, find_bonds(first))
    return choose_head(measured.model, first, kind).spec


def _set_of(name: str, store: Store, spec: HeadSpec, title: str) -> EvaluationSet:
    task = TaskConfig(
        name=spec.name,
        graph=spec.graph,
        kind=spec.kind,
        forces=spec.forces,
        target=None if spec.target is None else spec.target.name,
    )
    labels = store.header.get("labels")
    if spec.target is not None and labels and not labels.get(spec.target.name):
        raise DataError(
            f"head {spec.name!r} predicts {spec.target.name!r}, and the store "
            f"{store.path} has labels {', '.join(labels)} only; choose another --head "
            "or --task"
        )
    return EvaluationSet(
        name=name,
        title=title,
        head=spec,
        dataset=GraphDataset({spec.name: store}, {spec.name: task}),
        level_of_theory=store.header.get("level_of_theory", "not stated"),
    )
