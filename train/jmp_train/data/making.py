"""A recipe -> labelled structures in a folder; what is there is not made again.

``OUT/geometries/STEP.xyz`` holds the geometries of a step, ``OUT/labelled/TASK`` the
labelled files and their journals, ``OUT/made.json`` what was made and what failed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms

from jmp_calc.calculator.named import CalculatorChoice
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replace_text
from jmp_calc.sim.output import writing
from jmp_train.data.conformers import conformers, needing_rdkit, read_list
from jmp_train.data.growing_file import GrowingFile
from jmp_train.data.labelling import label_structures
from jmp_train.data.layouts.ase_files import read_frames
from jmp_train.data.making_options import LABELLED, MakingOptions
from jmp_train.data.molecule_split import (
    ALWAYS_TRAIN,
    n_heavy,
    split_of_molecules,
)
from jmp_train.data.recipes.steps import START, Choice, DataRecipe, Step
from jmp_train.data.sampling import sample_each
from jmp_train.data.splits import SPLITS

GEOMETRIES = "geometries"
"""Folder of the geometries."""
REPORT = "made.json"
"""What was made and what failed."""
_RECIPE = "recipe.json"  # what the folder was made with

Show = Callable[[int, int, int], None]
"""Called with how many are done, failed and wanted."""
Progress = Callable[[str, int, int, int], None]
"""Called with the stage, and how many are done, failed and wanted in it."""


def make_data(
    recipe: DataRecipe, out: Path, options: MakingOptions, progress: Progress
) -> dict[str, Any]:
    """Make and label the structures of a recipe, and return what was made.

    Args:
        recipe: What to make.
        out: Folder; what an earlier run with the same recipe, seed and share finished
            there is kept.
        options: Seed, size and processes.
        progress: Hears how far it is.

    Raises:
        ArgumentError: If the folder belongs to another recipe, seed or share, or a
            package is missing.
        DataError: If a step makes nothing, or a file cannot be written.
    """
    needing_rdkit()
    recipe.labels.build()  # a missing one stops here, and not after the geometries
    _claim(out, recipe, options)
    stages: list[_Stage] = [
        _Conformers(recipe),
        *(_Geometries(step) for step in recipe.steps),
        *(_Labels(step, recipe.labels) for step in recipe.steps if step.task),
    ]
    report: dict[str, Any] = {}
    path = out / REPORT
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
    for place, stage in enumerate(stages, start=1):
        if stage.name not in report:
            start = time.monotonic()
            title = f"{place}/{len(stages)} {stage.name}"
            facts = stage.run(out, options, partial(progress, title))
            seconds = round(time.monotonic() - start, 1)
            report[stage.name] = {**facts, "seconds": seconds}
            replace_text(path, json.dumps(report, indent=1) + "\n")
    return report


def place_of(key: str) -> float:
    """Return a number between 0 and 1 that follows from a name.

    Args:
        key: Any name.
    """
    digest = hashlib.sha256(f"share/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def geometries_file(out: Path, step: str) -> Path:
    """Return the file of the geometries of a step.

    Args:
        out: Folder of the made data.
        step: Name of the step.
    """
    return out / GEOMETRIES / f"{step}.xyz"


def labelled_file(out: Path, task: str, step: str) -> Path:
    """Return the file of the labelled structures of a step.

    Args:
        out: Folder of the made data.
        task: Task of the step.
        step: Its name.
    """
    return out / LABELLED / task / f"{step}.extxyz"


def _claim(out: Path, recipe: DataRecipe, options: MakingOptions) -> None:
    """Note what is made in a folder, and refuse one of something else."""
    molecules = recipe.smiles.read_bytes()
    claim = {
        "recipe": recipe.name,
        "steps": hashlib.sha256(repr(recipe.steps).encode()).hexdigest(),
        "conformers": recipe.n_conformers,
        "molecules": hashlib.sha256(molecules).hexdigest(),
        "labels": recipe.labels.identity,
        "seed": options.seed,
        "share": options.share,
    }
    path = out / _RECIPE
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in claim if known.get(key) != claim[key]]
        if differing:
            raise ArgumentError(
                f"{out} holds data made with other {', '.join(differing)}; give "
                "another folder, or remove this one"
            )
        return
    with writing(path):
        out.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(claim, indent=1) + "\n")


class _Stage(Protocol):
    """One step of the work, which is done as a whole."""

    name: str

    def run(self, out: Path, options: MakingOptions, show: Show) -> dict[str, Any]:
        """Do it, and return what came of it."""


class _Conformers:
    """The first stage."""

    def __init__(self, recipe: DataRecipe) -> None:
        self.name = START
        self._recipe = recipe

    def run(self, out: Path, options: MakingOptions, show: Show) -> dict[str, Any]:
        entries = [
            entry
            for entry in read_list(self._recipe.smiles)
            if n_heavy(entry.smiles) <= ALWAYS_TRAIN
            or place_of(entry.smiles) < options.share
        ]
        with GrowingFile(geometries_file(out, START)) as file:
            for entry in entries[file.n_starts :]:
                show(file.n_starts, len(file.failed), len(entries))
                found, reason = [], ""
                try:
                    found = list(
                        conformers(
                            entry.smiles,
                            self._recipe.n_conformers,
                            seed=options.seed + 1,
                        )
                    )
                except DataError as error:
                    reason = str(error)
                file.add(found, reason)
            show(file.n_starts, len(file.failed), len(entries))
            file.finish()
        return {
            "molecules": file.n_starts,
            "made": file.n_geometries,
            "failed": len(file.failed),
        }


class _Geometries:
    """A stage that makes geometries."""

    def __init__(self, step: Step) -> None:
        self.name = step.name
        self._step = step

    def run(self, out: Path, options: MakingOptions, show: Show) -> dict[str, Any]:
        step = self._step
        starts = _chosen(out, step.choice, step.name)
        sets = _by_part(starts) if step.by_part else [starts]
        total = step.settings.n * sum(map(len, sets))
        with GrowingFile(geometries_file(out, step.name)) as file:
            before = 0
            for place, structures in enumerate(sets):
                seed = 10_000 * options.seed + 10 * step.settings.seed + place
                for made in sample_each(
                    structures,
                    replace(step.settings, seed=seed),
                    calculator=step.calculator,
                    processes=options.processes,
                    first=min(max(file.n_starts - before, 0), len(structures)),
                ):
                    for atoms in made.geometries:
                        atoms.info["origin"] = step.origin
                    file.add(made.geometries, made.reason)
                    show(file.n_geometries, len(file.failed), total)
                before += len(structures)
            file.finish()
        return {
            "starts": file.n_starts,
            "made": file.n_geometries,
            "failed": len(file.failed),
        }


class _Labels:
    """A stage that labels the geometries of a step."""

    def __init__(self, step: Step, choice: CalculatorChoice) -> None:
        self.name = f"{step.name}, labels"
        self._step, self._choice = step, choice

    def run(self, out: Path, options: MakingOptions, show: Show) -> dict[str, Any]:
        step = self._step
        report = label_structures(
            list(read_frames(geometries_file(out, step.name))),
            self._choice,
            labelled_file(out, step.task, step.name),
            processes=options.processes,
            progress=show,
        )
        return {"labelled": report.n_labelled, "failed": len(report.failed)}


def _chosen(out: Path, choice: Choice, step: str) -> list[Atoms]:
    """Return the structures that a step starts from."""
    return [
        atoms
        for number, atoms in enumerate(read_frames(geometries_file(out, choice.step)))
        if choice.least_atoms <= len(atoms) <= choice.most_atoms
        and (not choice.groups or atoms.info["group"] in choice.groups)
        and (not choice.key or choice.key in atoms.info)
        and place_of(f"{step}/{number}") < choice.share
    ]


def _by_part(structures: Sequence[Atoms]) -> list[list[Atoms]]:
    """Return structures by part; those held out get some that are always trained on."""
    groups = [str(atoms.info["group"]) for atoms in structures]
    parts = [split_of_molecules(group) for group in groups]
    sets = []
    for part in SPLITS:
        members = [a for a, p in zip(structures, parts, strict=True) if p == part]
        if part != "train":
            small = [
                atoms
                for atoms, group in zip(structures, groups, strict=True)
                if n_heavy(group) <= ALWAYS_TRAIN
            ]
            members += small[:: max(1, 4 * len(small) // max(1, len(members)))]
        sets.append(members)
    return [members for members in sets if members]
