"""Predictor: properties of many structures at once, from trained weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from jaxtyping import Float, Int

from jmp_calc.calculator.batches import in_batches
from jmp_calc.calculator.decision import decide
from jmp_calc.calculator.domains import classify, find_bonds
from jmp_calc.calculator.evaluation import (
    DTYPES,
    Task,
    checked_device,
    checked_settings,
    numbered,
    predict,
    predict_properties,
)
from jmp_calc.calculator.head_choice import (
    HeadChoice,
    check_fit,
    check_name,
    energy_heads,
    model_name,
)
from jmp_calc.calculator.head_notes import charge_and_spin, domain_notes, head_notes
from jmp_calc.calculator.memory import require_list
from jmp_calc.calculator.tags import guess_tags
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.rules import GraphRules
from jmp_calc.models.config import HeadSpec
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained import load_model

Value = float | str | Float[np.ndarray, "atoms 3"]
"""A number, the name of a class, or a vector per atom."""

PROBABILITY = "probability"
"""Unit of what class heads say about a class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """One thing that a :class:`Predictor` predicts."""

    name: str
    """Key of the results."""
    unit: str
    """Its unit; empty: a plain number, or the name of a class."""
    head: str
    """Head that it comes from; empty: the energy head that covers the structure."""
    is_per_atom: bool = False
    """Whether there is a vector for each atom (forces), not one value."""

    @property
    def column(self) -> str:
        """Name with the unit, for tables, such as ``c_v_cal_per_mol_K``."""
        unit = self.unit.replace("/", " per ").replace("^", "")
        words = "".join(c if c.isalnum() else " " for c in unit).split()
        return "_".join([self.name, *words])


class Predictor:
    """Properties of structures from the heads of trained weights.

    Each structure is checked like one that a :class:`JMPCalculator` is given: elements
    that a head has not seen, or boundaries that it would get wrong, are errors.

    Args:
        model: Name of a pretrained model, path of a weights file, or a loaded model,
            which is copied and not changed.
        heads: Names of the heads to use; None: all that predict a property or, if there
            are none, the energy head that covers each structure.
        device: "cpu", "cuda" or "cuda:1".
        dtype: Precision of the network, "float32" or "float64".
        recompute: Whether gradients always compute blocks of the network again, as for
            :class:`JMPCalculator`.
        offline: Whether to fail rather than to download weights.

    Raises:
        ArgumentError: If an argument is not one of those allowed.
        CheckpointError: If the weights file is damaged or foreign.
        DownloadError: If the weights could not be fetched.

    Example:
        >>> predictor = Predictor("gap.safetensors")  # doctest: +SKIP
        >>> predictor.predict([atoms])[0]["gap"]  # doctest: +SKIP
    """

    # In the caller's inference mode weights could not be used for gradients.
    @torch.inference_mode(False)
    def __init__(
        self,
        model: str | Path | JMPModel,
        *,
        heads: str | Sequence[str] | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        recompute: bool = False,
        offline: bool = False,
    ) -> None:
        checked_settings(None, "auto", dtype)
        target = checked_device(device)
        if isinstance(model, JMPModel):
            loaded = copy.deepcopy(model)
        else:
            loaded = load_model(model, offline=offline)
        chosen = _chosen(loaded, heads)
        loaded = loaded.to(device=target, dtype=DTYPES[dtype])
        self.model = freeze_(loaded)
        self._recompute, self._device = recompute, target
        self.quantities = _quantities(loaded, chosen)
        """What is predicted, in the order of the results."""
        self._energy = [
            name for name in chosen if not name or loaded.heads[name].target is None
        ]
        self._properties: dict[GraphRules, list[str]] = {}
        for name in chosen:
            if name and loaded.heads[name].target is not None:
                rules = loaded.heads[name].graph
                self._properties.setdefault(rules, []).append(name)

    def predict(self, list_of_atoms: Iterable[Atoms]) -> list[dict[str, Value]]:
        """Return the quantities of each structure, several computed at a time.

        Args:
            list_of_atoms: Structures, of any kinds; any iterable.

        Returns:
            One dictionary per structure, by the names of ``quantities``: a number in
            the unit of the quantity; for class heads probabilities, and the name of the
            likeliest class where there are more than two; forces as an array.

        Raises:
            ArgumentError: If there is no list of structures.
            UnsupportedSystemError: If a head cannot or must not be used for a
                structure; its number is added as a note.
        """
        require_list(list_of_atoms, "predict")
        frames = list(list_of_atoms)
        found: list[dict[str, Value]] = [{} for _ in frames]
        for rules, heads in self._properties.items():
            self._add_properties(found, frames, rules, heads)
        for name in self._energy:
            self._add_energies(found, frames, name)
        names = [quantity.name for quantity in self.quantities]
        return [{name: values[name] for name in names} for values in found]

    def check(self, atoms: Atoms) -> None:
        """Check that all heads can be used for a structure, without computing it.

        Args:
            atoms: The structure.

        Raises:
            UnsupportedSystemError: If one cannot, or must not.
        """
        _check_not_empty(atoms)
        for name in self._property_names():
            check_fit(self.model, atoms, name)
        for name in self._energy:
            decide(self.model, atoms, head=name or None, forces=None)

    def notes(self, atoms: Atoms) -> list[str]:
        """Return what to be aware of with a structure, as ``describe`` of a calculator.

        Args:
            atoms: The structure.

        Raises:
            UnsupportedSystemError: If a head cannot, or must not, be used for it.
        """
        found: list[str] = []
        if self._properties:
            kind = classify(atoms, find_bonds(atoms))
            for name in self._property_names():
                choice = HeadChoice(
                    spec=self.model.heads[name],
                    kind=kind,
                    forces="gradient",
                    is_automatic=False,
                )
                found += domain_notes(atoms, choice)
            ignored = charge_and_spin(atoms)
            if ignored:
                found.append(f"atoms.info has {ignored}, which JMP models do not know")
        for name in self._energy:
            decision = decide(self.model, atoms, head=name or None, forces=None)
            found += head_notes(atoms, decision.choice, decision.guessed_tags)
        return list(dict.fromkeys(found))

    def _named(self, head: str, values: list[Value]) -> dict[str, Value]:
        names = [q.name for q in self.quantities if q.head == head]
        return dict(zip(names, values, strict=True))

    def _property_names(self) -> list[str]:
        return [name for heads in self._properties.values() for name in heads]

    def _add_properties(
        self,
        found: list[dict[str, Value]],
        frames: Sequence[Atoms],
        rules: GraphRules,
        heads: list[str],
    ) -> None:
        spec = self.model.heads[heads[0]]

        def task(atoms: Atoms) -> Task:
            _check_not_empty(atoms)
            for name in heads:
                check_fit(self.model, atoms, name)
            tags = _tags(atoms, rules)
            graph = build_graph(atoms, rules, tags=tags, device=self._device)
            return Task(graph=graph, spec=spec)

        def compute(
            tasks: Sequence[Task],
        ) -> list[dict[str, Float[np.ndarray, " outputs"]]]:
            graphs = [task.graph for task in tasks]
            return predict_properties(self.model, graphs, heads)

        tasks = ((k, _numbered(task, k, atoms)) for k, atoms in enumerate(frames))
        for number, result in in_batches(self.model, tasks, compute):
            for head, outputs in result.items():
                values = _values(self.model.heads[head], outputs)
                found[number] |= self._named(head, values)

    @torch.inference_mode(False)  # gradient forces need gradients
    def _add_energies(
        self, found: list[dict[str, Value]], frames: Sequence[Atoms], name: str
    ) -> None:
        def task(atoms: Atoms) -> Task:
            decision = decide(self.model, atoms, head=name or None, forces=None)
            spec = decision.choice.spec
            graph = build_graph(
                atoms, spec.graph, tags=decision.guessed_tags, device=self._device
            )
            return Task(graph=graph, spec=spec, forces=decision.choice.forces)

        tasks = ((k, _numbered(task, k, atoms)) for k, atoms in enumerate(frames))
        compute = partial(predict, self.model, recompute=self._recompute)
        for number, result in in_batches(self.model, tasks, compute):
            values: list[Value] = [result["energy"], result["forces"]]
            found[number] |= self._named(name, values)


def _check_not_empty(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise UnsupportedSystemError(
            "the structure has no atoms; give one with at least one atom"
        )


def _numbered(make: Callable[[Atoms], Task], number: int, atoms: Atoms) -> Task:
    with numbered(number):
        return make(atoms)


def _chosen(model: JMPModel, heads: str | Sequence[str] | None) -> list[str]:
    """Return the names of the heads to use; "" is the energy head of each structure."""
    if heads is None:
        properties = [n for n, spec in model.heads.items() if spec.target is not None]
        return properties or [""]
    names = [heads] if isinstance(heads, str) else list(heads)
    if not names:
        raise ArgumentError(
            f"heads is empty; name some of {', '.join(model.heads)}, or leave it out"
        )
    for name in names:
        check_name(model, name)
    return list(dict.fromkeys(names))


def _quantities(model: JMPModel, chosen: Sequence[str]) -> tuple[Quantity, ...]:
    """Return what the heads give, in order; named by head where names would collide."""
    of_head = {
        name: _of_spec(model.heads[name]) if name else _of_spec(_any_energy(model))
        for name in chosen
    }
    names = [
        quantity.name for quantities in of_head.values() for quantity in quantities
    ]
    is_unique = len(set(names)) == len(names)
    return tuple(
        replace(
            quantity,
            name=quantity.name if is_unique else f"{head}_{quantity.name}",
            head=head,
        )
        for head, quantities in of_head.items()
        for quantity in quantities
    )


def _any_energy(model: JMPModel) -> HeadSpec:
    heads = energy_heads(model)
    if not heads:
        raise ArgumentError(f"{model_name(model)} has no heads")
    return next(iter(heads.values()))


def _of_spec(spec: HeadSpec) -> list[Quantity]:
    target = spec.target
    if target is None:
        return [
            Quantity(name="energy", unit="eV", head=spec.name),
            Quantity(name="forces", unit="eV/Å", head=spec.name, is_per_atom=True),
        ]
    if spec.kind == "binary":
        name = "_".join([target.name, *target.classes[1:]])
        return [Quantity(name=name, unit=PROBABILITY, head=spec.name)]
    own = Quantity(name=target.name, unit=target.unit, head=spec.name)
    return [
        own,
        *(
            Quantity(name=f"{target.name}_{c}", unit=PROBABILITY, head=spec.name)
            for c in target.classes
        ),
    ]


def _values(spec: HeadSpec, outputs: Float[np.ndarray, " outputs"]) -> list[Value]:
    """Return the values of the quantities of a head, in order."""
    numbers: list[Value] = [float(x) for x in outputs]
    if spec.kind != "multiclass" or spec.target is None:
        return numbers
    return [spec.target.classes[int(outputs.argmax())], *numbers]


def _tags(atoms: Atoms, rules: GraphRules) -> Int[np.ndarray, " atoms"] | None:
    if rules.quadruplet_tags is None:
        return None
    bonds = find_bonds(atoms)
    return guess_tags(atoms, bonds, classify(atoms, bonds))
