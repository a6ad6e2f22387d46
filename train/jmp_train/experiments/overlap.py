"""E5: are test molecules better because pre-training has seen them?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import Announce, Arm, ArmResult
from jmp_train.experiments.experiment import Experiment
from jmp_train.experiments.identity import LEVELS, KnownSystems, connectivity
from jmp_train.experiments.measure import Errors, read_samples, system_errors
from jmp_train.experiments.pretraining import Change, pretraining_arms
from jmp_train.experiments.report import Cell, Report, Table
from jmp_train.experiments.settings import ExperimentSettings
from jmp_train.experiments.statistics import difference_in_differences
from jmp_train.experiments.subset import copy_systems

_QUESTION = (
    "How many test systems occur in the pre-training sets, by composition, bonds and "
    "geometry, and is the gain of pre-training larger for them?"
)
ARMS = ("full pre-training", "without the overlap")
"""Arms in the order of the tables."""
EXCLUDED = "excluded.json"
"""File with the numbers of the pre-training systems that overlap."""


def _without_overlap(settings: ExperimentSettings) -> Path:
    """Return stores that lack every molecule of a downstream test part, by bonds."""
    folder = settings.out / "stores" / "without-overlap"
    tested = {
        connectivity(sample)
        for store in settings.downstream
        for sample in read_samples(settings.stores, store, "test", 0)
    }
    excluded: dict[str, list[int]] = {}
    for name in settings.pretraining:
        for split in ("train", "val", "test"):
            path = store_path(folder, name, split)
            store = Store(store_path(settings.stores, name, split))
            if split != "train":
                copy_systems(store, range(len(store)), path)
                continue
            hits = [i for i in range(len(store)) if connectivity(store[i]) in tested]
            excluded[name] = hits
            kept = sorted(set(range(len(store))) - set(hits))
            # a set that consists of the overlap alone keeps one system, or the
            # networks of the arms would differ in their heads
            copy_systems(store, kept or [0], path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / EXCLUDED).write_text(json.dumps(excluded, indent=1), encoding="utf-8")
    return folder


def _changes(settings: ExperimentSettings) -> dict[str, Change]:
    folder = _without_overlap(settings)
    return {
        ARMS[0]: lambda config: config,
        ARMS[1]: lambda config: replace(
            config, data=replace(config.data, stores=folder)
        ),
    }


def build_arms(settings: ExperimentSettings) -> list[Arm]:
    """Return both pre-trainings and the fine-tunings after them.

    Args:
        settings: Data and budget.
    """
    return pretraining_arms(settings, _changes(settings))


def summarise(
    settings: ExperimentSettings, results: Sequence[ArmResult], announce: Announce
) -> Report:
    """Return counts of overlap, and errors on known and unknown test systems.

    Args:
        settings: Data and budget.
        results: Of all runs.
        announce: Hears what is measured.
    """
    counts: list[tuple[Cell, ...]] = []
    errors: list[tuple[Cell, ...]] = []
    findings = []
    for store in settings.downstream:
        test = read_samples(settings.stores, store, "test", 0)
        for source in settings.pretraining:
            known = KnownSystems(read_samples(settings.stores, source, "train", 0))
            hits = [sum(known.knows(s, level) for s in test) for level in LEVELS]
            counts.append((store, source, len(test), *hits))
        everything = KnownSystems(
            sample
            for source in settings.pretraining
            for sample in read_samples(settings.stores, source, "train", 0)
        )
        is_known = np.array([everything.knows(s, "connectivity") for s in test])
        announce(f"{store}: errors of single test systems")
        of_arm = {arm: _mean_forces(results, arm, store, test) for arm in ARMS}
        for arm in ARMS:
            for words, chosen in (("known", is_known), ("unknown", ~is_known)):
                value: Cell = "none"
                if chosen.any():
                    value = float(np.nanmean(of_arm[arm][chosen]))
                errors.append((store, arm, words, int(chosen.sum()), value))
        gain = difference_in_differences(
            (of_arm[ARMS[1]][is_known], of_arm[ARMS[0]][is_known]),
            (of_arm[ARMS[1]][~is_known], of_arm[ARMS[0]][~is_known]),
        )
        findings.append(
            f"{store}: seeing the same molecules in pre-training lowers their force "
            f"error by {gain} meV/Å more than that of the others (95 % bootstrap)."
            if not np.isnan(gain.mean)
            else f"{store}: all or none of the test systems are known, so there is "
            "nothing to compare."
        )
    return Report(
        question=_QUESTION,
        findings=tuple(findings),
        tables=(
            Table(
                title="Test systems that occur in a pre-training set",
                columns=("set", "pre-training set", "test systems", *LEVELS),
                rows=tuple(counts),
            ),
            Table(
                title="Force MAE on known and unknown test systems (same bonds), meV/Å",
                columns=("set", "arm", "test systems are", "number", "error"),
                rows=tuple(errors),
            ),
        ),
    )


def _mean_forces(
    results: Sequence[ArmResult], arm: str, store: str, test: Sequence[object]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the force error of each test system, averaged over seeds."""
    found: list[Errors] = [
        system_errors(r.weights, test, head=store)  # type: ignore[arg-type]  # samples
        for r in results
        if r.name == arm and r.tags.get("store") == store
    ]
    return np.asarray(np.mean([errors.forces for errors in found], axis=0))


EXPERIMENT = Experiment(
    id="E5",
    name="overlap",
    question=_QUESTION,
    arms=build_arms,
    summarise=summarise,
    needs_pretraining=True,
)
"""The experiment."""
