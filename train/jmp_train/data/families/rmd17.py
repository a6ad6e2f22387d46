"""rMD17: trajectories of ten small molecules, recomputed.

Three ways to divide a molecule:

* fold 0 (default), that of JMP: of all frames in the published random order, 950 train,
  50 validate, all others test;
* folds 1 to 5, those of the authors of the set, which most other potentials report:
  the first 950 frames of ``index_train_0k.csv`` train, its last 50 validate, those of
  ``index_test_0k.csv`` test;
* files that are divided already (``rmd17_ethanol_train_01.npz``): likewise, by the
  order in the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.units import CODATA, JMP_UNITS
from jmp_train.data.families.molecules import choose_variants
from jmp_train.data.families.trajectories import TrajectoryFile, TrajectorySource
from jmp_train.data.layouts.sgdml import RMD17_KEYS, count_frames
from jmp_train.data.published import RMD17, RMD17_SIZES
from jmp_train.data.published_splits import IndexSplit, budget_sizes, shuffled_split
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    SetFacts,
    Source,
)
from jmp_train.data.splits import SPLITS

_NAME = re.compile(r"rmd17_(?P<molecule>[a-z]+)(?:_(?P<part>train|test)_0(?P<k>\d))?")
_VAL_FRACTION = RMD17_SIZES[1] / sum(RMD17_SIZES)


@dataclass(kw_only=True, slots=True)
class _Files:
    """Archives of one molecule."""

    whole: Path | None = None
    divided: dict[tuple[str, int], Path] = field(default_factory=dict)


def find_molecules(source: Path) -> dict[str, _Files]:
    """Return the archives of each molecule.

    Args:
        source: An archive, or a folder that holds them. A file that is one half of a
            divided pair brings the other half along.

    Raises:
        DataError: If there is no such file or folder, or an archive has another name.
    """
    if source.is_file():
        match = _NAME.fullmatch(source.stem)
        if match is None:
            raise DataError(
                f"{source} has no name of rMD17; it must be called rmd17_ethanol.npz, "
                "or rmd17_ethanol_train_01.npz, with its molecule"
            )
        paths: Iterable[Path] = [source]
        if match["part"]:
            paths = source.parent.glob(
                f"rmd17_{match['molecule']}_t*_0{match['k']}.npz"
            )
    elif source.is_dir():
        paths = source.rglob("rmd17_*.npz")
    else:
        raise DataError(f"there is no {source}; give {FAMILY.formats}")
    molecules: dict[str, _Files] = {}
    for path in sorted(paths):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            continue
        files = molecules.setdefault(match["molecule"], _Files())
        if match["part"]:
            files.divided[match["part"], int(match["k"])] = path
        else:
            files.whole = path
    return molecules


def open_rmd17(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per molecule.

    Args:
        source: ``rmd17`` as unpacked, an archive, or a folder of archives.
        options: ``variant`` is a molecule (None: all); ``fold`` 0 is the split of JMP,
            1 to 5 those of the authors of the set.

    Raises:
        ArgumentError: If the molecule or fold is not there.
        DataError: If a file is absent or damaged.
    """
    if options.fold not in range(6):
        raise ArgumentError(
            f"fold is {options.fold}; rMD17 has 0 (the split of JMP) and 1 to 5 (those "
            "of the authors of the set)"
        )
    molecules = find_molecules(source)
    chosen = choose_variants(
        options.variant, molecules, what="molecule of rMD17", source=source
    )
    return [
        TrajectorySource(
            facts=_facts(molecule, options.fold),
            keys=RMD17_KEYS,
            files=_divide(molecules[molecule], source, options.fold),
            units=JMP_UNITS if options.legacy_units else CODATA,
            max_force=options.max_force,
        )
        for molecule in chosen
    ]


def _divide(files: _Files, source: Path, fold: int) -> tuple[TrajectoryFile, ...]:
    if files.whole is None:
        return _divided_files(files, fold)
    n_frames = count_frames(files.whole, RMD17_KEYS)
    if fold == 0:
        split = shuffled_split(n_frames, budget_sizes(n_frames, *RMD17_SIZES))
    else:
        split = read_official_split(source, fold, n_frames)
    return (TrajectoryFile(path=files.whole, splits=tuple(split.labels(n_frames))),)


def _divided_files(files: _Files, fold: int) -> tuple[TrajectoryFile, ...]:
    numbers = sorted({k for _, k in files.divided})
    number = fold or numbers[0]
    wanted = [("train", number), ("test", number)]
    missing = [f"{part}_0{k}" for part, k in wanted if (part, k) not in files.divided]
    if missing:
        held = ", ".join(path.name for path in files.divided.values())
        raise DataError(
            f"there is no file of {missing[0]}; of this molecule there are {held}"
        )
    train, test = (files.divided[key] for key in wanted)
    n_train = count_frames(train, RMD17_KEYS)
    n_val = int(n_train * _VAL_FRACTION)
    training, validation, testing = SPLITS
    return (
        TrajectoryFile(
            path=train, splits=(training,) * (n_train - n_val) + (validation,) * n_val
        ),
        TrajectoryFile(path=test, splits=(testing,) * count_frames(test, RMD17_KEYS)),
    )


def read_official_split(source: Path, fold: int, n_frames: int) -> IndexSplit:
    """Return a split of the authors of the set, from their two CSV files.

    Args:
        source: An archive, or a folder; the CSV files are below the folder, or in
            ``splits`` beside the folder of the archive.
        fold: 1 to 5.
        n_frames: Frames of the molecule.

    Raises:
        DataError: If a file is absent, or a line is no frame of the molecule.
    """
    train = _read_indices(_split_file(source, f"index_train_0{fold}.csv"), n_frames)
    test = _read_indices(_split_file(source, f"index_test_0{fold}.csv"), n_frames)
    shared = np.intersect1d(train, test)
    if shared.size:
        raise DataError(
            f"frame {shared[0]} is in index_train_0{fold}.csv and in "
            f"index_test_0{fold}.csv; download them again"
        )
    n_val = int(len(train) * _VAL_FRACTION)
    return IndexSplit(
        train=train[: len(train) - n_val], val=train[len(train) - n_val :], test=test
    )


def _split_file(source: Path, name: str) -> Path:
    roots = [source] if source.is_dir() else [source.parent, source.parent.parent]
    for root in roots:
        for pattern in (name, f"splits/{name}", f"*/splits/{name}"):
            found = sorted(root.glob(pattern))
            if found:
                return found[0]
    raise DataError(
        f"there is no {name} with {source}; it is in the folder 'splits' of the "
        "published archive (fold 0 needs no such file)"
    )


def _read_indices(path: Path, n_frames: int) -> Int[np.ndarray, " frames"]:
    indices = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.strip().rstrip(",")
        if not text:
            continue
        if not text.isdigit() or int(text) >= n_frames:
            raise DataError(
                f"{path}, line {number}: {text[:40]!r} is not the number of a frame "
                f"below {n_frames}"
            )
        indices.append(int(text))
    return np.array(indices, dtype=np.int64)


def _facts(molecule: str, fold: int) -> SetFacts:
    return SetFacts(
        name=f"rmd17-{molecule}" + (f"-fold{fold}" if fold else ""),
        title=f"rMD17, {molecule}",
        domain="molecule",
        level_of_theory="PBE/def2-SVP",
        licence="CC0-1.0",
        citation="Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, "
        "045018 (2020)",
        coverage=f"{molecule} at 500 K"
        + (f"; split {fold} of the authors of the set" if fold else ""),
        is_default=False,
        target_units={},
    )


FAMILY = FamilyInfo(
    name="rmd17",
    title="rMD17",
    open=open_rmd17,
    downloads=(
        Download(
            url="https://figshare.com/ndownloader/articles/12672038/versions/3",
            file="rmd17.zip",
        ),
    ),
    licence="CC0-1.0",
    formats=(
        "the folder rmd17 as unpacked (npz_data, splits), or NPZ files called "
        "rmd17_MOLECULE.npz or rmd17_MOLECULE_train_01.npz and ..._test_01.npz"
    ),
    variants=tuple(RMD17),
    options=(
        "variant",
        "fold",
        "legacy_units",
        "max_force",
    ),
)
"""rMD17."""
