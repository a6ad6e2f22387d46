"""Source: a published set as records that can be read in parallel parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from jmp_calc.models.config import Domain
from jmp_train.data.sample import Sample
from jmp_train.data.splits import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One published set that a store is put together from."""

    title: str
    """Name for people."""
    level_of_theory: str
    """Method of the labels."""
    licence: str
    """Licence of the data."""
    citation: str
    """Publication of the set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetFacts:
    """What a set is; goes into the headers of its stores."""

    name: str
    """Name of the stores and of the task, such as ``rmd17-aspirin``."""
    title: str
    """Name for people."""
    domain: Domain
    """Kind of structure."""
    level_of_theory: str
    """Method of the labels."""
    licence: str
    """Licence of the data."""
    citation: str
    """Publication of the set."""
    coverage: str
    """What the data cover, in words that complete "was trained on"."""
    is_default: bool = False
    """Preferred when several heads cover a structure."""
    target_units: dict[str, str] = field(default_factory=dict)
    """Unit of each target besides energy, forces and stress."""
    atom_energies: dict[int, float] = field(default_factory=dict)
    """Energies of isolated atoms that the set holds, eV, by atomic number."""
    origins: tuple[Origin, ...] = ()
    """Sets that it is put together from; empty: it is one itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One labelled system and the part that it belongs to."""

    sample: Sample
    """The system."""
    split: Split | None
    """Published part; None: decided by a hash (``splits.py``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """One system that is left out."""

    where: str
    """What the set calls it."""
    reason: str
    """Why, in the same words for all systems of one reason."""


@runtime_checkable
class Source(Protocol):
    """A set that is ready to be read; it can be pickled."""

    @property
    def facts(self) -> SetFacts:
        """What the set is."""

    def parts(self) -> list[str]:
        """Return the names of parts that are read independently of each other."""

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the files of a part; it is read again when one of them has changed."""

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the records of a part in a fixed order; damage is a ``DataError``."""


SplitBy = Literal["structure", "group", "block", "file"]
"""What is held out together in user data.

* ``structure``: single structures (copies of one stay together).
* ``group``: frames with the same ``info['group']``, as ``data sample`` writes it.
* ``block``: a twentieth of a file, of consecutive frames of a trajectory.
* ``file``: whole files.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyOptions:
    """Choices of the user; a family has some of them (``FamilyInfo.options``)."""

    variant: str | None = None
    """Molecule, task, subset or level of theory; by default all, or the usual one."""
    fold: int = 0
    """Which of several published splits."""
    split: Split | None = None
    """Part that SOURCE holds, for sets that are published part by part."""
    legacy_units: bool = False
    """Use the rounded factors of the published preparation."""
    energy: str | None = None
    """Which of several energies is the label; by default the total energy."""
    by_molecule: bool = False
    """Divide whole molecules where the published split divides conformers."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; by default any."""
    references: Path | None = None
    """OC20: file of energies that turn adsorption energies into total ones."""
    energy_key: str | None = None
    """User data: name of the energy, or none to ignore it; by default the usual one."""
    forces_key: str | None = None
    """User data: name of the forces, likewise."""
    stress_key: str | None = None
    """User data: name of the stress or virial, likewise."""
    targets: tuple[str, ...] = ()
    """User data: other labels, each as NAME or NAME:UNIT."""
    split_by: SplitBy = "structure"
    """User data: what is held out together."""
    level_of_theory: str | None = None
    """User data: method of the labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """One published file."""

    url: str
    """Where it is."""
    file: str
    """What it is called here."""
    size: int = 0
    """Bytes; 0: not known."""
    md5: str = ""
    """Published MD5; empty: none."""
    sha256: str = ""
    """Published SHA-256; empty: none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyInfo:
    """One family of sets: how its files are found, opened and fetched."""

    name: str
    """Key in ``FAMILIES``."""
    title: str
    """Name for people."""
    open: Callable[[Path, FamilyOptions], list[Source]]
    """Return the sets in a file or folder."""
    downloads: tuple[Download, ...] = ()
    """Files of the publishers."""
    licence: str = "not stated"
    """Licence of these files."""
    formats: str = ""
    """What the file or folder must be."""
    variants: tuple[str, ...] = ()
    """Known values of ``FamilyOptions.variant``."""
    options: tuple[str, ...] = ()
    """Names of the fields of ``FamilyOptions`` that it has a use for."""
