"""QM9: 130 831 small molecules at their equilibrium, with properties as targets.

The source is a folder of the published text files (or their tar archive), or the folder
of ``gdb9.sdf`` and ``gdb9.sdf.csv``. Text files have positions to ten digits; the SDF,
which the published training used, has four decimals. ``uncharacterized.txt`` beside
them names the 3 054 molecules that are skipped. The published split is 110 831 / 10 000
/ 10 000 of the random order; an excerpt is divided in the same proportions.

There is no energy label: U_0 holds the zero-point energy and is a target.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jmp_calc.errors import DataError
from jmp_calc.units import CODATA, PYG_UNITS, MolecularUnits
from jmp_train.data.layouts.parts import PART_FRAMES, frame_parts, part_range
from jmp_train.data.layouts.qm9 import (
    Qm9Molecule,
    parse_xyz,
    read_uncharacterized,
)
from jmp_train.data.layouts.qm9_sdf import SdfIndex, index_sdf, read_sdf
from jmp_train.data.published import QM9, QM9_SIZES
from jmp_train.data.published_splits import proportional_sizes, shuffled_split
from jmp_train.data.sample import molecule_sample
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    Record,
    SetFacts,
    Skipped,
    Source,
)
from jmp_train.data.splits import Split

N_MOLECULES = 133_885
"""Molecules of the published files, before any is dropped."""

_XYZ_NAME = re.compile(r"(?:.*/)?dsgdb9nsd_(?P<index>\d+)\.xyz")
_UNCHARACTERIZED = ("uncharacterized.txt", "3195404")
_UNCHARACTERIZED_URL = "https://figshare.com/ndownloader/files/3195404"


@runtime_checkable
class Qm9Files(Protocol):
    """The molecules in one of the published layouts."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Number in the set of each molecule, in the order of the set."""

    def parts(self) -> list[str]:
        """Return ranges of places that are read alone."""

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the files of a part."""

    def read(self, part: str, units: MolecularUnits) -> Iterator[Qm9Molecule]:
        """Yield the molecules of a part; a damaged one is an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class XyzFolder:
    """A folder of text files."""

    paths: tuple[Path, ...]
    """The files, by number."""
    indices: tuple[int, ...]
    """Their numbers in the set."""

    def parts(self) -> list[str]:
        """Return ranges of files."""
        return frame_parts(len(self.paths))

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the files of a range."""
        rows = part_range(part)
        return self.paths[rows.start : rows.stop]

    def read(self, part: str, units: MolecularUnits) -> Iterator[Qm9Molecule]:
        """Yield the molecules of a range of files."""
        for place in part_range(part):
            path = self.paths[place]
            yield parse_xyz(_decoded(path.read_bytes()), str(path), units)


@dataclass(frozen=True, kw_only=True, slots=True)
class XyzArchive:
    """A tar archive of text files, which can only be read from its start."""

    path: Path
    """The archive."""
    indices: tuple[int, ...]
    """Numbers in the set, ascending."""

    def parts(self) -> list[str]:
        """Return the one part: all files."""
        return [f"0-{len(self.indices)}"]

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the archive."""
        del part
        return (self.path,)

    def read(self, part: str, units: MolecularUnits) -> Iterator[Qm9Molecule]:
        """Yield all molecules, in the order of the archive."""
        del part
        for name, text in _archive_members(self.path):
            yield parse_xyz(text, f"{name} of {self.path}", units)


@dataclass(frozen=True, kw_only=True, slots=True)
class SdfTable:
    """The SDF with its CSV."""

    sdf: Path
    """``gdb9.sdf``."""
    table: Path
    """``gdb9.sdf.csv``."""
    index: SdfIndex
    """Where records start."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Number in the set of each record."""
        return self.index.indices

    def parts(self) -> list[str]:
        """Return ranges of records."""
        return frame_parts(len(self.indices))

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return both files."""
        del part
        return (self.sdf, self.table)

    def read(self, part: str, units: MolecularUnits) -> Iterator[Qm9Molecule]:
        """Yield the molecules of a range of records."""
        block = part_range(part).start // PART_FRAMES
        yield from read_sdf(self.sdf, self.table, self.index, block=block, units=units)


@dataclass(frozen=True, kw_only=True, slots=True)
class Qm9Source:
    """All molecules with their properties."""

    facts: SetFacts
    """What the set is."""
    files: Qm9Files
    """Where the molecules are."""
    splits: Mapping[int, Split]
    """Part of each molecule that is kept, by its number."""
    units: MolecularUnits = CODATA
    """Factors of hartree and kcal/mol."""

    def parts(self) -> list[str]:
        """Return ranges of molecules."""
        return self.files.parts()

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the files of a part."""
        return self.files.inputs(part)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the molecules of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If a file is damaged.
        """
        for molecule in self.files.read(part, self.units):
            name = f"gdb {molecule.index}"
            split = self.splits.get(molecule.index)
            if split is None:
                yield Skipped(
                    where=name, reason="uncharacterized (failed the check of the set)"
                )
                continue
            sample = molecule_sample(
                molecule.numbers,
                molecule.positions,
                energy=None,
                forces=None,
                source=self.facts.name,
                group=name,
                name=name,
                targets=molecule.targets,
            )
            yield Record(sample=sample, split=split)


def open_qm9(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the set.

    Args:
        source: Folder, archive or SDF, as at the head of this file.
        options: ``legacy_units`` asks for the factors of torch-geometric.

    Raises:
        DataError: If files are absent, or of the whole set it is not known which
            molecules to drop.
    """
    files = find_files(source)
    dropped = _uncharacterized(source, len(files.indices))
    splits = divide(files.indices, dropped)
    names = [
        name for name in QM9 if isinstance(files, SdfTable) or name[-5:] != "_ATOM"
    ]
    facts = SetFacts(
        name="qm9",
        title="QM9",
        domain="molecule",
        level_of_theory="B3LYP/6-31G(2df,p)",
        licence="CC0 (as stated by the publication)",
        citation="Ramakrishnan et al., Sci. Data 1, 140022 (2014)",
        coverage=(
            "molecules of up to nine C, N, O, F with hydrogen at their equilibrium"
            + _excerpt(len(splits), dropped)
        ),
        is_default=False,
        target_units={name: QM9[name].unit for name in names},
    )
    units = PYG_UNITS if options.legacy_units else CODATA
    return [Qm9Source(facts=facts, files=files, splits=splits, units=units)]


def divide(indices: Sequence[int], dropped: frozenset[int]) -> dict[int, Split]:
    """Return the part of each molecule that is kept, by its number.

    Args:
        indices: Numbers of all molecules, in the order of the set.
        dropped: Numbers of those that are left out.
    """
    kept = [index for index in indices if index not in dropped]
    sizes = proportional_sizes(len(kept), QM9_SIZES)
    labels = shuffled_split(len(kept), sizes).labels(len(kept))
    return {index: label for index, label in zip(kept, labels, strict=True) if label}


def _excerpt(n_kept: int, dropped: frozenset[int]) -> str:
    if n_kept == sum(QM9_SIZES):
        return ""
    drop = "" if dropped else "; uncharacterized molecules are kept"
    return f"; {n_kept} of them, divided in the published proportions{drop}"


def find_files(source: Path) -> Qm9Files:
    """Return the molecules in the layout that the source has.

    Args:
        source: As at the head of this file.

    Raises:
        DataError: If it has none.
    """
    if source.is_dir():
        tables = sorted(source.rglob("gdb9.sdf"))
        return _sdf_table(tables[0]) if tables else _xyz_folder(source)
    if not source.is_file():
        raise DataError(f"there is no {source}; give {FAMILY.formats}")
    if source.suffix == ".sdf":
        return _sdf_table(source)
    members = [_index_of(name) for name, _ in _archive_members(source)]
    if not members:
        raise DataError(
            f"{source} holds no file dsgdb9nsd_*.xyz of QM9; unpack an archive of "
            "gdb9.sdf first and give its folder"
        )
    return XyzArchive(path=source, indices=tuple(sorted(members)))


def _sdf_table(sdf: Path) -> SdfTable:
    table = sdf.with_name(sdf.name + ".csv")
    if not table.is_file():
        raise DataError(f"there is no {table}, which holds the properties of {sdf}")
    return SdfTable(sdf=sdf, table=table, index=index_sdf(sdf, table, PART_FRAMES))


def _xyz_folder(source: Path) -> XyzFolder:
    files = {_index_of(path.name): path for path in source.rglob("dsgdb9nsd_*.xyz")}
    if not files:
        raise DataError(
            f"{source} holds neither gdb9.sdf nor dsgdb9nsd_*.xyz; give "
            f"{FAMILY.formats}"
        )
    indices = tuple(sorted(files))
    return XyzFolder(paths=tuple(files[index] for index in indices), indices=indices)


def _index_of(name: str) -> int:
    match = _XYZ_NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name} is not called dsgdb9nsd_NUMBER.xyz, as in QM9")
    return int(match["index"])


def _archive_members(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of each molecule, reading the archive from its start."""
    name = "its start"
    try:
        # Not mode "r|", which takes a cut compressed archive for a shorter one.
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and _XYZ_NAME.fullmatch(member.name):
                    yield member.name, _decoded(file.read())
                name = member.name
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{path} cannot be read after {name} ({error}); it must be a complete tar "
            "archive of text files, so download it again"
        ) from None


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _uncharacterized(source: Path, n_molecules: int) -> frozenset[int]:
    folder = source if source.is_dir() else source.parent
    for name in _UNCHARACTERIZED:
        for path in (*folder.glob(f"**/{name}"), folder.parent / name):
            if path.is_file():
                return read_uncharacterized(path)
    if n_molecules == N_MOLECULES:
        raise DataError(
            f"there is no uncharacterized.txt beside {source}, which says which 3054 "
            f"molecules to drop; put the file of {_UNCHARACTERIZED_URL} there"
        )
    return frozenset()


FAMILY = FamilyInfo(
    name="qm9",
    title="QM9",
    open=open_qm9,
    downloads=(
        Download(
            url="https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/gdb9.tar.gz",
            file="gdb9.tar.gz",
        ),
        Download(url=_UNCHARACTERIZED_URL, file="uncharacterized.txt"),
    ),
    licence="CC0 (as stated by the publication)",
    formats=(
        "a folder with gdb9.sdf and gdb9.sdf.csv, or with dsgdb9nsd_NUMBER.xyz files "
        "(or their tar archive), and with uncharacterized.txt"
    ),
    variants=(),
    options=("legacy_units",),
)
"""QM9."""
