"""Structures shared out among processes give the results of one process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from ase import Atoms
from ase.build import molecule

from jmp_calc.calculator import JMPCalculator, Predictor
from jmp_calc.calculator.distributed import compute_together, processes
from jmp_calc.errors import ArgumentError, JMPError, UnsupportedSystemError
from toys.models import smooth_model
from toys.processes import run_processes

NAMES = ("H2O", "CH4", "CH3CH2OH", "H2O2", "CO2")


def frames() -> list[Atoms]:
    return [molecule(name) for name in NAMES]


def predict(rank: int, folder: Path) -> None:
    """What each process does; the first leaves the results in a file."""
    predictor, computed = Predictor(smooth_model(), dtype="float64"), []

    def compute(mine: list[Atoms]) -> list[dict[str, object]]:
        computed.extend(atoms.get_chemical_formula() for atoms in mine)
        return predictor.predict(mine)

    results = compute_together(compute, frames())
    n = dist.get_world_size()
    assert computed == [a.get_chemical_formula() for a in frames()[rank::n]]
    assert (results is None) == (rank > 0)
    if results is not None:
        (folder / "results").write_bytes(pickle.dumps(results))


def refuse(rank: int, folder: Path) -> None:
    """One process has a structure that the model does not know."""
    structures = [*frames(), Atoms("U")]
    predictor = Predictor(smooth_model(), heads="organic")
    try:
        compute_together(predictor.predict, structures)
    except UnsupportedSystemError as error:
        text = "; ".join([str(error), *error.__notes__])
        (folder / f"error-{rank}").write_text(text)


class UnpicklableError(Exception):
    """An error that no other process can be sent."""

    def __reduce__(self):
        raise TypeError("cannot be pickled")


def fail(rank: int, folder: Path) -> None:
    """One process has an error of somebody else's code."""

    def compute(mine: list[Atoms]) -> list[int]:
        if rank == 1:
            raise UnpicklableError("no stress")
        return [0 for _ in mine]

    try:
        compute_together(compute, frames())
    except (JMPError, UnpicklableError) as error:
        (folder / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("n", [2, 3])
def test_results_equal_those_of_one_process_in_order(n, tmp_path) -> None:
    run_processes(n, predict, tmp_path, folder=tmp_path)
    found = pickle.loads((tmp_path / "results").read_bytes())
    wanted = Predictor(smooth_model(), dtype="float64").predict(frames())
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one["energy"] == pytest.approx(other["energy"], abs=1e-10)
        np.testing.assert_allclose(one["forces"], other["forces"], atol=1e-10)


def test_an_error_of_one_process_ends_all(tmp_path) -> None:
    run_processes(2, refuse, tmp_path, folder=tmp_path)
    for rank in range(2):
        text = (tmp_path / f"error-{rank}").read_text()
        assert "this is structure 2 of the list" in text
        assert "its list is 1, 3, 5, ... of all" in text


def test_an_error_of_any_kind_is_told_to_all(tmp_path) -> None:
    run_processes(2, fail, tmp_path, folder=tmp_path)
    told = [(tmp_path / f"error-{rank}").read_text() for rank in range(2)]
    assert told[0] == "JMPError: process 1 failed: UnpicklableError: no stress"
    assert told[1] == "UnpicklableError: no stress"


def test_a_process_alone_is_told_what_to_do(monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ArgumentError, match="run the script by torchrun --nproc-per"):
        processes().__enter__()
    calc = JMPCalculator(smooth_model())
    with pytest.raises(ArgumentError, match=r"enter .*processes\(\) first"):
        compute_together(calc.evaluate, frames())


def test_more_processes_than_gpus_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ArgumentError, match=r"process 2 .*--nproc-per-node 2"):
        processes().__enter__()


SCRIPT = """
from ase.build import molecule
from jmp_calc import JMPCalculator
from jmp_calc.calculator.distributed import compute_together, processes

with processes() as device:
    calculator = JMPCalculator("jmp-nano", head="qm7x", device=device)
    found = compute_together(calculator.evaluate, [molecule("H2O"), molecule("CH4")])
    if found is not None:
        print(*(one["energy"] for one in found))
"""


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path) -> None:
    (tmp_path / "screen.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "screen.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    calc = JMPCalculator("jmp-nano", head="qm7x")
    wanted = [
        one["energy"] for one in calc.evaluate([molecule("H2O"), molecule("CH4")])
    ]
    found = [float(word) for word in done.stdout.split()]
    assert found == pytest.approx(wanted, abs=1e-5)
