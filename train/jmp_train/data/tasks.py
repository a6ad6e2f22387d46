"""The tasks of jmp-nano: data sets of one level of theory share a head.

``TASKS`` learn from published data sets, ``MADE_TASKS`` from what a recipe makes
(``jmp-train data make``).

Not a task: the relaxed crystals of ``wbm_equilibrium``. They have no forces, so that a
head would offer dynamics that nothing was learned for, and PBE and PBE+U are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.models.config import Domain


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskInfo:
    """One head: which sets it learns from and what it is for."""

    name: str
    """Key in ``TASKS`` and name of the head."""
    datasets: tuple[str, ...]
    """Keys of ``DATASETS``; all have one level of theory. Empty: the data are made."""
    domain: Domain
    """Kind of structure."""
    level_of_theory: str
    """Method of the labels."""
    coverage: str
    """What the data cover, in words that complete "was trained on"."""
    licence: str
    """Licences of the data that shape the head."""
    is_default: bool = False
    """Preferred when several heads cover a structure."""


TASKS: dict[str, TaskInfo] = {
    "qm7x": TaskInfo(
        name="qm7x",
        datasets=("qm7x",),
        domain="molecule",
        level_of_theory="PBE0+MBD",
        coverage=(
            "single molecules of 4 to 23 atoms; "
            "contacts between molecules are extrapolated"
        ),
        licence="MIT (QM7-X: CC-BY-4.0)",
    ),
    "wb97x": TaskInfo(
        name="wb97x",
        datasets=("threebpa", "ani1x", "ani2x_diatomics", "s66x8"),
        domain="molecule",
        level_of_theory="ωB97X/6-31G(d)",
        coverage=(
            "a few molecules and dimers of small ones; "
            "clusters and liquids are extrapolated"
        ),
        licence="MIT",
    ),
    "oc20": TaskInfo(
        name="oc20",
        datasets=("oc20_relaxations",),
        domain="surface",
        level_of_theory="RPBE, VASP",
        coverage=(
            "16 relaxations of adsorbates on slabs; other surfaces are extrapolated"
        ),
        licence="MIT (OC20: CC-BY-4.0)",
    ),
    "pbe": TaskInfo(
        name="pbe",
        datasets=("mlearn", "bo2_oxides"),
        domain="bulk",
        level_of_theory="PBE, VASP",
        coverage=(
            "crystals of Si, Mo, Cu and four BO2 oxides; other phases are extrapolated"
        ),
        licence="BSD-3-Clause and MIT",
    ),
    "acac": TaskInfo(
        name="acac",
        datasets=("acac",),
        domain="molecule",
        level_of_theory="UHF PBE-D3/def2-SVP",
        coverage=(
            "dynamics of acetylacetone at 300 K and the transfer of its proton; other "
            "molecules are extrapolated"
        ),
        licence="MIT",
    ),
}
"""Tasks that learn from published sets, by name, in the order of the heads."""

MADE_TASKS: dict[str, TaskInfo] = {
    "xtb": TaskInfo(
        name="xtb",
        datasets=(),
        domain="molecule",
        level_of_theory="GFN2-xTB",
        coverage=(
            "neutral closed-shell molecules of H, C, N, O, F, S, Cl and P with up to "
            "19 heavy atoms, their complexes and clusters of up to 63 atoms, at rest, "
            "hot, stretched and in close contact; ions and radicals are not covered"
        ),
        licence="MIT (made with this project)",
        is_default=True,
    ),
    "xtb_reactions": TaskInfo(
        name="xtb_reactions",
        datasets=(),
        domain="molecule",
        level_of_theory="GFN2-xTB",
        coverage=(
            "paths of reactions that break and make bonds of molecules of up to 17 "
            "atoms"
        ),
        licence="MIT (made with this project)",
    ),
}
"""Tasks whose data are made, by name."""
