"""Pairs ``k.extxyz.xz`` and ``k.txt.xz`` of OC20, frame by frame in bounded memory.

Source:
    Training specification, 5.2: the columns of the frames, and one line
    ``system_id,frame_number,reference_energy`` per frame.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict
from jaxtyping import Bool, Float, Int

from jmp_calc.errors import DataError
from jmp_train.data.layouts.json_rows import read_json
from jmp_train.data.layouts.pyg_record import read_pickle

FRAMES = ".extxyz"
"""What the name of a file of frames holds; an ``.xz`` may follow."""

LINES = ".txt"
"""Likewise for the file of lines beside it."""

_WIDTHS = {"species": 1, "pos": 3, "move_mask": 1, "tags": 1, "forces": 3}
_IS_FREE = {"T": True, "F": False, "True": True, "False": False, "1": True, "0": False}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SlabFrame:
    """One frame of a relaxation or of a trajectory of a slab with adsorbate."""

    numbers: Int[np.ndarray, " atoms"]
    """Atomic numbers."""
    positions: Float[np.ndarray, "atoms 3"]
    """Å."""
    cell: Float[np.ndarray, "3 3"]
    """Rows are lattice vectors, Å."""
    pbc: Bool[np.ndarray, " 3"]
    """Periodic directions."""
    energy: float
    """Total energy, eV."""
    forces: Float[np.ndarray, "atoms 3"]
    """eV/Å, without constraints."""
    fixed: Bool[np.ndarray, " atoms"]
    """Atoms that were held fixed (``move_mask`` false)."""
    tags: Int[np.ndarray, " atoms"]
    """0 sub-surface, 1 surface, 2 adsorbate."""
    system: str
    """Identifier of the system, such as ``random1352256``."""
    frame: str
    """Number within the trajectory, such as ``frame115``."""
    reference: float | None
    """Energy of the clean slab and the gas-phase molecules, eV; None: not stated."""


def find_pairs(folder: Path) -> list[Path]:
    """Return the files of frames below a folder, in a fixed order.

    Args:
        folder: Searched with all folders below it.

    Raises:
        DataError: If a file of frames or lines is alone.
    """
    frames = {_stem(path, FRAMES): path for path in _all(folder, FRAMES)}
    lines = {_stem(path, LINES): path for path in _all(folder, LINES)}
    lonely = sorted(frames.keys() ^ lines.keys())
    # Notes of other kinds may lie around; numbered files belong to the set.
    lonely = [stem for stem in lonely if stem in frames or stem.name.isdigit()]
    if lonely:
        here, there = (FRAMES, LINES) if lonely[0] in frames else (LINES, FRAMES)
        raise DataError(
            f"{lonely[0]}{here}.xz has no {lonely[0].name}{there}.xz beside it; the "
            "files come in pairs, so unpack the archive again"
        )
    return [frames[stem] for stem in sorted(frames, key=_natural)]


def _all(folder: Path, suffix: str) -> list[Path]:
    return [*folder.rglob(f"*{suffix}"), *folder.rglob(f"*{suffix}.xz")]


def _stem(path: Path, suffix: str) -> Path:
    return path.with_name(path.name.removesuffix(".xz").removesuffix(suffix))


def _natural(stem: Path) -> tuple[str, int, str]:
    number = int(stem.name) if stem.name.isdigit() else -1
    return str(stem.parent), number, stem.name


def both_files(path: Path) -> tuple[Path, Path]:
    """Return the file of frames and the file of lines of a pair.

    Args:
        path: The file of frames.
    """
    stem = _stem(path, FRAMES)
    suffix = ".xz" if path.name.endswith(".xz") else ""
    return path, stem.with_name(f"{stem.name}{LINES}{suffix}")


def read_pair(path: Path) -> Iterator[SlabFrame]:
    """Yield the frames of one pair of files.

    Args:
        path: The file of frames.

    Raises:
        DataError: If a file is cut off or damaged, or one has more frames than the
            other; file and frame are named.
    """
    _, other = both_files(path)
    with _open(path) as frames, _open(other) as lines:
        index = 0
        while True:
            where = f"frame {index} of {path}"
            head = _line(frames, where)
            line = _line(lines, f"line {index} of {other}").strip()
            if not head.strip() and not line:
                return
            if not head.strip() or not line:
                short, long = (path, other) if line else (other, path)
                raise DataError(
                    f"{short} ends after {index} frames and {long} goes on; one of "
                    "them is cut short, so unpack the archive again"
                )
            yield _frame(frames, head, line, where)
            index += 1


def _frame(frames: TextIOWrapper, head: str, line: str, where: str) -> SlabFrame:
    try:
        n_atoms = int(head)
        facts = key_val_str_to_dict(_line(frames, where).strip())
        rows = [_line(frames, where).split() for _ in range(n_atoms)]
        table = _split_columns(rows, facts["Properties"])
        system, frame, reference = _parse_line(line)
        return SlabFrame(
            numbers=np.array([atomic_numbers[s] for s in table["species"][:, 0]]),
            positions=table["pos"].astype(np.float64),
            cell=np.asarray(facts["Lattice"], dtype=np.float64).T.copy(),
            pbc=np.asarray(facts.get("pbc", [True] * 3), dtype=bool),
            energy=float(facts["energy"]),
            forces=table["forces"].astype(np.float64),
            fixed=np.array([not _IS_FREE[s] for s in table["move_mask"][:, 0]]),
            tags=table["tags"][:, 0].astype(np.int64),
            system=system,
            frame=frame,
            reference=reference,
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{where} is cut off or not as published ({type(error).__name__}: "
            f"{error}); its line is {line!r}"
        ) from None


def _split_columns(rows: list[list[str]], properties: str) -> dict[str, np.ndarray]:
    """Return the words of each named column."""
    table = np.array(rows, dtype=str)
    words, place = properties.split(":"), 0
    columns = {}
    for name, width in zip(words[::3], words[2::3], strict=True):
        columns[name] = table[:, place : place + int(width)]
        place += int(width)
    if table.shape[1] != place:
        raise ValueError(f"its atoms have {table.shape[1]} words instead of {place}")
    for name, size in _WIDTHS.items():
        if name not in columns or columns[name].shape[1] != size:
            raise KeyError(f"no column {name} of width {size} in {properties}")
    return columns


def _parse_line(line: str) -> tuple[str, str, float | None]:
    words = [word.strip() for word in line.split(",")]
    if len(words) not in (2, 3):
        raise ValueError("the line must hold system_id,frame_number,reference_energy")
    return words[0], words[1], float(words[2]) if len(words) == 3 else None


@contextmanager
def _open(path: Path) -> Iterator[TextIOWrapper]:
    opener = lzma.open if path.name.endswith(".xz") else open
    try:
        file = opener(path, "rt", encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    with file:
        yield file


def _line(file: TextIOWrapper, where: str) -> str:
    try:
        return file.readline()
    except (EOFError, lzma.LZMAError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where} cannot be read ({error}); the file is cut off or damaged, so "
            "unpack the archive again"
        ) from None


def read_references(source: Path) -> dict[str, float]:
    """Return the reference energy of each system, eV.

    Args:
        source: A folder of the pairs, a file of its lines (``.txt`` or ``.txt.xz``), a
            JSON object, or the pickled mapping that was published beside the set.

    Raises:
        DataError: If it is none of these, or damaged.
    """
    if source.is_dir():
        found: dict[str, float] = {}
        for path in sorted(_all(source, LINES)):
            found.update(_references_of_lines(path))
        if not found:
            raise DataError(f"{source} holds no {LINES}.xz files with references")
        return found
    if LINES in source.suffixes:
        return _references_of_lines(source)
    return _references_of_mapping(source)


def _references_of_lines(path: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    with _open(path) as lines:
        index = 0
        while line := _line(lines, f"line {index} of {path}"):
            try:
                system, _, reference = _parse_line(line)
            except ValueError as error:
                raise DataError(f"line {index} of {path}: {error}") from None
            if reference is not None:
                found[system] = reference
            index += 1
    return found


def _references_of_mapping(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise DataError(f"there is no {path}; give the references of the systems")
    if path.suffix in (".pkl", ".pickle"):
        try:
            content = read_pickle(path.read_bytes())
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    else:
        content = read_json(path)
    try:
        return {str(name): float(value) for name, value in content.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} must map the name of each system, such as random1352256, to its "
            f"reference energy in eV ({error})"
        ) from None
