"""Structures of the command line: which are meant, and how they are read."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from ase import Atoms

from jmp_calc.errors import READ_ERRORS, ArgumentError, DataError

COMPRESSIONS = (".gz", ".bz2", ".xz")
"""Endings of compressed files, which ASE reads through."""

COMMON_FORMATS = "extended XYZ (.xyz), .traj, .cif, .pdb, POSCAR, .gen, .xsf, .json"
"""Some formats that ASE reads, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """One structure of the input, and where it came from."""

    path: Path
    """Its file."""
    frame: int
    """Its number in the file; negative numbers count from the end."""
    name: str
    """Name for what is made from it, unique among those of one call."""
    atoms: Atoms
    """The structure itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A structure file and which of its structures is meant."""

    path: Path
    """Any file that ASE reads."""
    frame: int = -1
    """Structure to take from a file with several: 0 is the first, -1 the last."""

    @property
    def stem(self) -> str:
        """Name for what is made from the file: its own without endings.

        In lower case where ASE would take a file of that name (POSCAR-final.xyz) for
        one of another format.
        """
        from ase.io.formats import ioformats

        name = self.path.name
        if self.path.suffix in COMPRESSIONS:
            name = self.path.stem
        stem = Path(name).stem
        if any(format.match_name(f"{stem}-traj.traj") for format in ioformats.values()):
            return stem.lower()
        return stem

    def load(self) -> Atoms:
        """Read the structure.

        Raises:
            DataError: If there is no such file, ASE finds no structure in it, or the
                structure is disordered.
        """
        import ase.io
        from ase.io.formats import UnknownFileTypeError

        if not self.path.is_file():
            raise DataError(f"{self.path} {self._problem()}; give a structure file")
        try:
            # a name may hold an "@", which ASE would take for the start of an index
            atoms = ase.io.read(
                self.path, index=self.frame, do_not_split_by_at_sign=True
            )
        except (StopIteration, IndexError) as error:
            if self.frame in (0, -1):
                raise self._unreadable(error) from error
            raise DataError(
                f"{self.path} has no structure {self.frame}; count from 0, or from the "
                "end with -1, -2, ..."
            ) from error
        except (*READ_ERRORS, ase.io.ParseError, UnknownFileTypeError) as error:
            raise self._unreadable(error) from error
        if not isinstance(atoms, Atoms) or len(atoms) == 0:
            raise DataError(f"{self.path} holds no atoms; give a structure file")
        require_ordered(atoms, self.path)
        return atoms

    def _problem(self) -> str:
        if self.path.is_dir():
            return "is a folder"
        if self.path.exists() or str(self.path) == "-":
            return "is not a regular file, and structures are not read from a pipe"
        name, _, frame = str(self.path).rpartition("@")
        if Path(name).is_file():
            return f"does not exist; of {name}, --frame {frame} takes structures"
        return "does not exist"

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"cannot read structure {self.frame} of {self.path} "
            f"({str(error) or 'no structure found'}); any "
            f"format that ASE knows will do, such as {COMMON_FORMATS}; "
            "'ase info --formats' lists them all"
        )


def read_frames(path: Path) -> list[Atoms]:
    """Read all structures of a file.

    Args:
        path: Any file that ASE reads.

    Raises:
        DataError: If there is no such file, or ASE finds no structure in it.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {problem}; give a file of structures")
    try:
        frames = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except (*READ_ERRORS, ase.io.ParseError, UnknownFileTypeError) as error:
        raise DataError(
            f"cannot read structures from {path} ({type(error).__name__}: {error}); "
            f"any format that ASE knows will do, such as {COMMON_FORMATS}"
        ) from error
    frames = [atoms for atoms in frames if isinstance(atoms, Atoms) and len(atoms)]
    if not frames:
        raise DataError(f"{path} holds no atoms; give a file of structures")
    for atoms in frames:
        require_ordered(atoms, path)
    return frames


def require_ordered(atoms: Atoms, path: Path) -> None:
    """Check that each site of a structure has one element, wholly.

    Args:
        atoms: As it was read.
        path: Its file, for the message.

    Raises:
        DataError: If sites are shared or partly empty.
    """
    # ASE's CIF reader takes the majority element of a site and tells the rest here
    occupancy = atoms.info.get("occupancy")
    sites = occupancy.values() if isinstance(occupancy, dict) else ()
    if any(
        len(site) > 1 or min(site.values()) < 0.99
        for site in sites
        if isinstance(site, dict) and site
    ):
        raise DataError(
            f"{path} has sites that are shared by elements or partly empty, which no "
            "single structure is; give one ordered arrangement"
        )


def read_structures(paths: Sequence[Path], frame: str) -> list[Structure]:
    """Read the structures of several files, each with a name of its own.

    Args:
        paths: Files in any format of ASE.
        frame: Number of the structure to take from each file, or ``:`` for all.

    Raises:
        ArgumentError: If ``frame`` is neither.
        DataError: If a file has no such structure.
    """
    if not re.fullmatch(r":|-?[0-9]+", frame):
        raise ArgumentError(
            f"--frame is {frame!r}; give a number (0 first, -1 last) or ':' for all"
        )
    found: list[tuple[Path, int, str, Atoms]] = []
    for path in paths:
        if frame == ":":
            frames = read_frames(path)
            stem = Source(path=path).stem
            found += [
                (path, number, f"{stem}-{number}" if len(frames) > 1 else stem, atoms)
                for number, atoms in enumerate(frames)
            ]
        else:
            source = Source(path=path, frame=int(frame))
            found.append((path, source.frame, source.stem, source.load()))
    names = unique_names([stem for _, _, stem, _ in found])
    return [
        Structure(path=path, frame=number, name=name, atoms=atoms)
        for name, (path, number, _, atoms) in zip(names, found, strict=True)
    ]


def unique_names(stems: Sequence[str]) -> list[str]:
    """Return names that differ: those that several have get the next free number.

    Args:
        stems: What each would be called alone.
    """
    counts = Counter(stems)
    taken = {stem for stem in stems if counts[stem] == 1}
    numbers = {stem: itertools.count(1) for stem in counts}
    names = []
    for stem in stems:
        name = stem
        if counts[stem] > 1:
            numbered = (f"{stem}-{number}" for number in numbers[stem])
            name = next(name for name in numbered if name not in taken)
            taken.add(name)
        names.append(name)
    return names


def structures_argument(
    *, default_frame: str = "-1"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for INPUT... and ``--frame``; the command gets ``structures``.

    Args:
        default_frame: Which structures of a file are taken: a number, or ``:`` for all.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.argument(
            "inputs",
            metavar="INPUT...",
            nargs=-1,
            required=True,
            type=click.Path(path_type=Path),
        )
        @click.option(
            "--frame",
            default=default_frame,
            show_default=True,
            help="Structure to take from each file: 0 is the first, -1 the last, "
            "':' all.",
        )
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            structures = read_structures(values.pop("inputs"), values.pop("frame"))
            return command(*args, structures=structures, **values)

        return wrapped

    return decorate
