"""Memory that is too little: known before, told after."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from jmp_calc.calculator import JMPCalculator, Predictor, room
from jmp_calc.calculator.room import free_memory, must_recompute
from jmp_calc.cli.job import build_calculator
from jmp_calc.cli.options import ModelOptions
from jmp_calc.cli.resume import identity_of
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.graph.build import build_graph
from jmp_calc.models.footprint import Footprint
from jmp_calc.models.frozen.freeze import freeze_
from jmp_calc.models.jmp import JMPModel
from toys.models import TINY, build, smooth_model, spec

CPU = torch.device("cpu")


@pytest.fixture
def deep_model() -> JMPModel:
    """A network of several blocks, as it was trained."""
    return build(replace(TINY, num_blocks=4, emb_size_edge=64), spec("organic"))


@pytest.fixture
def deep(deep_model) -> JMPCalculator:
    return JMPCalculator(deep_model, dtype="float64")


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """No structure is too small to look for memory, of which as much is free."""
    free = {"bytes": 10**12}
    monkeypatch.setattr(room, "_ALWAYS_FITS", 0)
    monkeypatch.setattr(room, "_on_cpu", room._Done())
    monkeypatch.setattr(room, "free_memory", lambda _: free["bytes"])
    return free


def ways_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return the list that gets for every call whether blocks are computed again."""
    ways: list[bool] = []
    forward = model.forward

    def seen(*args: Any, recompute: bool = False, **kwargs: Any) -> Any:
        ways.append(recompute)
        return forward(*args, recompute=recompute, **kwargs)

    monkeypatch.setattr(model, "forward", seen)
    return ways


def need(calc: JMPCalculator, atoms: Any) -> Footprint:
    graph = build_graph(atoms, calc.model.heads["organic"].graph)
    return Footprint.of(graph, calc.model.config, calc.model.dtype)


def test_blocks_are_computed_again_where_memory_might_not_suffice(
    deep, monkeypatch, tight
) -> None:
    atoms, ways = molecule("C6H6"), ways_of(deep.model, monkeypatch)
    tight["bytes"] = int(1.4 * need(deep, atoms).keeping) - 1
    found = deep.evaluate([atoms])[0]
    tight["bytes"] += 2
    expected = deep.evaluate([atoms])[0]
    assert ways == [True, False]
    np.testing.assert_array_equal(found["forces"], expected["forces"])


def test_the_network_as_it_was_trained_has_a_larger_margin(deep_model, tight) -> None:
    model = deep_model
    graph = build_graph(molecule("C6H6"), model.heads["organic"].graph)
    keeping = Footprint.of(graph, model.config, model.dtype).keeping
    for form, margin in ((model, 2.4), (freeze_(copy.deepcopy(model)), 1.4)):
        tight["bytes"] = int((margin + 0.01) * keeping)
        assert not must_recompute(form, graph)
        tight["bytes"] = int((margin - 0.01) * keeping)
        assert must_recompute(form, graph)


@pytest.mark.parametrize("kept", [True, False])
def test_what_has_been_computed_is_computed_so_again_though_its_memory_is_held(
    deep, monkeypatch, tight, kept
) -> None:
    atoms, ways = molecule("C6H6"), ways_of(deep.model, monkeypatch)
    of = need(deep, atoms)
    took = int(1.4 * of.keeping) + 1 if kept else of.recomputing
    tight["bytes"] = took
    for _ in range(3):
        deep.evaluate([atoms])
        tight["bytes"] = 0  # what it took stays with the process
        atoms.rattle(0.02, seed=1)
    assert ways == [not kept] * 3


def test_what_grows_by_some_edges_is_computed_as_before(
    deep, monkeypatch, tight
) -> None:
    small, ways = molecule("trans-butane"), ways_of(deep.model, monkeypatch)
    large = small.copy()
    small.positions *= 1.1
    large.positions *= 1.05
    assert 1 < need(deep, large).keeping / need(deep, small).keeping <= 1.1
    for atoms in (small, large):
        deep.evaluate([atoms])
        tight["bytes"] = 0
    assert ways == [False, False]


def test_growth_is_counted_from_what_memory_was_looked_for(deep, tight) -> None:
    atoms = molecule("C6H6")
    graph = build_graph(atoms, deep.model.heads["organic"].graph)
    room.has_fitted(deep.model, graph, recompute=False)
    most = room._on_cpu.most
    assert most == need(deep, atoms).keeping
    room._on_cpu.most = int(most / 1.05)
    room.has_fitted(deep.model, graph, recompute=False)
    assert room._on_cpu.most == int(most / 1.05)


def test_memory_held_on_a_gpu_is_free_and_not_counted_twice(
    deep, monkeypatch, tight
) -> None:
    graph = build_graph(molecule("C6H6"), deep.model.heads["organic"].graph)
    of = need(deep, molecule("C6H6"))
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float64)
    monkeypatch.setattr(deep.model, "parameters", lambda: iter([on_gpu]))
    room.has_fitted(deep.model, graph, recompute=False)
    assert room._on_cpu.most == 0
    room._on_cpu.most = of.keeping
    tight["bytes"] = of.recomputing
    assert must_recompute(deep.model, graph)


def test_what_is_much_larger_than_all_before_is_still_refused(
    deep, monkeypatch, tight
) -> None:
    ways = ways_of(deep.model, monkeypatch)
    deep.evaluate([molecule("H2O")])
    tight["bytes"] = need(deep, molecule("C6H6")).recomputing // 2
    with pytest.raises(UnsupportedSystemError, match="forces of 12 atoms"):
        deep.evaluate([molecule("C6H6")])
    assert ways == [False]


def test_what_needs_no_derivative_is_computed_once(smooth, monkeypatch, tight) -> None:
    ways = ways_of(smooth.model, monkeypatch)
    tight["bytes"] = 0
    smooth.evaluate([molecule("C6H6")], ["energy"])
    assert ways == [False]


def test_what_cannot_fit_is_refused_before_the_work(smooth, monkeypatch, tight) -> None:
    ways = ways_of(smooth.model, monkeypatch)
    tight["bytes"] = need(smooth, molecule("C6H6")).recomputing // 2
    expected = (
        r"forces of 12 atoms with 432 edges \(main 114, .*\) need about 0\.0 GB of "
        r"memory, and 0\.0 GB of cpu are free; use a smaller structure"
    )
    with pytest.raises(UnsupportedSystemError, match=expected):
        smooth.evaluate([molecule("C6H6")])
    assert ways == []


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [text for text in messages if "without a word" in text]


@pytest.mark.parametrize("short", [0, 2])
def test_what_might_not_fit_though_computed_again_is_warned_of(
    deep, monkeypatch, tight, caplog, short
) -> None:
    monkeypatch.setattr(room, "_MARGIN_AGAIN", (1.1, 1000))
    atoms, ways = molecule("C6H6"), ways_of(deep.model, monkeypatch)
    tight["bytes"] = int(1.1 * need(deep, atoms).recomputing) + 1001 - short
    deep.evaluate([atoms])
    assert ways == [True]
    expected = r"forces of 12 atoms with 432 edges .* may take 0\.0 GB of memory, and"
    assert [bool(re.search(expected, text)) for text in told(caplog)] == (
        [True] if short else []
    )


def test_what_might_not_fit_is_warned_of_once(deep, monkeypatch, tight, caplog) -> None:
    atoms, model = molecule("C6H6"), deep.model
    tight["bytes"] = need(deep, atoms).recomputing
    graph = build_graph(atoms, model.heads["organic"].graph)
    for _ in range(3):
        assert must_recompute(model, graph)
    assert len(told(caplog)) == 1
    monkeypatch.setattr(room, "_MARGIN_AGAIN", (1.1, 2**30))
    must_recompute(model, graph)
    assert len(told(caplog)) == 2


def test_the_network_as_it_was_trained_is_doubted_sooner(
    deep_model, tight, caplog
) -> None:
    graph = build_graph(molecule("C6H6"), deep_model.heads["organic"].graph)
    of = Footprint.of(graph, deep_model.config, deep_model.dtype)
    for n in (5.71, 5.69):
        assert told(caplog) == []
        tight["bytes"] = int(n * of.recomputing)
        must_recompute(deep_model, graph, always=True)
    assert len(told(caplog)) == 1


def test_a_gpu_tells_itself_where_memory_ends(deep, monkeypatch, tight, caplog) -> None:
    atoms = molecule("C6H6")
    graph = build_graph(atoms, deep.model.heads["organic"].graph)
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float64)
    tight["bytes"] = need(deep, atoms).recomputing
    monkeypatch.setattr(deep.model, "parameters", lambda: iter([on_gpu]))
    assert must_recompute(deep.model, graph)
    assert told(caplog) == []


def test_less_than_what_is_computed_again_at_once_is_refused(deep, tight) -> None:
    atoms = molecule("C6H6")
    tight["bytes"] = need(deep, atoms).recomputing - 1
    with pytest.raises(UnsupportedSystemError, match="forces of 12 atoms"):
        deep.evaluate([atoms])


def test_memory_is_not_looked_for_where_little_is_needed(smooth, monkeypatch) -> None:
    def fail(_: torch.device) -> int:
        raise AssertionError

    monkeypatch.setattr(room, "free_memory", fail)
    smooth.evaluate([molecule("C6H6")])


def test_where_free_memory_is_not_known_the_user_decides(smooth, monkeypatch) -> None:
    monkeypatch.setattr(room, "_ALWAYS_FITS", 0)
    monkeypatch.setattr(room, "free_memory", lambda _: None)
    graph = build_graph(bulk("Cu", cubic=True), smooth.model.heads["crystals"].graph)
    assert not must_recompute(smooth.model, graph)
    assert must_recompute(smooth.model, graph, always=True)


def test_the_user_can_have_blocks_computed_again_in_any_case(monkeypatch) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    names = ["energy", "forces", "stress"]
    wanted = JMPCalculator(smooth_model()).evaluate([atoms], names)[0]
    calc = JMPCalculator(smooth_model(), recompute=True)
    ways = ways_of(calc.model, monkeypatch)
    found = calc.evaluate([atoms], names)[0]
    for name in names:
        np.testing.assert_array_equal(found[name], wanted[name])
    predictor = Predictor(smooth_model(), recompute=True)
    ways_of_predictor = ways_of(predictor.model, monkeypatch)
    predictor.predict([atoms])
    assert ways == ways_of_predictor == [True]


def test_an_error_does_not_advise_what_is_on_already(monkeypatch) -> None:
    calc = JMPCalculator(smooth_model(), recompute=True)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("9 GiB")

    monkeypatch.setattr(calc.model, "forward", fail)
    with pytest.raises(UnsupportedSystemError, match=r"\(9 GiB\); use a smaller"):
        calc.evaluate([molecule("H2O")])


def test_recompute_is_for_models() -> None:
    with pytest.raises(ArgumentError, match="--recompute is for models, and --calc"):
        ModelOptions(calculator="emt", recompute=True)


def test_the_option_reaches_the_calculator_and_is_no_other_work() -> None:
    options = ModelOptions(recompute=True, offline=True)
    assert build_calculator(options).parameters["recompute"] is True
    about = {"weights_sha256": "ab"}
    assert identity_of(options, about) == identity_of(ModelOptions(), about)


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str) -> Path:
    """Return the folder of groups of a machine with 8 kB."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "jobs" / "7").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 16 kB\nMemAvailable:   8 kB\n")
    (proc / "self" / "cgroup").write_text(f"4:memory:/old\n0::{group}\n")
    monkeypatch.setattr(room, "_PROC", proc)
    monkeypatch.setattr(room, "_CGROUP", groups)
    return groups


def limited(group: Path, limit: str, used: int, cached: int) -> None:
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(
        f"anon 5\ninactive_file {cached}\nactive_file {2 * cached}\n"
    )


def limited_by_version_1(group: Path, limit: int, used: int, cached: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (group / "memory.usage_in_bytes").write_text(f"{used}\n")
    (group / "memory.stat").write_text(
        "inactive_file 1\nactive_file 1\n"  # of this group without those in it
        f"total_inactive_file {cached}\ntotal_active_file {2 * cached}\n"
    )


def test_free_memory_is_what_the_system_calls_available(tmp_path, monkeypatch) -> None:
    machine(tmp_path, monkeypatch, "/jobs/7")
    assert free_memory(CPU) == 8192
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16 kB\n")
    assert free_memory(CPU) is None


@pytest.mark.parametrize("limited_group", ["", "jobs", "jobs/7"])
def test_a_limit_of_any_group_of_the_process_counts(
    tmp_path, monkeypatch, limited_group
) -> None:
    groups = machine(tmp_path, monkeypatch, "/jobs/7")
    limited(groups / "jobs", "max", 0, 0)
    limited(groups / limited_group, "5000", used=3000, cached=500)
    assert free_memory(CPU) == 3500


@pytest.mark.parametrize("limited_group", ["", "old", "old/not_seen_here"])
def test_a_limit_of_version_1_counts(tmp_path, monkeypatch, limited_group) -> None:
    groups = machine(tmp_path, monkeypatch, "/jobs/7")
    lines = "9:cpu:/\n4:hugetlb,memory:/old/not_seen_here\n0::/\n"
    (tmp_path / "proc" / "self" / "cgroup").write_text(lines)
    no_limit = 9223372036854771712
    limited_by_version_1(groups / "memory" / "old", no_limit, used=3000, cached=0)
    limited_by_version_1(groups / "memory" / limited_group, 5000, used=3000, cached=500)
    assert free_memory(CPU) == 3500


def test_nothing_is_free_in_a_group_above_its_limit(tmp_path, monkeypatch) -> None:
    groups = machine(tmp_path, monkeypatch, "/jobs/7")
    limited(groups / "jobs", "5000", used=6000, cached=0)
    assert free_memory(CPU) == 0


def test_a_group_of_version_1_of_others_does_not_count(tmp_path, monkeypatch) -> None:
    groups = machine(tmp_path, monkeypatch, "/jobs/7")
    limited_by_version_1(groups / "memory" / "other", 5000, used=3000, cached=0)
    assert free_memory(CPU) == 8192


def test_a_limit_counts_for_a_group_outside_of_what_is_seen(
    tmp_path, monkeypatch
) -> None:
    groups = machine(tmp_path, monkeypatch, "/../../other")
    limited(groups, "5000", used=3000, cached=0)
    assert free_memory(CPU) == 2000
