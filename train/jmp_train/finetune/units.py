"""Labels in other units than eV and Å, or of the wrong sign, as heads see them."""

from __future__ import annotations

import torch

from jmp_calc.models.jmp import JMPModel
from jmp_calc.units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from jmp_train.data.store import Store
from jmp_train.finetune.zero_shot import N_SCORED, HeadScore, dataset_of
from jmp_train.labels import FREE_ATOMS_HARTREE
from jmp_train.metrics import choose_samples
from jmp_train.metrics.evaluate import predictions

FREE_ATOMS = {1: -0.5, **FREE_ATOMS_HARTREE}
"""All-electron energies of free atoms, hartree."""
ENERGY_UNITS = {
    "hartree": 1.0,
    "kcal/mol": HARTREE / KCAL_PER_MOL,
    "kJ/mol": HARTREE / KJ_PER_MOL,
}
"""Units that are not eV, per hartree."""
SAME_ENERGY = 0.03
"""Binding changes a total energy by less than this fraction."""
FORCE_RATIO = 8.0
"""Forces that are so many times those of a head, or so many times smaller, are in
another unit: 1 eV/Å is 23.06 kcal/(mol Å), 0.0367 hartree/Å, 0.0194 hartree/bohr."""
ALIKE = 0.7
"""Cosine between forces and those of a head from which their ratio means something."""


def unit_doubts(
    store: Store,
    source: JMPModel | None,
    scores: tuple[HeadScore, ...],
    *,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Return what makes the units of labels doubtful, as sentences.

    Statistics of a set do not show the unit where all systems have one composition, or
    where forces alone are labels; these comparisons do.

    Args:
        store: Training systems.
        source: Trained weights, on that device; None: from scratch.
        scores: Heads that were compared on the forces, the best first.
        device: Where to compute.
    """
    found = []
    unit = _energy_unit(store)
    if unit is not None:
        found.append(f"total energies are those of free atoms in {unit}")
    for score in scores if source is not None else ():
        ratio = _force_ratio(source, store, score.name, device=device)
        if ratio is None:
            continue
        if ratio < 0:
            found.append(
                f"forces point against those of head {score.name!r}, as gradients do"
            )
        elif not 1 / FORCE_RATIO < ratio < FORCE_RATIO:
            found.append(f"forces are {ratio:.3g} times those of head {score.name!r}")
        break
    advice = "check that the labels were in eV and eV/Å, or convert them"
    return [f"{text}; {advice}" for text in found]


def _energy_unit(store: Store) -> str | None:
    """Return the unit in which all of some energies are those of their free atoms."""
    ratios = []
    for place in range(min(len(store), N_SCORED)):
        sample = store[place]
        numbers = sample.numbers.tolist()
        if sample.energy is not None and set(numbers) <= set(FREE_ATOMS):
            ratios.append(sample.energy / sum(FREE_ATOMS[z] for z in numbers))
    for unit, factor in ENERGY_UNITS.items():
        if ratios and all(abs(r / factor - 1) < SAME_ENERGY for r in ratios):
            return unit
    return None


def _force_ratio(
    source: JMPModel | None, store: Store, head: str, *, device: torch.device | str
) -> float | None:
    """Return the factor from a head's forces to the labels; None: they are unlike."""
    assert source is not None
    dataset = dataset_of(store, source.heads[head])
    both = of_head = of_label = 0.0
    for batch, prediction in predictions(
        source,
        dataset,
        choose_samples(dataset, N_SCORED),
        forces="gradient",
        device=device,
    ):
        assert prediction.forces is not None
        is_known = batch.has_forces[batch.graph.system_index]
        label = batch.forces[is_known].double()
        mine = prediction.forces[is_known].double()
        both += float((label * mine).sum())
        of_head += float(mine.square().sum())
        of_label += float(label.square().sum())
    if abs(both) <= ALIKE * (of_head * of_label) ** 0.5:
        return None
    return both / of_head
