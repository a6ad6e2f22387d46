"""OC20 S2EF: adsorbates on surfaces, as pairs of compressed text files or as LMDB.

The text files hold total energies and, for each frame, the reference that makes it an
adsorption energy. The LMDB files that are made from them usually hold adsorption
energies, without saying so; that is a question to the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_train.data.families.foreign_lmdb import LabelFields, LmdbSource
from jmp_train.data.families.labels import Labels, too_large
from jmp_train.data.families.published_parts import published_part, training_sizes
from jmp_train.data.layouts.pyg_lmdb import find_shards
from jmp_train.data.layouts.xz_frames import (
    SlabFrame,
    both_files,
    find_pairs,
    read_pair,
)
from jmp_train.data.sample import Sample
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

ENERGIES = ("total", "adsorption")
"""Values of ``FamilyOptions.energy``."""

SIZES = ("200K", "2M", "20M", "all")
"""Published sizes of the training part."""

_URL = "https://dl.fbaipublicfiles.com/opencatalystproject/data"
_MD5 = {
    "s2ef_train_200K.tar": "f8d0909c2623a393148435dede7d3a46",
    "s2ef_train_2M.tar": "863bc983245ffc0285305a1850e19cf7",
    "s2ef_train_20M.tar": "953474cb93f0b08cdc523399f03f7c36",
    "s2ef_train_all.tar": "12a7087bfd189a06ccbec9bc7add2bcd",
    "s2ef_val_id.tar": "f57f7f5c1302637940f2cc858e789410",
    "s2ef_val_ood_ads.tar": "",
    "s2ef_val_ood_cat.tar": "",
    "s2ef_val_ood_both.tar": "",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSource:
    """Frames of pairs of text files."""

    facts: SetFacts
    """What the set is."""
    folder: Path
    """What the parts are relative to."""
    pairs: tuple[Path, ...]
    """Files of frames."""
    split: Split | None
    """Part of all frames; None: by the names of the folders, or else by hash."""
    is_adsorption: bool = False
    """Whether the label is the adsorption energy."""
    max_force: float | None = None
    """Largest force on an atom that is kept, eV/Å; None: any."""

    def parts(self) -> list[str]:
        """Return one part per pair of files (5,000 frames as published)."""
        return [str(path.relative_to(self.folder)) for path in self.pairs]

    def inputs(self, part: str) -> tuple[Path, ...]:
        """Return the two files of a pair."""
        return both_files(self.folder / part)

    def read(self, part: str) -> Iterator[Record | Skipped]:
        """Yield the frames of a pair of files.

        Args:
            part: One of :meth:`parts`.

        Raises:
            DataError: If a file is cut off or damaged, or the files do not fit
                together.
        """
        path = self.folder / part
        split = self.split or published_part(path, self.folder)[1]
        for index, frame in enumerate(read_pair(path)):
            name = f"{frame.system}/{frame.frame}"
            energy = self._energy(frame, f"frame {index} of {path}")
            labels = Labels(energy=energy, forces=frame.forces)
            reason = labels.fault or too_large(frame.forces, self.max_force)
            if reason:
                yield Skipped(where=name, reason=reason)
                continue
            sample = Sample(
                numbers=frame.numbers,
                positions=frame.positions,
                cell=frame.cell,
                pbc=frame.pbc,
                energy=energy,
                forces=frame.forces,
                tags=frame.tags,
                fixed=frame.fixed,
                source=self.facts.name,
                group=frame.system,
                name=name,
            )
            yield Record(sample=sample, split=split)

    def _energy(self, frame: SlabFrame, where: str) -> float:
        if not self.is_adsorption:
            return frame.energy
        if frame.reference is None:
            raise DataError(
                f"{where} has no reference energy in its line; the adsorption energy "
                "is the total energy minus it"
            )
        return frame.energy - frame.reference


def open_oc20(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the one set of a folder.

    Args:
        source: Folder of pairs ``k.extxyz.xz`` and ``k.txt.xz``, such as
            ``s2ef_train_2M``, or a folder that holds several of them; or LMDB files.
        options: ``energy`` is ``total`` (default) or ``adsorption``; ``references``
            makes the adsorption energies of LMDB files total; ``variant`` is the size
            of the training part where there are several; ``split`` is the part of all
            frames, if the folders do not have their published names.

    Raises:
        ArgumentError: If a choice is not one of those allowed.
        DataError: If the files are not there or not complete.
    """
    if options.energy not in (None, *ENERGIES):
        raise ArgumentError(
            f"energy is {options.energy!r}; choose one of {', '.join(ENERGIES)}"
            + did_you_mean(str(options.energy), ENERGIES)
        )
    if not source.exists():
        raise DataError(f"there is no {source}; give {FAMILY.formats}")
    pairs = find_pairs(source) if source.is_dir() else []
    if not pairs:
        return [_open_lmdb(source, options)]
    if options.split is None:
        pairs = [path for path in pairs if published_part(path, source)[0]]
    return [
        PairSource(
            facts=_facts(options),
            folder=source,
            pairs=tuple(_of_size(pairs, source, options.variant)),
            split=options.split,
            is_adsorption=options.energy == "adsorption",
            max_force=options.max_force,
        )
    ]


def _of_size(pairs: list[Path], source: Path, size: str | None) -> list[Path]:
    """Leave out the training parts of other sizes, whose frames would count twice."""
    sizes = training_sizes(pairs, source)
    if size is None and len(sizes) > 1:
        raise ArgumentError(
            f"{source} holds training parts of several sizes, {', '.join(sizes)}; "
            "choose one of them (the smaller ones are parts of the larger)"
        )
    if size is not None and sizes and size not in sizes:
        raise ArgumentError(
            f"{source} has no training part of size {size!r}; it has "
            f"{', '.join(sizes)}" + did_you_mean(size, sizes)
        )
    others = {path for name, paths in sizes.items() if name != size for path in paths}
    return pairs if size is None else [path for path in pairs if path not in others]


def _open_lmdb(source: Path, options: FamilyOptions) -> LmdbSource:
    find_shards(source, FAMILY.formats)
    if options.references is None and options.energy is None:
        raise DataError(
            f"the LMDB files of OC20 in {source} do not say whether y is the "
            "adsorption energy (as usual) or the total energy; give the references "
            "that make it total, or choose energy 'adsorption' or 'total'"
        )
    if options.references is not None and options.energy == "adsorption":
        raise ArgumentError(
            "references make adsorption energies total; give them or choose energy "
            "'adsorption', not both"
        )
    return LmdbSource(
        facts=_facts(options),
        source=source,
        labels=LabelFields(energy=("y",), forces=("force", "forces")),
        split=options.split,
        references=options.references,
        max_force=options.max_force,
    )


def _facts(options: FamilyOptions) -> SetFacts:
    is_adsorption = options.energy == "adsorption"
    return SetFacts(
        name="oc20-adsorption" if is_adsorption else "oc20",
        title="OC20 S2EF" + (" (adsorption energies)" if is_adsorption else ""),
        domain="surface",
        level_of_theory="RPBE, VASP"
        + ("; relative to clean slab and gas" if is_adsorption else ""),
        licence="CC-BY-4.0",
        citation="Chanussot et al., ACS Catal. 11, 6059 (2021)",
        coverage="small adsorbates on metal and intermetallic surfaces",
    )


FAMILY = FamilyInfo(
    name="oc20",
    title="OC20 S2EF",
    open=open_oc20,
    downloads=tuple(
        Download(url=f"{_URL}/{name}", file=name, md5=md5) for name, md5 in _MD5.items()
    ),
    licence="CC-BY-4.0",
    formats="a folder of k.extxyz.xz and k.txt.xz pairs, or LMDB files",
    variants=SIZES,
    options=(
        "variant",
        "split",
        "energy",
        "references",
        "max_force",
    ),
)
"""OC20."""
