"""Parts of a campaign: some structures that one worker does at a time."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.cli.structures import Structure
from jmp_calc.files import file_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Structures that are done together, and whose results appear together."""

    name: str
    """Name of its folder, unique in the campaign."""
    structures: tuple[Structure, ...]
    """At least one."""
    fingerprints: tuple[str, ...]
    """Of each structure; see :func:`fingerprints_of`."""

    @property
    def fingerprint(self) -> str:
        """Changes with anything that its results depend on."""
        return hashlib.sha256("".join(self.fingerprints).encode()).hexdigest()

    def singles(self) -> list[Part]:
        """Return the same structures, each a part of its own."""
        return [
            Part(name=structure.name, structures=(structure,), fingerprints=(print_,))
            for structure, print_ in zip(
                self.structures, self.fingerprints, strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one structure ended."""

    name: str
    """Its name."""
    status: str
    """In the words of the verb."""
    exit_code: int
    """What the verb would have returned for it alone."""
    reason: str | None = None
    """Why it ended so; None if there is nothing to say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A part came to its end, whatever that was; its files are in its folder."""

    ended: tuple[Ended, ...]
    """One per structure."""
    worker: str
    """Machine and process."""
    versions: Mapping[str, str]
    """Of the packages there."""
    seconds: float
    """Duration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failed:
    """A part gave no results; the next start tries again."""

    reason: str
    """The error."""
    exit_code: int
    """What the verb would have returned."""
    traceback: str | None = None
    """Where it happened, of a bug."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """The worker of a part is gone."""

    reason: str
    """What is known about it."""


Outcome = Done | Failed | Lost


def fingerprints_of(
    structures: Iterable[Structure], identity: Mapping[str, Any]
) -> dict[str, str]:
    """Return a hash for each name that changes with all that its results depend on.

    Args:
        structures: The input, whose names differ.
        identity: What all results depend on; see :func:`plain`.
    """
    common = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    found = {}
    for structure in structures:
        digest = common.copy()
        digest.update(structure.name.encode())
        digest.update(content_of(structure.atoms))
        found[structure.name] = digest.hexdigest()
    return found


def split(
    structures: Iterable[Structure],
    per_task: int,
    fingerprints: Mapping[str, str],
    taken: Collection[str] = (),
) -> Iterator[Part]:
    """Share structures out in their order.

    Args:
        structures: The input, whose names differ.
        per_task: Structures in each part.
        fingerprints: Of each name; see :func:`fingerprints_of`.
        taken: Names that other parts have.
    """
    names = set(taken)
    rest = iter(structures)
    while chosen := tuple(itertools.islice(rest, per_task)):
        name = chosen[0].name
        if len(chosen) > 1:
            name += f"-to-{chosen[-1].name}"
        while name in names:
            # a file may be called like that
            name += "-more"
        names.add(name)
        yield Part(
            name=name,
            structures=chosen,
            fingerprints=tuple(fingerprints[one.name] for one in chosen),
        )


def content_of(atoms: Atoms) -> bytes:
    """Return everything about a structure that results can depend on, as bytes.

    Args:
        atoms: A structure; results that its file has are part of it (labels).
    """
    labels = {} if atoms.calc is None else dict(atoms.calc.results)
    found = {
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "arrays": dict(sorted(atoms.arrays.items())),
        "info": dict(sorted(atoms.info.items(), key=lambda item: str(item[0]))),
        "constraints": [constraint.todict() for constraint in atoms.constraints],
        "labels": dict(sorted(labels.items())),
    }
    return json.dumps(plain(found), sort_keys=True).encode()


def plain(value: Any) -> Any:
    """Return nested data as what JSON can hold; files count with their content.

    Args:
        value: Settings, arrays, paths.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        content = file_hash(value) if value.is_file() else None
        return {"file": str(value), "sha256": content}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
