"""Sentences on what to be aware of when a head is used for a structure."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms
from jaxtyping import Int

from jmp_calc.calculator.head_choice import HeadChoice
from jmp_calc.graph.build import dropped_neighbors
from jmp_calc.graph.rules import GraphRules


def summary(choice: HeadChoice) -> str:
    """Return head, level of theory and force kind in one line.

    Args:
        choice: The head.
    """
    return (
        f"head {choice.spec.name!r} ({choice.spec.level_of_theory}) "
        f"{'chosen by default' if choice.is_automatic else 'as asked for'}, "
        f"{choice.forces} forces "
        f"({'conservative' if choice.is_conservative else 'not conservative'})"
    )


def choice_facts(
    atoms: Atoms, choice: HeadChoice, tags: Int[np.ndarray, " atoms"] | None
) -> dict[str, Any]:
    """Return what a head means for a structure; see ``JMPCalculator.describe``.

    Args:
        atoms: The structure.
        choice: Its head.
        tags: Its tags; None: 2 throughout.
    """
    return {
        "head": choice.spec.name,
        "level_of_theory": choice.spec.level_of_theory,
        "forces": choice.forces,
        "is_conservative": choice.is_conservative,
        "neighbor_cap": neighbor_cap(atoms, choice.spec.graph),
        "notes": head_notes(atoms, choice, tags),
    }


def neighbor_cap(atoms: Atoms, rules: GraphRules) -> str | None:
    """Return which hard limits of neighbors cut edges of a structure, or None.

    None means that no edge within a cutoff is left out: the rules have no limit
    (smooth), or nobody has that many neighbors.

    Args:
        atoms: The structure.
        rules: Of a head.

    Source:
        GemNet-OC specification, sections 2.5 and Q2 (ties at the limit).
    """
    limits = rules.neighbor_limits(len(atoms))
    if limits is None:
        return None
    active = [
        f"{name} (nearest {limits[name]}, {count} edges left out)"
        for name, count in dropped_neighbors(atoms, rules).items()
        if count
    ]
    return ", ".join(active) or None


def head_notes(
    atoms: Atoms, choice: HeadChoice, tags: Int[np.ndarray, " atoms"] | None
) -> list[str]:
    """Return what a user of a head should know, most important first.

    Args:
        atoms: The structure.
        choice: Its head.
        tags: Its tags; None: 2 throughout.
    """
    return [
        *_force_notes(atoms, choice),
        *domain_notes(atoms, choice),
        *_energy_notes(choice),
        *_rule_notes(atoms, choice, tags),
        *(
            [f"atoms.info has {ignored}, which JMP models do not know"]
            if (ignored := charge_and_spin(atoms))
            else []
        ),
    ]


def charge_and_spin(atoms: Atoms) -> str:
    """Return the charge and spin in ``atoms.info`` that are not trivial, or "".

    Args:
        atoms: The structure.
    """
    limits = {"charge": 0, "spin": 1, "spin_multiplicity": 1}
    return " and ".join(
        f"{key} {atoms.info[key]}"
        for key, trivial in limits.items()
        if key in atoms.info and not _is_trivial(atoms.info[key], trivial)
    )


def warn_ignored(atoms: Atoms) -> bool:
    """Warn of charge and spin, which models do not know; return whether there are any.

    Args:
        atoms: The structure.
    """
    ignored = charge_and_spin(atoms)
    if ignored:
        warnings.warn(
            f"atoms.info has {ignored}, which JMP models do not know: the result "
            "is what similar training structures would have",
            stacklevel=3,
        )
    return bool(ignored)


def _is_trivial(value: Any, trivial: int) -> bool:
    if value is None:
        return True
    if not isinstance(value, (Real, np.bool_)):
        return False
    # A multiplicity of 0 is what some write for "not stated".
    return bool(value == 0 or value == trivial)


def _force_notes(atoms: Atoms, choice: HeadChoice) -> Iterator[str]:
    spec = choice.spec
    if choice.forces == "direct":
        yield (
            "direct forces are not the gradient of the energy: energy is not conserved"
        )
        if atoms.pbc.all():
            yield (
                "stress is the derivative of the energy and does not match these forces"
            )
    if spec.forces is None:
        yield (
            f"head {spec.name!r} was trained on energies only; its forces are their "
            "derivatives"
        )
    elif choice.forces != spec.forces:
        yield (
            f"head {spec.name!r} was trained for {spec.forces} forces; its "
            f"{choice.forces} forces are untrained"
        )


def domain_notes(atoms: Atoms, choice: HeadChoice) -> Iterator[str]:
    """Yield what a head was trained on, and where the structure differs from that.

    Args:
        atoms: The structure.
        choice: Its head.
    """
    spec = choice.spec
    if spec.coverage:
        yield f"head {spec.name!r} was trained on {spec.coverage}"
    if not spec.elements:
        yield (
            f"the weights do not say which elements head {spec.name!r} was trained on: "
            "make sure that it has seen those of the structure"
        )
    if choice.kind != spec.domain:
        yield (
            f"the structure is a {choice.kind} and head {spec.name!r} was trained on "
            f"the domain {spec.domain!r}"
        )
    if choice.is_automatic and choice.others:
        yield (
            f"head {spec.name!r} is the default for this structure; also possible: "
            f"head={' or '.join(repr(name) for name in choice.others)}"
        )
    rules = spec.graph
    if rules.is_periodic is False and atoms.pbc.any():
        yield (
            f"head {spec.name!r} ignores periodicity; the images are beyond its cutoff "
            "at the start"
        )
    if rules.is_periodic and rules.rules == "published" and not atoms.pbc.all():
        yield (
            f"head {spec.name!r} is periodic in all three directions, although "
            f"atoms.pbc is {atoms.pbc.tolist()}"
        )


def _energy_notes(choice: HeadChoice) -> Iterator[str]:
    if choice.spec.references is None:
        yield (
            f"head {choice.spec.name!r} has no element references: energies are "
            "relative and can be compared at equal composition only"
        )


def _rule_notes(
    atoms: Atoms, choice: HeadChoice, tags: Int[np.ndarray, " atoms"] | None
) -> Iterator[str]:
    rules = choice.spec.graph
    if tags is not None and rules.quadruplet_tags is not None:
        count = np.bincount(tags, minlength=3)
        if count[2] < len(atoms):
            yield (
                f"tags: {count[0]} sub-surface (0), {count[1]} surface (1), {count[2]} "
                "adsorbate or other (2) atoms"
            )
    if rules.neighbor_limits(len(atoms)) is None:
        return
    yield (
        "published graph rules: the energy jumps where atoms enter a cutoff or change "
        "rank; neighbour caps active at the start: "
        f"{neighbor_cap(atoms, rules) or 'none'}"
    )
