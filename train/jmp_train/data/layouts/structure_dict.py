"""Structures as pymatgen writes them to JSON -> arrays; pymatgen is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample

_ISOTOPES = {"D": 1, "T": 1}


def crystal_sample(
    structure: Any,
    where: str,
    *,
    source: str,
    group: str,
    name: str,
    targets: Mapping[str, float],
    energy: float | None = None,
) -> Sample:
    """Return the sample of a structure; all tags are 2, as in the published sets.

    Args:
        structure: Content of ``Structure.as_dict()``.
        where: File and record, for errors.
        source: Name of the set.
        group: What must not be split.
        name: What the set calls the system.
        targets: Labels by name.
        energy: Total energy, eV, or None.

    Raises:
        DataError: If a site is not one whole atom, or something is missing.
    """
    try:
        lattice = structure["lattice"]
        cell = np.array(lattice["matrix"], dtype=np.float64).reshape(3, 3)
        pbc = np.array(lattice.get("pbc", (True, True, True)), dtype=bool)
        sites = structure["sites"]
        numbers = [_number(site, index, where) for index, site in enumerate(sites)]
        positions = np.array([_position(site, cell) for site in sites])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where}: not a structure as pymatgen writes it "
            f"({type(error).__name__}: {error})"
        ) from None
    return Sample(
        numbers=np.array(numbers, dtype=np.int64),
        positions=positions.reshape(-1, 3),
        cell=cell,
        pbc=pbc,
        energy=energy,
        forces=None,
        targets=dict(targets),
        # Tag 2 for all atoms, so that no quadruplet edge is dropped (specification, 3).
        tags=np.full(len(numbers), 2, dtype=np.int64),
        fixed=np.zeros(len(numbers), dtype=bool),
        source=source,
        group=group,
        name=name,
    )


def _number(site: Mapping[str, Any], index: int, where: str) -> int:
    species = site["species"]
    is_whole = len(species) == 1 and abs(float(species[0].get("occu", 1)) - 1) < 1e-6
    if not is_whole:
        held = ", ".join(f"{s.get('element')} {s.get('occu', 1)}" for s in species)
        raise DataError(
            f"{where}: site {index} holds {held or 'nothing'}; only sites that one "
            "element occupies fully can be used, so remove the entry from the file"
        )
    symbol = str(species[0]["element"])
    number = _ISOTOPES.get(symbol) or atomic_numbers.get(symbol, 0)
    if number == 0:
        raise DataError(f"{where}: site {index} is of the unknown element {symbol!r}")
    return number


def _position(site: Mapping[str, Any], cell: np.ndarray) -> np.ndarray:
    if "xyz" in site:
        return np.array(site["xyz"], dtype=np.float64)
    return np.asarray(np.array(site["abc"], dtype=np.float64) @ cell)
