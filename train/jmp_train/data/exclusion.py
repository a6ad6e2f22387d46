"""No test data in training: the molecules of rMD17 are kept out of every set."""

from __future__ import annotations

from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from jmp_train.data.bonds import closer_than
from jmp_train.data.sample import Sample, hill_formula

EXCLUDED_FORMULAS: dict[str, str] = {
    "C9H8O4": "aspirin",
    "C12H10N2": "azobenzene",
    "C6H6": "benzene",
    "C2H6O": "ethanol",
    "C3H4O2": "malonaldehyde",
    "C10H8": "naphthalene",
    "C8H9NO2": "paracetamol",
    "C7H6O3": "salicylic acid",
    "C7H8": "toluene",
    "C4H4N2O2": "uracil",
}
"""Formula (Hill order) -> molecule of rMD17; isomers go with it."""

BOND_FACTORS = (1.0, 1.2, 1.4)
"""Atoms are bonded within these multiples of the sum of their covalent radii; several,
so that neither a stretched bond nor a short contact hides a molecule."""


def excluded_molecule(sample: Sample) -> str | None:
    """Return the rMD17 molecule that a sample holds, or None.

    Looked at are the whole molecule, its bonded fragments (a dimer of benzene holds
    benzene) and, on a slab, the adsorbate.

    Args:
        sample: Any sample.
    """
    for formula in sorted(_formulas(sample)):
        if formula in EXCLUDED_FORMULAS:
            return EXCLUDED_FORMULAS[formula]
    return None


def _formulas(sample: Sample) -> set[str]:
    if sample.is_periodic:
        adsorbate = sample.numbers[sample.tags == 2]
        return {hill_formula(adsorbate)} if len(adsorbate) else set()
    found = {hill_formula(sample.numbers)}
    for is_bond in closer_than(sample, *BOND_FACTORS):
        # as sparse: connected_components spends much longer on a dense matrix
        n_fragments, fragment = connected_components(csr_array(is_bond), directed=False)
        if n_fragments > 1:
            found.update(
                hill_formula(sample.numbers[fragment == index])
                for index in range(n_fragments)
            )
    return found


def exclusion_reason(molecule: str) -> str:
    """Return why a sample is left out, in words for a report.

    Args:
        molecule: What :func:`excluded_molecule` returned.
    """
    return f"holds {molecule}, a molecule of rMD17"
