"""RDKit's force fields as an ASE calculator: cheap forces for molecules with SMILES.

MMFF94 where it has parameters for all atoms, else UFF. Molecules of a complex act on
each other. Give it as ``--calculator jmp_train.data.rdkit_force_field:force_field``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from jmp_calc.errors import DataError
from jmp_calc.units import KCAL_PER_MOL
from jmp_train.data.conformers import molecule_of, needing_rdkit
from jmp_train.data.kinds.geometry import SMILES

FAR = 100.0
"""Distance up to which atoms of one molecule or complex act on each other, Å."""


class ForceField(Calculator):
    """MMFF94, or UFF where that has no parameters."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE
        self._smiles: str | None = None
        self._field: Any = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy (eV) and forces (eV/Å).

        Args:
            atoms: A molecule with its SMILES in ``info``.
            properties: Both are computed whatever is asked.
            system_changes: As ASE gives them.

        Raises:
            DataError: If the structure has no SMILES, or other atoms than it says.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]  # ASE
        now: Any = self.atoms
        smiles = str(now.info.get(SMILES, ""))
        if not smiles:
            raise DataError(
                f"{now.get_chemical_formula()} has no {SMILES!r} in its info, from "
                "which the force field takes the bonds; start from 'jmp-train data "
                "conformers'"
            )
        if smiles != self._smiles or "numbers" in system_changes:
            self._field = _field_of(smiles, now)
            self._smiles = smiles
        flat = now.positions.ravel().tolist()
        # first the energy: it makes RDKit forget the distances of the positions before
        energy = float(self._field.CalcEnergy(flat))
        gradient = np.array(self._field.CalcGrad(flat)).reshape(-1, 3)
        self.results = {
            "energy": energy * KCAL_PER_MOL,
            "forces": -gradient * KCAL_PER_MOL,
        }


def _field_of(smiles: str, atoms: Atoms) -> Any:
    from rdkit.Chem import Conformer, rdForceFieldHelpers
    from rdkit.Geometry import Point3D
    from rdkit.rdBase import BlockLogs

    molecule = molecule_of(smiles)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    if numbers != atoms.numbers.tolist():
        raise DataError(
            f"the atoms of {atoms.get_chemical_formula()} are not those of its "
            f"{SMILES} {smiles!r}, in the order of 'jmp-train data conformers'"
        )
    shape = Conformer(len(numbers))
    for place, position in enumerate(atoms.positions.tolist()):
        shape.SetAtomPosition(place, Point3D(*position))
    molecule.AddConformer(shape, assignId=True)
    with BlockLogs():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(molecule)
        if properties is not None:
            return rdForceFieldHelpers.MMFFGetMoleculeForceField(
                molecule,
                properties,
                nonBondedThresh=FAR,
                ignoreInterfragInteractions=False,
            )
        if rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
            return rdForceFieldHelpers.UFFGetMoleculeForceField(
                molecule, vdwThresh=FAR, ignoreInterfragInteractions=False
            )
    raise DataError(f"neither MMFF94 nor UFF has parameters for {smiles!r}")


def force_field() -> ForceField:
    """Return the calculator.

    Raises:
        ArgumentError: If RDKit is not installed.
    """
    needing_rdkit()
    return ForceField()
