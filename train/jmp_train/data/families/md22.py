"""MD22: trajectories of seven large molecules; and any other file of its layout.

Of the published random order, the frames of the budget train and validate (5 %), all
others test. Files that sGDML wrote for other molecules (MD17) are divided 80/10/10.
"""

from __future__ import annotations

from pathlib import Path

from jmp_calc.errors import DataError
from jmp_calc.units import CODATA, JMP_UNITS
from jmp_train.data.families.molecules import choose_variants
from jmp_train.data.families.trajectories import TrajectoryFile, TrajectorySource
from jmp_train.data.layouts.npz import NpzArrays
from jmp_train.data.layouts.sgdml import SGDML_KEYS, count_frames
from jmp_train.data.published import MD22
from jmp_train.data.published_splits import (
    budget_sizes,
    fraction_sizes,
    shuffled_split,
)
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    SetFacts,
    Source,
)

_URL = "http://www.quantum-machine.org/gdml/repo/datasets"


def open_md22(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per molecule.

    Args:
        source: ``md22_MOLECULE.npz``, or a folder that holds such files.
        options: ``variant`` is a molecule; None: all that are there.

    Raises:
        ArgumentError: If the molecule is not there.
        DataError: If a file is absent or damaged, or its name is not one of MD22.
    """
    found = _archives(source, "md22_*.npz", FAMILY.formats)
    files = {path.stem.removeprefix("md22_"): path for path in found}
    strange = [name for name in files if name not in MD22]
    if strange:
        raise DataError(
            f"{files[strange[0]]} is not called after a molecule of MD22 "
            f"({', '.join(MD22)}); other files of this layout are read as 'sgdml'"
        )
    chosen = choose_variants(
        options.variant, files, what="molecule of MD22", source=source
    )
    return [_source(name, files[name], options) for name in chosen]


def _source(name: str, path: Path, options: FamilyOptions) -> TrajectorySource:
    molecule = MD22[name]
    n_frames = count_frames(path, SGDML_KEYS)
    sizes = budget_sizes(n_frames, molecule.n_train, molecule.n_val)
    return TrajectorySource(
        facts=SetFacts(
            name=f"md22-{name}",
            title=f"MD22, {name}",
            domain="molecule",
            level_of_theory="PBE+MBD",
            licence="not stated in the file",
            citation="Chmiela et al., Sci. Adv. 9, eadf0873 (2023)",
            coverage=f"{name} at 400 to 500 K",
            is_default=False,
            target_units={},
        ),
        keys=SGDML_KEYS,
        files=(_divided(path, n_frames, sizes),),
        units=JMP_UNITS if options.legacy_units else CODATA,
        max_force=options.max_force,
    )


def open_sgdml(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per archive of the layout.

    Args:
        source: An archive, or a folder that holds some.
        options: ``variant`` is the name of an archive without ``.npz``; None: all.

    Raises:
        ArgumentError: If there is no such archive.
        DataError: If one is damaged or has another layout.
    """
    files = {
        path.stem: path for path in _archives(source, "*.npz", SGDML_FAMILY.formats)
    }
    chosen = choose_variants(options.variant, files, what="archive", source=source)
    sources: list[Source] = []
    for name in chosen:
        path = files[name]
        n_frames = count_frames(path, SGDML_KEYS)
        theory = NpzArrays(path).text("theory")
        sources.append(
            TrajectorySource(
                facts=SetFacts(
                    name=f"sgdml-{name}",
                    title=name,
                    domain="molecule",
                    level_of_theory=theory or "not stated in the file",
                    licence="not stated in the file",
                    citation="",
                    coverage=f"the molecule of {path.name}",
                    is_default=False,
                    target_units={},
                ),
                keys=SGDML_KEYS,
                files=(_divided(path, n_frames, fraction_sizes(n_frames)),),
                units=JMP_UNITS if options.legacy_units else CODATA,
                max_force=options.max_force,
            )
        )
    return sources


def _archives(source: Path, pattern: str, formats: str) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"there is no {source}; give {formats}")
    return sorted(source.rglob(pattern))


def _divided(path: Path, n_frames: int, sizes: tuple[int, int, int]) -> TrajectoryFile:
    split = shuffled_split(n_frames, sizes)
    return TrajectoryFile(path=path, splits=tuple(split.labels(n_frames)))


FAMILY = FamilyInfo(
    name="md22",
    title="MD22",
    open=open_md22,
    downloads=tuple(
        Download(url=f"{_URL}/md22_{name}.npz", file=f"md22_{name}.npz")
        for name in MD22
    ),
    licence="not stated in the files",
    formats="NPZ files called md22_MOLECULE.npz, or their folder",
    variants=tuple(MD22),
    options=("variant", "legacy_units", "max_force"),
)
"""MD22."""

SGDML_FAMILY = FamilyInfo(
    name="sgdml",
    title="sGDML archives (MD17 and others)",
    open=open_sgdml,
    downloads=(),
    formats="NPZ files with R, z, E and F in kcal/mol and Å, or their folder",
    variants=(),
    options=("variant", "legacy_units", "max_force"),
)
"""Any other molecule in the layout of MD22."""
