"""Batches of structures, and what happens when memory runs out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule

from jmp_calc.calculator import JMPCalculator
from jmp_calc.calculator.evaluation import checked_settings
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from toys.models import TINY, build, spec


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GiB"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate, 9 GiB"),
        MemoryError("9 GiB"),
    ],
)
def test_a_lack_of_memory_is_an_error_with_sizes(smooth, monkeypatch, error) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(smooth.model, "forward", fail)
    expected = (
        r"cpu ran out of memory on 3 atoms with 24 edges \(main 6, atom_edge 6, "
        r"quadruplet 6, atom_atom 6\) \(.*9 GiB.*\); use recompute=True "
        r"\(--recompute\), a smaller"
    )
    with pytest.raises(UnsupportedSystemError, match=expected):
        smooth.evaluate([molecule("H2O")])


def test_other_runtime_errors_are_not_hidden(smooth, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(smooth.model, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        smooth.evaluate([molecule("H2O")])


def test_a_mixed_list_is_computed_with_the_forces_of_each_head() -> None:
    model = build(
        replace(TINY, has_direct_forces=True),
        spec("direct", elements=(1, 8), forces="direct", has_direct_forces=True),
        spec("gradient", elements=(1, 6)),
    )
    calc = JMPCalculator(model, dtype="float64")
    structures = [molecule("H2O"), molecule("CH4"), molecule("H2O")]
    found = calc.evaluate(structures)
    assert [r["force_kind"] for r in found] == ["direct", "gradient", "direct"]
    # a row of a matrix product may be rounded otherwise in another place
    np.testing.assert_allclose(found[0]["forces"], found[2]["forces"], atol=1e-14)
    assert found[1]["forces"].shape == (5, 3)


@pytest.mark.parametrize("tags", [2, [1.5, 2], ["2", "1"], [[1, 2]], None])
def test_tags_that_are_not_one_whole_number_per_atom_are_refused(tags) -> None:
    with pytest.raises(ArgumentError, match="or give one tag per atom, a whole number"):
        checked_settings(None, tags, "float32")
    assert checked_settings("direct", [2, 1], "float32") == "direct"


def test_an_empty_list_has_no_results(smooth) -> None:
    assert smooth.evaluate([]) == []
