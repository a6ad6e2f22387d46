"""A model on many graphs at once: physical results of each system as numpy arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Float, Int

from jmp_calc.calculator.approximate import arithmetic
from jmp_calc.calculator.head_choice import HeadChoice
from jmp_calc.calculator.room import has_fitted, must_recompute, with_memory
from jmp_calc.calculator.threads import threads_that_pay
from jmp_calc.errors import ArgumentError, UnsupportedSystemError, did_you_mean
from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import build_graph
from jmp_calc.graph.motion import GraphInMotion
from jmp_calc.models.config import ForceKind, HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.layers import in_full_precision
from jmp_calc.models.physical import targets_to_physical, to_physical

PROPERTIES = ("energy", "free_energy", "energies", "forces", "stress")
"""What can be computed, by ASE's names."""

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""Precisions of the network by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One system and what is to be computed of it."""

    graph: AtomGraph
    """On the CPU."""
    spec: HeadSpec
    """The head."""
    forces: ForceKind | None = None
    """Force kind, or None for no forces."""
    has_stress: bool = False
    """Whether the stress is wanted."""


def task_of(
    atoms: Atoms,
    choice: HeadChoice,
    tags: Int[np.ndarray, " atoms"] | None,
    properties: Sequence[str],
    *,
    motion: GraphInMotion | None = None,
    device: torch.device | None = None,
) -> Task:
    """Return what is to be computed of a structure.

    Args:
        atoms: The structure.
        choice: Its head.
        tags: OC20 tags, if the head looks at them.
        properties: Names of ``PROPERTIES``.
        motion: What is known of its graph by these rules and tags; None: nothing.
        device: That of the network; GPUs search the neighbors of large structures.

    Raises:
        PropertyNotImplementedError: If stress is asked for and the structure is not
            periodic in three directions.
    """
    spec, has_stress = choice.spec, "stress" in properties
    if has_stress and (not atoms.pbc.all() or spec.graph.is_periodic is False):
        raise PropertyNotImplementedError(
            "stress needs a structure that is periodic in three directions, and a "
            f"head that sees it; pbc is {atoms.pbc.tolist()} and the head is "
            f"{spec.name!r}"
        )
    # with the stress, gradient forces come at no cost
    has_forces = "forces" in properties or (has_stress and choice.forces == "gradient")
    return Task(
        graph=build_graph(atoms, spec.graph, tags=tags, device=device)
        if motion is None
        else motion.build(atoms),
        spec=spec,
        forces=choice.forces if has_forces else None,
        has_stress=has_stress,
    )


def checked_device(name: str) -> torch.device:
    """Return a device that is there and has float64.

    Args:
        name: "cpu", "cuda" or "cuda:1".

    Raises:
        ArgumentError: If it is none of these, or not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(
            f"unknown device {name!r}; choose 'cpu', 'cuda' or 'cuda:1'"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise ArgumentError(
            f"device {name!r} cannot be used: sums are made in float64, which is "
            "tested on 'cpu' and 'cuda' only; choose one of them"
        )
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise ArgumentError(
            f"device {name!r} is not there; torch sees {count} CUDA devices; choose "
            "'cpu', or install a torch with CUDA"
        )
    return device


def checked_properties(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of properties; one name alone counts as a list of one.

    Args:
        names: What is asked for.

    Raises:
        ArgumentError: If there is no such property.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in PROPERTIES:
            raise ArgumentError(
                f"unknown property {name!r}; choose from {', '.join(PROPERTIES)}"
                + did_you_mean(name, PROPERTIES)
            )
    return names


def checked_settings(forces: Any, tags: Any, dtype: Any) -> ForceKind | None:
    """Return the force kind that is asked for; complain about what is not allowed.

    Args:
        forces: "gradient", "direct" or None.
        tags: "auto", "atoms" or one tag per atom.
        dtype: A name of ``DTYPES``.

    Raises:
        ArgumentError: If one of them is something else.
    """
    for name, given, allowed in (
        ("forces", forces, (None, "gradient", "direct")),
        ("dtype", dtype, tuple(DTYPES)),
    ):
        if given not in allowed:
            raise ArgumentError(
                f"{name} is {given!r}; choose from "
                f"{', '.join(repr(value) for value in allowed)}"
            )
    is_allowed = (
        tags in ("auto", "atoms")
        if isinstance(tags, str)
        else np.ndim(tags) == 1 and np.asarray(tags).dtype.kind in "iu"
    )
    if not is_allowed:
        raise ArgumentError(
            f"tags is {tags!r}; choose 'auto', 'atoms', or give one tag per atom, a "
            "whole number"
        )
    kind: ForceKind | None = forces
    return kind


def predict(
    model: JMPModel,
    tasks: Sequence[Task],
    *,
    to_device: Callable[[AtomGraph], AtomGraph] | None = None,
    approximate: str | None = None,
    recompute: bool = False,
) -> list[dict[str, Any]]:
    """Return energy, energies and, where asked for, forces and stress of each system.

    Args:
        model: The network, on the device that does the work.
        tasks: Systems; all want the same force kind, and stress or not.
        to_device: Moves a graph to that device; None: all of it.
        approximate: Arithmetic with fewer digits; see ``approximate.arithmetic``.
        recompute: Whether derivatives compute blocks of the network again in any case,
            and not only where memory would not suffice.

    Returns:
        One dictionary per system with ``energy`` (eV), ``free_energy`` (the same),
        ``energies`` (per atom, eV), and on request ``forces`` (eV/angstrom) and
        ``stress`` (eV/angstrom^3, Voigt order xx yy zz yz xz xy, tension positive).
        Arrays are new, float64 and C-contiguous.

    Raises:
        UnsupportedSystemError: If memory runs out, or is known to be too little.
    """
    first = tasks[0]
    specs = [task.spec for task in tasks]
    joined = collate([task.graph for task in tasks])
    has_gradient = first.forces == "gradient" or first.has_stress
    again = has_gradient and must_recompute(model, joined, always=recompute)

    def work() -> list[dict[str, Any]]:
        weight = next(model.parameters())
        graph = joined.to(weight.device) if to_device is None else to_device(joined)
        with torch.no_grad(), arithmetic(weight, approximate):
            net = model(
                graph,
                [spec.name for spec in specs],
                forces=first.forces,
                stress=first.has_stress,
                recompute=again,
            )
            result = to_physical(net, graph, specs, forces=first.forces)
        counts = [task.graph.n_atoms for task in tasks]
        results: list[dict[str, Any]] = []
        start = np.cumsum([0, *counts])
        for k, task in enumerate(tasks):
            mine = slice(start[k], start[k + 1])
            energy = float(result.energy[k])
            values: dict[str, Any] = {
                "energy": energy,
                "free_energy": energy,
                "energies": as_array(result.atom_energy[mine]),
            }
            if result.forces is not None:
                values["forces"] = as_array(result.forces[mine])
            if result.virial is not None:
                volume = abs(float(torch.linalg.det(task.graph.cell[0])))
                stress = as_array(result.virial[k]) / volume
                values["stress"] = full_3x3_to_voigt_6_stress(stress)
            results.append(values)
        return results

    with threads_that_pay(model, joined):
        found = with_memory(
            work, model, joined, may_recompute=has_gradient and not again
        )
    if has_gradient:
        has_fitted(model, joined, recompute=again)
    return found


def predict_properties(
    model: JMPModel, graphs: Sequence[AtomGraph], heads: Sequence[str]
) -> list[dict[str, Float[np.ndarray, " outputs"]]]:
    """Return what property heads say about each system, in their units.

    Args:
        model: The network, on the device that does the work.
        graphs: Systems, on the CPU, by the graph rules of the heads.
        heads: Names of the heads.

    Returns:
        One dictionary per system: by head the value, or the probabilities of classes.

    Raises:
        UnsupportedSystemError: If memory runs out.
    """
    joined = collate(graphs)

    def work() -> list[dict[str, Float[np.ndarray, " outputs"]]]:
        graph = joined.to(next(model.parameters()).device)
        with torch.no_grad(), in_full_precision(next(model.parameters())):
            outputs = model.predict_all_targets(graph, heads)
            found = {
                name: as_array(
                    targets_to_physical(value, graph, [model.heads[name]] * len(graphs))
                )
                for name, value in outputs.items()
            }
        return [
            {name: values[k] for name, values in found.items()}
            for k in range(len(graphs))
        ]

    with threads_that_pay(model, joined):
        return with_memory(work, model, joined, may_recompute=False)


def describe_atoms(model: JMPModel, graph: AtomGraph) -> Float[np.ndarray, "atoms dim"]:
    """Return the per-atom features that the energy heads read, float64.

    Args:
        model: The network, on the device that does the work.
        graph: One system, on the CPU.

    Raises:
        UnsupportedSystemError: If memory runs out.
    """

    def work() -> Float[np.ndarray, "atoms dim"]:
        with torch.no_grad(), in_full_precision(next(model.parameters())):
            return as_array(
                model.descriptors(graph.to(next(model.parameters()).device))
            )

    return with_memory(work, model, graph, may_recompute=False)


@contextlib.contextmanager
def numbered(number: int) -> Iterator[None]:
    """Say in an error about a structure which one of a list it is.

    Args:
        number: Of the structure.
    """
    try:
        yield
    except UnsupportedSystemError as error:
        error.add_note(f"this is structure {number} of the list")
        raise


def as_array(values: torch.Tensor) -> Float[np.ndarray, "..."]:
    """Return a new C-contiguous float64 array.

    Args:
        values: Any tensor.
    """
    return np.array(values.numpy(force=True), dtype=np.float64, order="C", copy=True)
