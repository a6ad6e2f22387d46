"""Molecules that jmp-nano was not trained on, and what GFN2-xTB says about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from jmp_calc import JMPCalculator
from jmp_calc.calculator.head_choice import known_elements
from jmp_calc.errors import JMPError
from jmp_calc.files import replace_text
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.side_by_side import Relaxed, relax_each
from jmp_calc.sim.vibrations.hessian import compute_hessian, find_modes
from jmp_train.data.conformers import conformers, connectivity, molecule_of, read_list
from jmp_train.data.molecule_split import split_of_molecules
from jmp_train.data.recipes.xtb import RECIPE, XTB

MODEL, METHOD = "jmp", "gfn2_xtb"
"""What belongs to which, in names of the result."""
RMD17 = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "azobenzene": r"c1ccc(/N=N/c2ccccc2)cc1",
    "benzene": "c1ccccc1",
    "ethanol": "CCO",
    "malonaldehyde": r"O=C/C=C\O",
    "naphthalene": "c1ccc2ccccc2c1",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "salicylic acid": "O=C(O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
"""Name -> SMILES of the molecules that are kept out of every set."""
HELD_OUT = (
    "the molecules of rMD17, which are in no set, and those that the hash of their "
    "connectivity puts into the test part of the sets xtb and xtb_reactions; sets of "
    "other heads may hold the latter"
)
ORDER = "by the SHA-256 of the canonical SMILES without stereochemistry"
SEED = 0
N_CONFORMERS = 3
"""Embedded by RDKit; the one of lowest MMFF94 energy is taken."""
START_SPREAD_A = 0.02
"""Normal displacement of the conformer before both methods relax it, angstrom: a
symmetric conformer is often a saddle point."""
RELAXATION = RelaxSettings(fmax_eV_per_A=0.002, steps=1000)
"""For both methods; tight, so that soft torsions have settled, too."""
DISPLACEMENT_A = 0.01
"""Of each atom, for second derivatives, angstrom."""
IMAGINARY_PER_CM = 30.0
"""Imaginary frequencies below this count as a minimum, 1/cm: of nearly free CH3,
forces a step away from there are within the limit of a relaxation."""
MOST_SADDLES = 4
"""How often a relaxation may end on a saddle point before it is given up."""
SADDLE_STEP_A = 0.2
"""Move of the atom that moves most away from a saddle point, angstrom."""
_OPTIMIZER = f"{RELAXATION.optimizer} {RELAXATION.fmax_eV_per_A} {RELAXATION.steps}"
RELAXED = f"relaxed {_OPTIMIZER}"
MINIMUM = (
    f"minimum {_OPTIMIZER} {DISPLACEMENT_A} {IMAGINARY_PER_CM} {MOST_SADDLES} "
    f"{SADDLE_STEP_A}"
)
"""What is kept of GFN2-xTB, with all that it depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Molecule:
    """One molecule and where its relaxations start."""

    smiles: str
    """Canonical, without stereochemistry."""
    start: Atoms
    """Lowest conformer of the force field, slightly displaced."""
    n_turning_bonds: int
    """By :func:`n_turning_bonds`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Plain data in a folder, computed only if it is not there."""

    folder: Path | None
    """Where; None: nothing is kept."""

    def get(self, what: str, atoms: Atoms, compute: Callable[[], Any]) -> Any:
        """Return what was kept for a geometry, or compute and keep it.

        Args:
            what: Its name, with all settings that it depends on.
            atoms: The geometry.
            compute: Returns data that JSON can hold.
        """
        if self.folder is None:
            return compute()
        made_with = f"{XTB.identity} {version('tblite')}"
        digest = hashlib.sha256(f"{what} {made_with}".encode())
        digest.update(atoms.numbers.tobytes() + atoms.positions.tobytes())
        path = self.folder / f"{what.split()[0]}-{digest.hexdigest()[:24]}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        found = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(found))
        return found


class Both:
    """Both calculators, and what the reference computed earlier.

    Args:
        model: Name or path of the model.
        head: One of its heads.
        kept: Where results of GFN2-xTB are kept.
    """

    def __init__(self, model: str, head: str, kept: Kept) -> None:
        self.head = head
        self.model = JMPCalculator(model, head=head, dtype="float64")
        self.xtb = XTB.build()
        self.kept = kept
        self.elements = known_elements(self.model.model, self.model.model.heads[head])

    def of(
        self, what: str, atoms: Atoms, compute: Callable[[Any], Any]
    ) -> dict[str, Any]:
        """Return what a function of the calculator gives, by method."""
        return {
            MODEL: compute(self.model),
            METHOD: self.kept.get(what, atoms, lambda: compute(self.xtb)),
        }


def was_trained_on(smiles: str, head: str) -> bool | None:
    """Return whether a molecule of the list is in the training part.

    Args:
        smiles: Any way to write it.
        head: Heads of other sets are not looked into: None.
    """
    if head not in ("xtb", "xtb_reactions"):
        return None
    group = connectivity(smiles)
    is_listed = any(connectivity(e.smiles) == group for e in read_list(RECIPE.smiles))
    return is_listed and split_of_molecules(group) == "train"


def held_out_smiles() -> list[str]:
    """Return the SMILES of all held-out molecules, ordered by a hash."""
    listed = [entry.smiles for entry in read_list(RECIPE.smiles)]
    test = [s for s in listed if split_of_molecules(connectivity(s)) == "test"]
    return sorted(
        [*RMD17.values(), *test],
        key=lambda smiles: hashlib.sha256(connectivity(smiles).encode()).hexdigest(),
    )


def n_turning_bonds(smiles: str) -> int:
    """Return how many bonds of a molecule can turn so that the geometry changes.

    These are single bonds outside of rings, those to OH and NH2 and of amides included.
    Three alike atoms (CH3, CF3) and what is linear (CN) turn into themselves.

    Args:
        smiles: The molecule.
    """
    from rdkit.Chem import BondType

    return sum(
        bond.GetBondType() == BondType.SINGLE
        and not bond.IsInRing()
        and all(
            _can_turn(atom, bond.GetOtherAtom(atom))
            for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
        )
        for bond in molecule_of(smiles).GetBonds()
    )


def _can_turn(atom: Any, other: Any) -> bool:
    """Return whether the half of a molecule behind an atom changes when it turns."""
    from rdkit.Chem import HybridizationType

    rest = [each for each in atom.GetNeighbors() if each.GetIdx() != other.GetIdx()]
    kinds = {(each.GetAtomicNum(), each.GetDegree()) for each in rest}
    is_threefold = len(rest) == 3 and len(kinds) == 1 and kinds.pop()[1] == 1
    is_linear = atom.GetHybridization() == HybridizationType.SP
    return bool(rest) and not is_threefold and not is_linear


def molecule_at_start(smiles: str) -> Molecule:
    """Return a molecule with the geometry that both methods relax."""
    start = next(conformers(smiles, N_CONFORMERS, seed=SEED))
    start = Atoms(start.numbers, start.positions)
    generator = np.random.default_rng(SEED)
    start.positions += generator.normal(scale=START_SPREAD_A, size=(len(start), 3))
    return Molecule(
        smiles=connectivity(smiles),
        start=start,
        n_turning_bonds=n_turning_bonds(smiles),
    )


def minimum(start: Atoms, calculator: Any) -> dict[str, Any] | None:
    """Return the minimum below a geometry, as plain data.

    From a saddle point it goes on along the mode that leads down.

    Args:
        start: Not changed.
        calculator: An ASE calculator.

    Returns:
        ``positions`` (angstrom) and ``frequencies_per_cm`` (ascending), or None if the
        relaxation does not converge or ends on saddle points again and again.
    """
    for _ in range(MOST_SADDLES + 1):
        (found,) = relax_each([start], RELAXATION, calculator, names=["molecule"])
        if not is_at_rest(found):
            return None
        atoms = found.atoms
        hessian = compute_hessian(atoms, calculator, displacement=DISPLACEMENT_A)
        modes = find_modes(atoms, hessian)
        waves = modes.vibrations_per_cm
        if waves.min() >= -IMAGINARY_PER_CM:
            return {
                "positions": atoms.positions.tolist(),
                "frequencies_per_cm": np.sort(waves).tolist(),
            }
        shape = modes.data.get_modes()[
            np.where(modes.is_rigid, np.inf, modes.frequencies_per_cm).argmin()
        ]
        start = Atoms(start.numbers, atoms.positions)
        start.positions += SADDLE_STEP_A * shape / np.linalg.norm(shape, axis=1).max()
    return None


def minimum_of_xtb(start: Atoms, both: Both) -> dict[str, Any] | None:
    """Return what :func:`minimum` gives with GFN2-xTB, perhaps kept from before."""
    return both.kept.get(MINIMUM, start, lambda: minimum(start, both.xtb))


def relaxed_by_xtb(start: Atoms, both: Both) -> np.ndarray | None:
    """Return where a relaxation with GFN2-xTB ends; None if it does not converge."""

    def compute() -> list[list[float]] | None:
        (found,) = relax_each([start], RELAXATION, both.xtb, names=["molecule"])
        return found.atoms.positions.tolist() if is_at_rest(found) else None

    positions = both.kept.get(RELAXED, start, compute)
    return None if positions is None else np.array(positions)


def needed_minimum_of_xtb(start: Atoms, both: Both) -> Atoms:
    """Return the minimum of GFN2-xTB of what cannot be done without."""
    found = minimum_of_xtb(start, both)
    if found is None:
        formula = start.get_chemical_formula()
        raise RuntimeError(f"GFN2-xTB found no minimum of {formula}")
    return Atoms(start.numbers, np.array(found["positions"]))


def is_at_rest(outcome: Relaxed | JMPError) -> bool:
    """Return whether a relaxation reached its goal."""
    return isinstance(outcome, Relaxed) and outcome.is_converged
