"""Network units to eV: scales, shifts and reference energies, summed in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jmp_calc.graph.batch import AtomGraph
from jmp_calc.models.config import ForceKind, HeadSpec
from jmp_calc.models.jmp import Prediction


def reference_energies(
    graph: AtomGraph, specs: Sequence[HeadSpec]
) -> Float[Tensor, " atoms"]:
    """Return the reference energy of each atom, eV; zero where a head has none.

    Args:
        graph: The batch.
        specs: The head of each system.
    """
    return _of_atoms(graph, [spec.references for spec in specs])


def system_references(
    graph: AtomGraph, specs: Sequence[HeadSpec]
) -> Float[Tensor, " systems"]:
    """Return the sum of the reference energies of each system, eV.

    Args:
        graph: The batch.
        specs: The head of each system.
    """
    of_atoms = reference_energies(graph, specs)
    return of_atoms.new_zeros(graph.n_systems).index_add(
        0, graph.system_index, of_atoms
    )


def to_physical(
    prediction: Prediction,
    graph: AtomGraph,
    specs: Sequence[HeadSpec],
    *,
    forces: ForceKind | None,
) -> Prediction:
    """Return the prediction in eV and eV/angstrom.

    The energy is ``scale * E + shift + sum of references``; gradient forces and the
    virial carry the energy scale, direct forces their own. The shift, a constant of
    the system, is spread evenly over its atoms so that atom energies sum to the whole.

    Args:
        prediction: Result of the model, network units.
        graph: The batch that it belongs to.
        specs: The head of each system.
        forces: Kind of force in the prediction.

    Source:
        GemNet-OC specification, section 8.2.
    """
    of, units = graph.system_index, _Units.of(graph, specs)
    atom_energy = (
        prediction.atom_energy.double() * units.scale[of]
        + units.shift_of_atoms
        + units.references_of_atoms
    )
    energy = torch.zeros_like(units.scale).index_add(0, of, atom_energy)
    result_forces, virial = prediction.forces, prediction.virial
    if result_forces is not None:
        chosen = units.scale if forces == "gradient" else units.force_scale
        result_forces = result_forces.double() * chosen[of][:, None]
    if virial is not None:
        virial = virial.double() * units.scale[:, None, None]
    return Prediction(
        energy=energy, atom_energy=atom_energy, forces=result_forces, virial=virial
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Units:
    """Scales, shifts and references of the systems of a graph, float64."""

    specs: tuple[HeadSpec, ...]
    scale: Float[Tensor, " systems"]
    force_scale: Float[Tensor, " systems"]
    shift_of_atoms: Float[Tensor, " atoms"]
    references_of_atoms: Float[Tensor, " atoms"]

    @classmethod
    def of(cls, graph: AtomGraph, specs: Sequence[HeadSpec]) -> _Units:
        """Return them, made once for as long as topology and heads stay."""
        found = graph.derived.get(cls)
        if (
            isinstance(found, cls)
            and len(found.specs) == len(specs)
            and all(a is b for a, b in zip(found.specs, specs, strict=True))
        ):
            return found

        def per_system(values: Sequence[float]) -> Tensor:
            device = graph.positions.device
            return torch.tensor(values, dtype=torch.float64, device=device)

        count = torch.bincount(graph.system_index, minlength=graph.n_systems)
        shift = per_system([spec.energy_shift for spec in specs])
        found = graph.derived[cls] = cls(
            specs=tuple(specs),
            scale=per_system([spec.energy_scale for spec in specs]),
            force_scale=per_system([spec.force_scale for spec in specs]),
            shift_of_atoms=(shift / count.clamp(min=1))[graph.system_index],
            references_of_atoms=reference_energies(graph, specs),
        )
        return found


def target_references(
    graph: AtomGraph, specs: Sequence[HeadSpec]
) -> Float[Tensor, " systems"]:
    """Return the sum of the reference values of each system, in the target's unit.

    Args:
        graph: The batch.
        specs: The head of each system.
    """
    of_atoms = _of_atoms(
        graph, [spec.target.references if spec.target else None for spec in specs]
    )
    return of_atoms.new_zeros(graph.n_systems).index_add(
        0, graph.system_index, of_atoms
    )


def targets_to_physical(
    outputs: Float[Tensor, "systems outputs"],
    graph: AtomGraph,
    specs: Sequence[HeadSpec],
) -> Float[Tensor, "systems outputs"]:
    """Return predicted targets in their units, and of class heads the probabilities.

    The value is ``scale * x + shift + sum of references``. A binary head gives the
    probability of the second class, a multiclass head one per class.

    Args:
        outputs: Result of ``JMPModel.predict_targets``.
        graph: The batch that it belongs to.
        specs: The head of each system, each with a target.
    """
    rows = []
    references = target_references(graph, specs)
    for output, spec, reference in zip(outputs, specs, references, strict=True):
        assert spec.target is not None
        known = output[: spec.n_outputs].double()
        if spec.kind == "binary":
            known = known.sigmoid()
        elif spec.kind == "multiclass":
            known = known.softmax(dim=0)
        else:
            known = known * spec.target.scale + spec.target.shift + reference
        rows.append(torch.cat([known, output[spec.n_outputs :].double()]))
    return torch.stack(rows)


def _of_atoms(
    graph: AtomGraph, references: Sequence[Mapping[int, float] | None]
) -> Float[Tensor, " atoms"]:
    """Return the reference value of each atom; one table per system."""
    # by numpy: torch takes as long for each number as for a whole table
    table = np.zeros((len(references), 121))
    for row, values in zip(table, references, strict=True):
        if values:
            row[list(values)] = list(values.values())
    on_device = torch.from_numpy(table).to(graph.numbers.device)
    return on_device[graph.system_index, graph.numbers]
