"""Published force sets, and a small crystal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase.io import read
from phonopy.file_IO import parse_FORCE_SETS

from jmp_calc.sim.phonons.crystal import build_phonopy
from jmp_calc.sim.phonons.force_constants import make_force_constants
from jmp_calc.sim.phonons.settings import PhononSettings

SHARED = Path(__file__).parents[5] / "shared" / "data" / "phonopy"


class Published:
    """A crystal with forces from DFT, and what phonopy made of them."""

    def __init__(self, name: str) -> None:
        if not (SHARED / name).is_dir():
            pytest.skip("the published force sets are not here")
        self.folder = SHARED / name
        self.atoms = read(self.folder / "POSCAR-unitcell", format="vasp")
        text = (self.folder / "reference_phonons.json").read_text()
        self.reference = json.loads(text)

    @property
    def settings(self) -> PhononSettings:
        rows = self.reference["supercell_matrix"]
        return PhononSettings(supercell=" ".join(str(n) for row in rows for n in row))

    def phonon(self):
        settings = self.settings
        phonon = build_phonopy(self.atoms, settings.supercell_matrix, settings)
        phonon.dataset = parse_FORCE_SETS(filename=self.folder / "FORCE_SETS")
        make_force_constants(phonon)
        return phonon


@pytest.fixture
def published():
    return Published
