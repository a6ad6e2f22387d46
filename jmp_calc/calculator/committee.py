"""Committee: the mean of several models, and how far they are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from jaxtyping import Float

from jmp_calc.calculator.memory import Memory, require_list
from jmp_calc.errors import ArgumentError, UnsupportedSystemError

MEANS = ("energy", "free_energy", "forces", "stress")
"""What the models are averaged over."""
SPREADS = ("energy_std", "forces_std")
"""What tells how far they are apart."""


class Committee(Calculator):
    """Mean of several models as an ASE calculator, with the spread between them.

    ``results`` have ``energy_std`` (eV) and ``forces_std`` (eV/angstrom, for each
    component, atoms x 3) next to ``energy`` and ``forces``: sample standard deviations,
    with one degree of freedom taken by the mean. The mean of gradient forces is the
    gradient of the mean energy.

    The spread shows where models that learned from the same data disagree. It is no
    error bar: what all of them get wrong alike does not show.

    Args:
        members: ASE calculators, two or more, such as ``JMPCalculator``; of one level
            of theory.

    Raises:
        ArgumentError: If there are fewer than two; at the first structure, if two are
            the same head of the same weights.

    Source:
        Schran, Brezina and Marsalek, J. Chem. Phys. 153, 104105 (2020), section II.
    """

    implemented_properties = [*MEANS, *SPREADS]  # noqa: RUF012 (ASE's)

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # ASE
        if len(members) < 2:
            raise ArgumentError(
                f"a committee of {len(members)} has no spread; give two models or more"
            )
        self.members = tuple(members)
        self._checked: Memory[bool] = Memory()
        self._agreed: set[tuple[Any, ...]] = set()

    @property
    def force_spread(self) -> float:
        """Largest spread of the force on an atom in the last calculation.

        The length of the three standard deviations of an atom's force, eV/angstrom.
        """
        return largest_spread(self.results["forces_std"])

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute mean and spread into ``results``; called by ASE.

        Energy, forces and their spread are always computed, the stress where asked for.

        Args:
            atoms: The structure; None: the last one.
            properties: Names of ``implemented_properties``.
            system_changes: What has changed; not used.

        Raises:
            UnsupportedSystemError: If a model cannot be used for the structure, or the
                models are of different levels of theory.
        """
        super().calculate(  # type: ignore[no-untyped-call]  # ASE
            atoms, list(properties), list(system_changes)
        )
        # the object that moves, not a copy: members keep what they decided about it
        system = self.atoms if atoms is None else atoms
        assert system is not None
        if self._checked.find(system) is None:
            self._check_agreement(system)
            self._checked.keep(system, True)
        # what gives the others as well comes first
        names = ["stress"] if "stress" in properties else []
        names += ["forces", "energy"]
        self.results = combined([_one(m, system, names) for m in self.members])

    def evaluate(
        self,
        list_of_atoms: Iterable[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
    ) -> list[dict[str, Any]]:
        """Compute many structures, each model a batch at a time.

        Args:
            list_of_atoms: Structures, of any kinds; any iterable.
            properties: Names of ``implemented_properties``.

        Returns:
            One dictionary per structure with the properties and the spreads, and what
            the first model tells besides (such as the name of its ``head``).

        Raises:
            ArgumentError: If there is no list of structures.
            UnsupportedSystemError: As for :meth:`calculate`.
        """
        require_list(list_of_atoms, "evaluate")
        frames = list(list_of_atoms)
        wanted = {"energy", *properties, *(n[:-4] for n in properties if n in SPREADS)}
        names = [name for name in ("stress", "forces", "energy") if name in wanted]
        of_member = [_evaluated(member, frames, names) for member in self.members]
        results = []
        for atoms, *found in zip(frames, *of_member, strict=True):
            heads = tuple((one.get("head"), one.get("force_kind")) for one in found)
            if heads not in self._agreed:
                self._check_agreement(atoms)
                self._agreed.add(heads)
            rest = {key: found[0][key] for key in found[0] if key not in MEANS}
            if "head" in rest:
                rest["head"] = _joined(one["head"] for one in found)
            if "is_conservative" in rest:
                rest["is_conservative"] = all(one["is_conservative"] for one in found)
            results.append({**rest, **combined([_only(one, names) for one in found])})
        return results

    def meet(self, list_of_atoms: Iterable[Atoms]) -> list[Any]:
        """Let models decide about structures; see ``JMPCalculator.meet``.

        Args:
            list_of_atoms: Structures.
        """
        frames = list(list_of_atoms)
        found = [m.meet(frames) for m in self.members if hasattr(m, "meet")]
        return [[decided[n] for decided in found] for n in range(len(frames))]

    def describe(self, atoms: Atoms) -> dict[str, Any]:
        """Return what a structure is computed with, as ``JMPCalculator.describe``.

        Args:
            atoms: The structure.

        Returns:
            The facts of the first model, with those that concern all: ``model`` and
            ``weights_sha256`` joined, ``is_conservative`` if all are, and ``notes``.

        Raises:
            ArgumentError: If two models are the same head of the same weights.
            UnsupportedSystemError: If a model cannot be used for the structure, or the
                models are of different levels of theory or kinds of forces.
        """
        told = [member.describe(atoms) for member in self.members]
        self._check_different(told)
        for key, what in _ALIKE.items():
            kinds = list(dict.fromkeys(str(one[key]) for one in told))
            if len(kinds) > 1:
                raise UnsupportedSystemError(
                    f"the models of a committee must agree in {what}, and these have "
                    f"{', '.join(kinds)}; name the head, or leave a model out"
                )
        caps = [one["neighbor_cap"] for one in told if one.get("neighbor_cap")]
        spread = (
            f"mean of {len(told)} models; the spread between them is no error bar: "
            "what all get wrong alike does not show"
        )
        notes = [spread, *(note for one in told for note in one["notes"])]
        return {
            **told[0],
            "model": " + ".join(Path(one["model"]).name for one in told),
            "head": _joined(one["head"] for one in told),
            "is_conservative": all(one["is_conservative"] for one in told),
            "neighbor_cap": caps[0] if caps else None,
            "weights_sha256": "+".join(str(one["weights_sha256"]) for one in told),
            "notes": list(dict.fromkeys(notes)),
        }

    def set_atoms(self, atoms: Atoms) -> None:
        """Let each model forget earlier structures; called by ``atoms.calc =``.

        Args:
            atoms: The structure that the calculator is attached to.
        """
        for member in self.members:
            if hasattr(member, "set_atoms"):
                member.set_atoms(atoms)

    def _check_agreement(self, atoms: Atoms) -> None:
        """Check that the models mean the same energy of a structure."""
        if all(hasattr(member, "describe") for member in self.members):
            self.describe(atoms)

    def _check_different(self, told: Sequence[dict[str, Any]]) -> None:
        seen: set[tuple[Any, Any]] = set()
        for one in told:
            weights, head = one.get("weights_sha256"), one.get("head")
            if weights is not None and (weights, head) in seen:
                raise ArgumentError(
                    f"{one['model']} is twice in the committee (head {head!r} of the "
                    "same weights), and a model does not disagree with itself; give "
                    "models that were trained separately"
                )
            seen.add((weights, head))


_ALIKE = {"level_of_theory": "level of theory", "forces": "kind of forces"}


def _joined(names: Iterable[Any]) -> str:
    return " + ".join(dict.fromkeys(str(name) for name in names))


def _one(member: Any, atoms: Atoms, names: Sequence[str]) -> dict[str, Any]:
    return {name: member.get_property(name, atoms) for name in names}


def _only(found: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: found[name] for name in names}


def _evaluated(
    member: Any, frames: Sequence[Atoms], names: Sequence[str]
) -> list[dict[str, Any]]:
    if hasattr(member, "evaluate"):
        found: list[dict[str, Any]] = member.evaluate(frames, names)
        return found
    return [_one(member, atoms, names) for atoms in frames]


def combined(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means and spreads of what models say about one structure.

    Args:
        found: Results of each model, all of the same kinds; energy among them.
    """
    stacked = {name: np.array([one[name] for one in found]) for name in found[0]}
    results: dict[str, Any] = {
        name: values.mean(axis=0) for name, values in stacked.items()
    }
    results["energy"] = float(results["energy"])
    results["free_energy"] = results["energy"]
    results["energy_std"] = float(stacked["energy"].std(ddof=1))
    if "forces" in stacked:
        results["forces_std"] = stacked["forces"].std(axis=0, ddof=1)
    return results


def largest_spread(forces_std: Float[np.ndarray, "atoms 3"]) -> float:
    """Return the largest spread of the force on an atom, eV/angstrom.

    Args:
        forces_std: Standard deviation of each component, eV/angstrom.
    """
    return float(np.linalg.norm(forces_std, axis=1).max(initial=0.0))
