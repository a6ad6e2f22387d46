"""Which head of a model is for a structure: by kind of structure, and by elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from jmp_calc.calculator.domains import Kind
from jmp_calc.errors import ArgumentError, UnsupportedSystemError, did_you_mean
from jmp_calc.graph.neighbors import neighbor_list
from jmp_calc.models.config import ForceKind, HeadSpec
from jmp_calc.models.jmp import JMPModel

_MAX_LISTED_ELEMENTS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadChoice:
    """The head for a structure and how it was found."""

    spec: HeadSpec
    """The head."""
    kind: Kind
    """Kind of the structure."""
    forces: ForceKind
    """Force kind that is computed."""
    is_automatic: bool
    """Whether it was found by its domain and elements, not named."""
    others: tuple[str, ...] = ()
    """Names of other heads that would cover the structure."""

    @property
    def is_conservative(self) -> bool:
        """Whether the forces are minus the gradient of the energy."""
        return self.forces == "gradient"


def choose_head(
    model: JMPModel,
    atoms: Atoms,
    kind: Kind,
    *,
    name: str | None = None,
    forces: ForceKind | None = None,
) -> HeadChoice:
    """Return the head that a structure is computed with.

    Without a name it is the only head whose domain is the kind of the structure, whose
    elements cover it and whose graph rules do not lose its periodicity; ``is_default``
    breaks ties. A head for surfaces is never taken for a bulk crystal unless named, nor
    the other way round. Wires with vacuum around them have no domain: name a head.

    Args:
        model: The model.
        atoms: The structure.
        kind: What its bonds make of it.
        name: Head asked for.
        forces: Force kind asked for; None: what the head was trained for.

    Raises:
        UnsupportedSystemError: If no head or more than one fits, or the named one
            cannot be used for the structure.
        ArgumentError: If the name or the force kind does not exist.
    """
    if name is not None:
        check_fit(model, atoms, name)
        spec = model.heads[name]
        return HeadChoice(
            spec=spec,
            kind=kind,
            forces=force_kind(spec, forces),
            is_automatic=False,
        )
    check_elements(model, atoms)
    spec, others = _find(model, atoms, kind)
    _check_references(model, spec, atoms)
    return HeadChoice(
        spec=spec,
        kind=kind,
        forces=force_kind(spec, forces),
        is_automatic=True,
        others=others,
    )


def energy_heads(model: JMPModel) -> dict[str, HeadSpec]:
    """Return the heads that predict energy and forces, by name.

    Args:
        model: The model.
    """
    return {n: spec for n, spec in model.heads.items() if spec.target is None}


def check_name(model: JMPModel, name: str | None) -> None:
    """Check that a head that was asked for exists.

    Args:
        model: The model.
        name: Name of the head; None asks for none.

    Raises:
        ArgumentError: If the model has no such head.
    """
    if name is not None and name not in model.heads:
        raise ArgumentError(
            f"unknown head {name!r}; {model_name(model)} has {list_heads(model.heads)}"
            + did_you_mean(name, model.heads)
        )


def check_energy_head(model: JMPModel, name: str | None) -> None:
    """Check that a head that was asked for, or some head, predicts energy and forces.

    Args:
        model: The model.
        name: Name of the head; None: any.

    Raises:
        ArgumentError: If there is no such head, or it predicts something else.
    """
    check_name(model, name)
    chosen = model.heads if name is None else {name: model.heads[name]}
    if any(spec.target is None for spec in chosen.values()):
        return
    whose = "" if name is None else f"head {name!r} of "
    others = energy_heads(model)
    way_out = f"; for energies there is head={' or '.join(map(repr, others))}"
    raise ArgumentError(
        f"{whose}{model_name(model)} predicts "
        f"{', '.join(_quantity(spec) for spec in chosen.values())} and not energies "
        "and forces, so it cannot be a calculator; use "
        "jmp_calc.Predictor(model).predict(list_of_atoms), or 'jmp-md predict FILE "
        f"--model MODEL'{way_out if others else ''}"
    )


def force_kind(spec: HeadSpec, forces: ForceKind | None) -> ForceKind:
    """Return the force kind to compute with a head.

    Args:
        spec: The head.
        forces: The kind asked for; None: what the head was trained for.

    Raises:
        ArgumentError: If direct forces are asked for and the head has none.
    """
    kind = forces or spec.forces or "gradient"
    if kind == "direct" and not spec.has_direct_forces:
        raise ArgumentError(
            f"head {spec.name!r} has no direct force head; use forces='gradient'"
        )
    return kind


def check_elements(model: JMPModel, atoms: Atoms, name: str | None = None) -> None:
    """Check that a head, or at least some head, was trained on the elements.

    Args:
        model: The model.
        atoms: The structure.
        name: The head; None: any that predicts energies.

    Raises:
        UnsupportedSystemError: If an element is unknown to the head, or no head knows
            all elements.
    """
    heads = energy_heads(model) if name is None else {name: model.heads[name]}
    specs = list(heads.values())
    known = [known_elements(model, spec) for spec in specs]
    elements = set(atoms.numbers.tolist())
    if any(elements <= covered for covered in known):
        return
    missing = elements - set().union(*known)
    if not missing:
        raise UnsupportedSystemError(
            f"no single head of {model_name(model)} was trained on all of "
            f"{_symbols(elements)}; it has {list_heads(heads)}"
        )
    index = int(np.flatnonzero(np.isin(atoms.numbers, list(missing)))[0])
    number = int(atoms.numbers[index])
    symbol = chemical_symbols[number] if number < len(chemical_symbols) else "?"
    whose = f"head {name!r}" if name is not None else "no head"
    raise UnsupportedSystemError(
        f"atom {index} is {symbol} ({number}), which {whose} of {model_name(model)} "
        f"was {'not ' if name is not None else ''}trained on; change the atom, or "
        f"choose another {'head or ' if name is not None else ''}model "
        f"('jmp-md models' lists them). Heads: {list_heads(model.heads)}"
    )


def check_fit(model: JMPModel, atoms: Atoms, name: str) -> None:
    """Check that a named head can be used for a structure.

    Args:
        model: The model.
        atoms: The structure.
        name: The head.

    Raises:
        UnsupportedSystemError: If an element is unknown to it or has no reference, or
            it would get the periodicity of the structure wrong.
    """
    check_elements(model, atoms, name)
    spec = model.heads[name]
    problem = _boundary_problem(spec, atoms)
    if problem:
        raise UnsupportedSystemError(f"head {name!r} {problem}")
    _check_references(model, spec, atoms)


def known_elements(model: JMPModel, spec: HeadSpec) -> frozenset[int]:
    """Return the atomic numbers that a head can be used for.

    Those seen in training; if these are not recorded, those with a reference energy;
    without either, all that the network can represent.

    Args:
        model: The model.
        spec: Its head.
    """
    last = min(model.config.num_elements, len(chemical_symbols) - 1)
    everything = range(1, last + 1)
    of_target = spec.target and spec.target.references
    return frozenset(spec.elements or spec.references or of_target or everything)


def list_heads(heads: Mapping[str, HeadSpec]) -> str:
    """Return one line with name, domain, elements and level of theory of each head.

    Args:
        heads: Heads by name.
    """
    return ", ".join(
        f"{name!r} ({_quantity(spec) + '; ' if spec.target else ''}{spec.domain}; "
        f"{_symbols(spec.elements or spec.references or ())}; {spec.level_of_theory})"
        for name, spec in heads.items()
    )


def model_name(model: JMPModel) -> str:
    """Return the name of a model for messages.

    Args:
        model: The model.
    """
    return str(model.info.get("name", "this model"))


def _find(
    model: JMPModel, atoms: Atoms, kind: Kind
) -> tuple[HeadSpec, tuple[str, ...]]:
    elements = set(atoms.numbers.tolist())
    meant = [
        spec
        for spec in energy_heads(model).values()
        if spec.domain == kind and elements <= known_elements(model, spec)
    ]
    problems = {spec.name: _boundary_problem(spec, atoms) for spec in meant}
    usable = [spec for spec in meant if not problems[spec.name]]
    what = f"a {kind} of {_symbols(elements)}"
    way_out = f"choose one with head=: {list_heads(energy_heads(model))}"
    if not usable:
        reasons = "".join(f"; head {n!r} {text}" for n, text in problems.items())
        raise UnsupportedSystemError(
            f"this structure is {what}{_origin(atoms)}, which no head of "
            f"{model_name(model)} is meant for{reasons}; if you know that it can be "
            f"used nevertheless, {way_out}"
        )
    preferred = [spec for spec in usable if spec.is_default]
    if len(usable) > 1 and len(preferred) != 1:
        raise UnsupportedSystemError(
            f"this structure is {what}, which several heads of {model_name(model)} "
            f"cover: {', '.join(spec.name for spec in usable)}; {way_out}"
        )
    chosen = usable[0] if len(usable) == 1 else preferred[0]
    return chosen, tuple(spec.name for spec in usable if spec is not chosen)


def _check_references(model: JMPModel, spec: HeadSpec, atoms: Atoms) -> None:
    """Refuse a mixture of atoms with and without reference energy."""
    references = spec.references if spec.target is None else spec.target.references
    if not references:
        return
    missing = np.flatnonzero(~np.isin(atoms.numbers, list(references)))
    if len(missing) and spec.target is not None:
        raise UnsupportedSystemError(
            f"atom {missing[0]} is {atoms.symbols[missing[0]]}, for which head "
            f"{spec.name!r} of {model_name(model)} has no reference value of "
            f"{spec.target.name!r}; change the atom, or choose another model"
        )
    if len(missing):
        raise UnsupportedSystemError(
            f"atom {missing[0]} is {atoms.symbols[missing[0]]}, for which head "
            f"{spec.name!r} of {model_name(model)} has no reference energy, so that "
            "the energy would be neither absolute nor relative; 'jmp-md models "
            "fit-references' fits one, to structures that hold the element"
        )


def _boundary_problem(spec: HeadSpec, atoms: Atoms) -> str:
    """Return why a head would get the periodicity of a structure wrong, or ""."""
    rules = spec.graph
    if spec.kind == "spatial_extent" and atoms.pbc.any():
        return (
            "measures distances from the centre of mass, which a periodic structure "
            "does not have; set atoms.pbc = False if a molecule is meant, with its "
            "atoms in one piece"
        )
    if rules.is_periodic is False and atoms.pbc.any():
        cutoff = max(rules.cutoffs.values())
        shift = neighbor_list(
            atoms.positions, atoms.cell.array, atoms.pbc, cutoff=cutoff
        )[2]
        if shift.any():
            return (
                "ignores periodicity, but the structure reaches its periodic images "
                f"(cutoff {cutoff:g} angstrom); set atoms.pbc = False if an isolated "
                "cluster is meant, with its molecules whole, or use another head"
            )
    if rules.is_periodic and rules.rules == "published":
        missing = np.flatnonzero(~atoms.cell.any(1))
        if len(missing):
            return (
                "repeats every structure in all three directions, but cell vector "
                f"{missing[0]} is zero; give it one with vacuum, such as "
                f"atoms.center(vacuum=10, axis={missing[0]})"
            )
    return ""


def _quantity(spec: HeadSpec) -> str:
    if spec.target is None:
        return "energy and forces"
    unit = f" ({spec.target.unit})" if spec.target.unit else ""
    return f"{spec.target.name}{unit}"


def _origin(atoms: Atoms) -> str:
    return " in a periodic cell" if atoms.pbc.any() else ""


def _symbols(numbers: set[int] | Mapping[int, float] | tuple[int, ...]) -> str:
    if not numbers:
        return "elements not recorded"
    if len(numbers) > _MAX_LISTED_ELEMENTS:
        return f"{len(numbers)} elements"
    return " ".join(chemical_symbols[number] for number in sorted(numbers))
