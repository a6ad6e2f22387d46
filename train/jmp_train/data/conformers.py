"""Lists of SMILES -> molecules in three dimensions, with RDKit.

A list has one SMILES a line; ``#`` begins a comment, ``# category: NAME`` says what
follows, and words behind the SMILES are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.kinds.geometry import SMILES

_CATEGORY = "# category:"
_MOST_STEPS = 2000
_NO_STEREO = False
_AS_TEXT = {"F": "[H]F"}  # extended XYZ reads a lone F as "false"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One molecule of a list."""

    smiles: str
    """As it is written."""
    category: str
    """Of the last line that names one; empty: none."""


def read_list(path: Path) -> list[Entry]:
    """Return the molecules of a list.

    Args:
        path: Text file.

    Raises:
        DataError: If it cannot be read or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of SMILES: {error}") from None
    found, category = [], ""
    for line in lines:
        if line.startswith(_CATEGORY):
            category = line.removeprefix(_CATEGORY).strip()
        elif line.strip() and not line.startswith("#"):
            found.append(Entry(smiles=line.split()[0], category=category))
    if not found:
        raise DataError(f"{path} holds no SMILES; write one a line")
    return found


def needing_rdkit() -> None:
    """Check that RDKit is there.

    Raises:
        ArgumentError: If it is not installed.
    """
    try:
        import rdkit  # noqa: F401
    except ModuleNotFoundError as error:
        raise ArgumentError(
            "rdkit is not installed; run: pip install 'jmp-calc[rdkit]'"
        ) from error


def molecule_of(smiles: str) -> Any:
    """Return the RDKit molecule of a SMILES with its hydrogens, without coordinates.

    Molecules of a complex (between dots) stand one behind the other, the hydrogens of
    each behind its other atoms.

    Args:
        smiles: Neutral molecules.

    Raises:
        DataError: If RDKit cannot read it, or a molecule is charged or has unpaired
            electrons.
    """
    needing_rdkit()
    from rdkit import Chem
    from rdkit.rdBase import BlockLogs

    whole: Any = None
    for part in smiles.split("."):
        with BlockLogs():
            found = Chem.MolFromSmiles(part)
        if found is None:
            raise DataError(f"RDKit cannot read the SMILES {part!r}")
        charge = Chem.GetFormalCharge(found)
        n_unpaired = sum(atom.GetNumRadicalElectrons() for atom in found.GetAtoms())
        if charge or n_unpaired:
            raise DataError(
                f"{part!r} has charge {charge} and {n_unpaired} unpaired electrons; "
                "only neutral molecules with closed shells are made"
            )
        found = Chem.AddHs(found)
        whole = found if whole is None else Chem.CombineMols(whole, found)
    Chem.SanitizeMol(whole)
    return whole


def connectivity(smiles: str) -> str:
    """Return the canonical SMILES of a molecule or complex without stereochemistry.

    It is the same for all ways to write a molecule, and for all its conformers.

    Args:
        smiles: One molecule, or several between dots.

    Raises:
        DataError: If RDKit cannot read it.
    """
    from rdkit import Chem

    plain = Chem.RemoveHs(molecule_of(smiles))
    found = str(Chem.MolToSmiles(plain, isomericSmiles=_NO_STEREO))
    return _AS_TEXT.get(found, found)


def conformers(smiles: str, n: int, *, seed: int) -> Iterator[Atoms]:
    """Yield conformers of a molecule (ETKDG, then MMFF94 or UFF), the lowest first.

    Copies of one (within 0.1 Å) are left out, so that there may be fewer than n.

    Args:
        smiles: A neutral molecule.
        n: How many are embedded.
        seed: Seed of the random numbers.

    Raises:
        DataError: If RDKit cannot read, embed or minimise it.
    """
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    from rdkit.rdBase import BlockLogs

    smiles = _AS_TEXT.get(smiles, smiles)
    molecule = molecule_of(smiles)
    group = connectivity(smiles)
    choices: Any = rdDistGeom.ETKDGv3()
    choices.randomSeed = seed
    choices.pruneRmsThresh = 0.1
    with BlockLogs():
        places = list(rdDistGeom.EmbedMultipleConfs(molecule, n, choices))
        if not places:
            raise DataError(f"RDKit finds no geometry of {smiles!r}")
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
            minimise: Any = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
            minimise = rdForceFieldHelpers.UFFOptimizeMoleculeConfs
        else:
            raise DataError(f"neither MMFF94 nor UFF has parameters for {smiles!r}")
        ends = minimise(molecule, maxIters=_MOST_STEPS)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    energies = [energy for _, energy in ends]
    for rank, place in enumerate(np.argsort(energies, kind="stable").tolist()):
        positions = np.array(molecule.GetConformer(places[place]).GetPositions())
        atoms = Atoms(numbers, positions, info={SMILES: smiles, "group": group})
        if rank == 0:
            atoms.info["is_lowest"] = True
        yield atoms
