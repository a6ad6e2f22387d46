"""OC22 S2EF-Total: adsorbates on oxide surfaces, as LMDB of torch-geometric objects."""

from __future__ import annotations

from pathlib import Path

from jmp_calc.errors import DataError
from jmp_train.data.families.foreign_lmdb import LabelFields, LmdbSource
from jmp_train.data.layouts.pyg_lmdb import find_shards
from jmp_train.data.source import (
    Download,
    FamilyInfo,
    FamilyOptions,
    SetFacts,
    Source,
)

_FILE = "s2ef_total_train_val_test_lmdbs.tar.gz"


def open_oc22(source: Path, options: FamilyOptions) -> list[Source]:
    """Return the one set of a folder.

    The part of a system is that of its folder: ``train`` trains, ``val_id`` validates,
    ``val_ood`` tests; ``test_id`` and ``test_ood`` have no labels and are passed over.

    Args:
        source: The unpacked folder, one of the folders in it, or a file.
        options: ``split`` is the part of all systems, if the folders do not have their
            published names.

    Raises:
        DataError: If there are no LMDB files.
    """
    if not source.exists():
        raise DataError(f"there is no {source}; give {FAMILY.formats}")
    find_shards(source, FAMILY.formats)
    return [
        LmdbSource(
            facts=SetFacts(
                name="oc22",
                title="OC22 S2EF-Total",
                domain="surface",
                level_of_theory="PBE+U, VASP",
                licence="CC-BY-4.0",
                citation="Tran et al., ACS Catal. 13, 3066 (2023)",
                coverage="small adsorbates on oxide surfaces",
            ),
            source=source,
            # Some records lack y and hold the energy of the relaxed system only.
            labels=LabelFields(energy=("y", "y_relaxed"), forces=("force", "forces")),
            split=options.split,
            max_force=options.max_force,
        )
    ]


FAMILY = FamilyInfo(
    name="oc22",
    title="OC22 S2EF-Total",
    open=open_oc22,
    downloads=(
        Download(
            url=f"https://dl.fbaipublicfiles.com/opencatalystproject/data/oc22/{_FILE}",
            file=_FILE,
            md5="ebea523c6f8d61248a37b4dd660b11e6",
        ),
    ),
    licence="CC-BY-4.0",
    formats="the folder s2ef-total of LMDB files, or one of those in it",
    variants=(),
    options=(
        "split",
        "max_force",
    ),
)
"""OC22."""
