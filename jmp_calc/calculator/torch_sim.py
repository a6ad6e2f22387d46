"""JMPTorchSimModel: a JMP model for torch-sim, many systems in one evaluation."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from jmp_calc.calculator.batches import in_batches
from jmp_calc.calculator.decision import Decision, decide
from jmp_calc.calculator.evaluation import (
    DTYPES,
    Task,
    checked_device,
    checked_settings,
    predict,
)
from jmp_calc.calculator.head_choice import check_energy_head, force_kind, model_name
from jmp_calc.calculator.head_notes import summary
from jmp_calc.graph.build import build_graph
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained import load_model

try:
    from torch_sim import SimState
    from torch_sim.models.interface import ModelInterface
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "JMPTorchSimModel needs torch-sim; install it with pip install "
        "'jmp-calc[interop]'"
    ) from error

_logger = logging.getLogger(__name__)


class JMPTorchSimModel(ModelInterface):  # type: ignore[misc]  # torch-sim is untyped
    """Energies, forces and stress of a JMP model for torch-sim.

    All systems of a state are computed together, in batches that fit into memory, so
    that torch-sim's autobatcher is not needed. Head and tags of a system are decided
    when it is first computed, and kept while it moves. States are float64 (``dtype`` of
    the model), because total energies lose too many digits in float32; ``dtype=`` is
    the precision of the network alone. torch-sim 0.3 takes a slab that is periodic in
    two directions for a molecule: make it periodic in all three.

    Args:
        model: Name of a pretrained model, path of a weights file, or a loaded model,
            which is copied and not changed.
        head: Name of the task; None: the one that covers a system, which is logged.
        forces: "gradient" or "direct"; None: the kind that the head was trained for.
        device: "cpu", "cuda" or "cuda:1".
        dtype: Precision of the network, "float32" or "float64".
        recompute: Whether gradients always compute blocks of the network again, as for
            :class:`jmp_calc.JMPCalculator`.
        offline: Whether to fail rather than to download weights.
        compute_forces: Whether states get forces.
        compute_stress: Whether states get stress (tension positive). Systems that are
            not periodic, and heads that do not see periodicity, have none: it is NaN.

    Raises:
        ArgumentError: If an argument is not allowed, or no head predicts energies.
        CheckpointError: If the weights file is damaged or foreign.
        DownloadError: If the weights could not be fetched.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        model: str | Path | JMPModel = "jmp-nano",
        *,
        head: str | None = None,
        forces: str | None = None,
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        recompute: bool = False,
        offline: bool = False,
        compute_forces: bool = True,
        compute_stress: bool = True,
    ) -> None:
        force_choice = checked_settings(forces, "auto", dtype)
        target = checked_device(str(device))
        super().__init__()
        if isinstance(model, JMPModel):
            self.name, loaded = model_name(model), copy.deepcopy(model)
        else:
            self.name, loaded = str(model), load_model(model, offline=offline)
        check_energy_head(loaded, head)
        if head is not None:
            force_kind(loaded.heads[head], force_choice)
        loaded = loaded.to(device=target, dtype=DTYPES[dtype])
        self.network = freeze_(loaded)
        self._head, self._forces = head, force_choice
        self._recompute = recompute
        self._device, self._dtype = target, torch.float64
        self._compute_forces, self._compute_stress = compute_forces, compute_stress
        self._decisions: list[Decision] = []
        self._announced: set[str] = set()

    @ModelInterface.compute_forces.setter  # type: ignore[untyped-decorator]
    def compute_forces(self, value: bool) -> None:
        """Whether states get forces."""
        self._compute_forces = value

    @ModelInterface.compute_stress.setter  # type: ignore[untyped-decorator]
    def compute_stress(self, value: bool) -> None:
        """Whether states get stress."""
        self._compute_stress = value

    @torch.inference_mode(False)
    def forward(
        self, state: SimState | dict[str, torch.Tensor], **_: Any
    ) -> dict[str, torch.Tensor]:
        """Compute all systems of a state; called by torch-sim.

        Args:
            state: The systems.
            **_: Not used; torch-sim hands it to all models alike.

        Returns:
            ``energy`` (systems; eV) and, where asked for, ``forces`` (atoms, 3;
            eV/angstrom) and ``stress`` (systems, 3, 3; eV/angstrom^3).

        Raises:
            UnsupportedSystemError: If the model cannot or must not be used for a
                system; its number is added as a note.
        """
        if isinstance(state, dict):
            masses = torch.ones_like(state["positions"][:, 0])
            state = SimState(**{"masses": masses, **state})
        frames = _frames(state)
        self._decisions = self._recalled(frames)
        tasks = enumerate(
            self._task(atoms, decision)
            for atoms, decision in zip(frames, self._decisions, strict=True)
        )
        compute = partial(predict, self.network, recompute=self._recompute)
        found = dict(in_batches(self.network, tasks, compute))
        results = [found[number] for number in range(len(frames))]
        return self._tensors(results, state.positions)

    def _recalled(self, frames: Sequence[Atoms]) -> list[Decision]:
        """Return what was decided about systems, or decide.

        torch-sim takes systems that are done out and adds new ones at the end: those
        that stay keep their order.
        """
        known = iter(self._decisions)
        decisions = []
        for number, atoms in enumerate(frames):
            last = next((one for one in known if one.holds_for(atoms)), None)
            decisions.append(last or self._decided(atoms, number))
        return [
            decision.moved_to(atoms)
            for decision, atoms in zip(decisions, frames, strict=True)
        ]

    def _decided(self, atoms: Atoms, number: int) -> Decision:
        try:
            found = decide(self.network, atoms, head=self._head, forces=self._forces)
        except Exception as error:
            error.add_note(f"this is system {number} of the state")
            raise
        choice = found.choice
        if choice.spec.name not in self._announced:
            self._announced.add(choice.spec.name)
            level = logging.WARNING if choice.is_automatic else logging.INFO
            _logger.log(level, "%s: %s", self.name, summary(choice))
        return found

    def _task(self, atoms: Atoms, decision: Decision) -> Task:
        spec = decision.choice.spec
        return Task(
            graph=build_graph(
                atoms, spec.graph, tags=decision.guessed_tags, device=self._device
            ),
            spec=spec,
            forces=decision.choice.forces if self._compute_forces else None,
            has_stress=self._compute_stress
            and bool(atoms.pbc.all())
            and spec.graph.is_periodic is not False,
        )

    def _tensors(
        self, results: Sequence[dict[str, Any]], like: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        arrays = {"energy": np.array([one["energy"] for one in results])}
        if self._compute_forces:
            arrays["forces"] = np.concatenate([one["forces"] for one in results])
        if self._compute_stress:
            none = np.full(6, np.nan)
            voigt = [one.get("stress", none) for one in results]
            arrays["stress"] = np.array([voigt_6_to_full_3x3_stress(v) for v in voigt])
        return {
            name: torch.as_tensor(array, dtype=like.dtype, device=like.device)
            for name, array in arrays.items()
        }


def _frames(state: SimState) -> list[Atoms]:
    """Return the systems of a state, in order."""

    def arrays(values: torch.Tensor) -> Any:
        return values.numpy(force=True)

    ends = np.cumsum(np.bincount(arrays(state.system_idx)))[:-1]
    # torch-sim 0.3 has one flag for all directions, later versions have three
    pbc = arrays(torch.as_tensor(state.pbc).expand(3))
    return [
        # torch-sim keeps lattice vectors as columns
        Atoms(numbers=numbers, positions=positions, cell=cell.T, pbc=pbc)
        for numbers, positions, cell in zip(
            np.split(arrays(state.atomic_numbers), ends),
            np.split(arrays(state.positions).astype(float), ends),
            arrays(state.cell).astype(float),
            strict=True,
        )
    ]
