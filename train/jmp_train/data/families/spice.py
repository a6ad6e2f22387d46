"""SPICE: conformers of drug-like molecules, dipeptides and solvated amino acids.

The file stores gradients; forces are their negative. The published split is one over
conformers, so conformers of one molecule train and test; ``by_molecule`` divides whole
molecules instead. Both are 80/10/10 of the published random order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import h5py

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.units import CODATA, JMP_UNITS, MolecularUnits
from jmp_train.data.families.molecules import find_one, frame_records
from jmp_train.data.layouts.hdf5 import n_rows, open_hdf5, read_text, subgroups
from jmp_train.data.layouts.parts import group_parts, part_range
from jmp_train.data.layouts.spice import SpiceEnergy, read_conformers
from jmp_train.data.published import SPICE
from jmp_train.data.published_splits import fraction_sizes, shuffled_split
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

ENERGIES: dict[str, SpiceEnergy] = {
    "total": "dft_total_energy",
    "formation": "formation_energy",
}
"""Energies by the name of the option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Molecule:
    """One group of the file."""

    name: str
    """Its name."""
    subset: str
    """What the file calls its subset."""
    n_frames: int
    """Conformers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpiceSource:
    """One subset of SPICE."""

    facts: SetFacts
    """What the set is."""
    path: Path
    """The HDF5 file."""
    molecules: tuple[Molecule, ...]
    """Those of the subset, in the order of the file."""
    splits: tuple[tuple[Split | None, ...], ...]
    """Part of each conformer of each molecule."""
    energy: SpiceEnergy = "dft_total_energy"
    """The energy that is the label."""
    units: MolecularUnits = CODATA
    """Factors of hartree and bohr."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return ranges of molecules with about as many conformers each."""
        return group_parts([molecule.n_frames for molecule in self.molecules])

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the one file of all parts."""
        del part
        return (self.path,)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the conformers of a part.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If the file is damaged.
        """
        with open_hdf5(self.path) as file:
            for index in part_range(part):
                yield from self._read_molecule(file, index)

    def _read_molecule(self, file: h5py.File, index: int) -> Iterator[Record | Skipped]:
        name = self.molecules[index].name
        for frames in read_conformers(file[name], energy=self.energy, units=self.units):
            yield from frame_records(
                frames,
                source=self.facts.name,
                group=name,
                split_of=self.splits[index].__getitem__,
                name_of=lambda conformer: f"{name}/{conformer}",
                max_force=self.max_force,
            )


def find_molecules(file: h5py.File) -> tuple[Molecule, ...]:
    """Return the molecules of a file.

    Args:
        file: In the layout of SPICE.

    Raises:
        DataError: If a group has no conformations, or a data set is damaged.
    """
    return tuple(
        Molecule(
            name=name,
            subset=read_text(file[name], "subset") if "subset" in file[name] else "",
            n_frames=n_rows(file[name], "conformations"),
        )
        for name in subgroups(file)
    )


def divide(
    molecules: tuple[Molecule, ...], *, by_molecule: bool
) -> tuple[tuple[Split | None, ...], ...]:
    """Return the part of each conformer.

    Args:
        molecules: Those of the subset, in the order of the file.
        by_molecule: Whether whole molecules are divided, not conformers.
    """
    sizes = [molecule.n_frames for molecule in molecules]
    n = len(molecules) if by_molecule else sum(sizes)
    labels = shuffled_split(n, fraction_sizes(n)).labels(n)
    if by_molecule:
        return tuple((label,) * size for label, size in zip(labels, sizes, strict=True))
    return tuple(
        tuple(labels[end - size : end])
        for end, size in zip(accumulate(sizes), sizes, strict=True)
    )


def choose_subsets(
    molecules: tuple[Molecule, ...], variant: str | None, path: Path
) -> dict[str, tuple[Molecule, ...]]:
    """Return the molecules of each subset that is read, by its short name.

    Args:
        molecules: All molecules of the file.
        variant: Words that the name of the subset in the file contains, joined by
            hyphens, such as ``pubchem``; ``all``: every molecule; None: the two
            published subsets.
        path: The file, for errors.

    Raises:
        ArgumentError: If no molecule is of such a subset.
    """
    if variant == "all":
        return {"all": molecules}
    names = list(SPICE) if variant is None else [variant]
    chosen = {name: _of_subset(molecules, name) for name in names}
    chosen = {name: subset for name, subset in chosen.items() if subset}
    if not chosen:
        held = sorted({molecule.subset or "(no name)" for molecule in molecules})
        raise ArgumentError(
            f"{path} has no molecule of {' or '.join(names)}; it has the subsets "
            f"{', '.join(held)}. Give a part of such a name, or 'all'"
        )
    return chosen


def _of_subset(molecules: tuple[Molecule, ...], name: str) -> tuple[Molecule, ...]:
    wanted = _plain(name)
    return tuple(m for m in molecules if wanted in _plain(m.subset))


def _plain(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ")


def open_spice(source: Path, options: FamilyOptions) -> list[Source]:
    """Return one source per subset.

    Args:
        source: The HDF5 file, or a folder that holds it.
        options: ``variant`` is as in :func:`choose_subsets`; ``energy`` is ``total``
            or ``formation``; ``by_molecule``, ``max_force`` and ``legacy_units`` count,
            too.

    Raises:
        ArgumentError: If the subset or the energy is not there.
        DataError: If the file is absent or damaged.
    """
    energy = options.energy or "total"
    if energy not in ENERGIES:
        raise ArgumentError(
            f"unknown energy {energy!r} of SPICE; choose from {', '.join(ENERGIES)}"
        )
    path = find_one(source, ("SPICE*.hdf5", "*.hdf5", "*.h5"), FAMILY.formats)
    with open_hdf5(path) as file:
        molecules = find_molecules(file)
    if not molecules:
        raise DataError(f"{path} has no groups; SPICE has one for each molecule")
    return [
        SpiceSource(
            facts=_facts(name, energy, by_molecule=options.by_molecule),
            path=path,
            molecules=subset,
            splits=divide(subset, by_molecule=options.by_molecule),
            energy=ENERGIES[energy],
            units=JMP_UNITS if options.legacy_units else CODATA,
            max_force=options.max_force,
        )
        for name, subset in choose_subsets(molecules, options.variant, path).items()
    ]


def _facts(name: str, energy: str, *, by_molecule: bool) -> SetFacts:
    kind = "" if energy == "total" else f"; energies are {energy} energies"
    rule = "molecules" if by_molecule else "conformers"
    return SetFacts(
        name=f"spice-{_plain(name).replace(' ', '-')}",
        title=f"SPICE, {name}",
        domain="molecule",
        level_of_theory="ωB97M-D3(BJ)/def2-TZVPPD",
        licence="CC0-1.0",
        citation="Eastman et al., Sci. Data 10, 11 (2023)",
        coverage=(
            f"conformers of {_plain(name)} of SPICE; parts are {rule}; charges are not "
            f"seen by the model{kind}"
        ),
        is_default=False,
        target_units={},
    )


FAMILY = FamilyInfo(
    name="spice",
    title="SPICE",
    open=open_spice,
    downloads=(
        Download(
            url="https://zenodo.org/records/10975225/files/SPICE-2.0.1.hdf5",
            file="SPICE-2.0.1.hdf5",
        ),
    ),
    licence="CC0-1.0",
    formats="the HDF5 file of a release (SPICE-1.1.4.hdf5), or its folder",
    variants=(*SPICE, "pubchem", "des370k", "des-monomers", "ion-pairs", "all"),
    options=(
        "variant",
        "energy",
        "by_molecule",
        "legacy_units",
        "max_force",
    ),
)
"""SPICE."""
