"""All calculators tell the neighbor search where their network is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from jmp_calc import JMPCalculator, Predictor
from jmp_calc.graph import device_search

ATOMS = bulk("Si", cubic=True)


def _moving(atoms: Atoms) -> None:
    atoms.calc = JMPCalculator("jmp-nano")
    atoms.get_forces()


def _several(atoms: Atoms) -> None:
    JMPCalculator("jmp-nano").evaluate([atoms])


def _predicted(atoms: Atoms) -> None:
    Predictor("jmp-nano").predict([atoms])


def _in_torch_sim(atoms: Atoms) -> None:
    pytest.importorskip("torch_sim", reason="the extra interop is not installed")
    import torch_sim

    from jmp_calc.calculator.torch_sim import JMPTorchSimModel

    state = torch_sim.io.atoms_to_state([atoms], torch.device("cpu"), torch.float64)
    JMPTorchSimModel("jmp-nano")(state)


@pytest.mark.parametrize("compute", [_moving, _several, _predicted, _in_torch_sim])
def test_the_search_knows_the_device_of_the_network(
    compute: Callable[[Atoms], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[torch.device | None, int]] = []

    def is_for(device: torch.device | None, n_atoms: int) -> bool:
        asked.append((device, n_atoms))
        return False

    monkeypatch.setattr(device_search, "is_for", is_for)
    compute(ATOMS.copy())
    assert asked == [(torch.device("cpu"), len(ATOMS))]
