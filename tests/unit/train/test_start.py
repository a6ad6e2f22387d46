from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import molecule

from jmp_calc.errors import ArgumentError, CheckpointError
from jmp_calc.graph.build import build_graph
from jmp_calc.models.config import HeadSpec, TargetSpec
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.physical import to_physical
from jmp_calc.models.weights import save_weights
from jmp_train.config import StartConfig, TaskConfig, TaskScales, TrainConfig
from jmp_train.data.store import Store, store_path
from jmp_train.recipes.smoke import TINY
from jmp_train.start import load_start, resolve_start, start_model
from toys.training import RULES, toy_config

REFERENCES = {1: -1.0, 6: -6.0, 7: -7.0, 8: -8.0}


def pretrained(**changes: object) -> JMPModel:
    """Weights with two heads, away from their initial values."""
    config = replace(TINY, **changes)
    direct = {"has_direct_forces": True} if config.has_direct_forces else {}
    heads = [
        HeadSpec(
            name=name,
            graph=RULES,
            forces="gradient",
            energy_scale=2.5,
            energy_shift=0.75,
            force_scale=1.5,
            references=REFERENCES,
            elements=(1, 6, 7, 8),
            level_of_theory="PBE0",
            **direct,
        )
        for name in ("organic", "other")
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = JMPModel(config, heads)
        for name, buffer in model.named_buffers():
            if name.endswith("factor"):
                buffer.fill_(1.5)
    model.info = {"name": "toy-pretrained", "licence": "CC-BY-NC-4.0"}
    return model.eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "pretrained.safetensors"
    save_weights(pretrained(), path)
    return path


@pytest.fixture
def headers(toy_stores: Path) -> dict:
    return {"qm7x": Store(store_path(toy_stores, "qm7x", "train")).header}


def config_of(weights: Path | str, **start: object) -> TrainConfig:
    config = toy_config(Path("stores"), Path("run"))
    task = TaskConfig(name="qm7x", graph=RULES)
    return replace(
        config,
        data=replace(config.data, tasks=(task,)),
        start=StartConfig(weights=str(weights), **start),
    )


def with_task(config: TrainConfig, **changes: object) -> TrainConfig:
    (task,) = config.data.tasks
    return replace(config, data=replace(config.data, tasks=(replace(task, **changes),)))


def energy_and_forces(model: JMPModel, head: str, atoms: Atoms):
    graph = build_graph(atoms, RULES)
    found = to_physical(
        model(graph, head, forces="gradient"),
        graph,
        [model.heads[head]],
        forces="gradient",
    )
    return found.energy, found.forces


def test_the_backbone_and_the_embedding_are_those_of_the_weights(
    weights, headers
) -> None:
    model = start_model(config_of(weights), headers)
    given = pretrained().state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith("head_layers."):
            torch.testing.assert_close(value, given[name], rtol=0, atol=0)


def test_a_new_head_is_random_and_follows_from_the_seed(weights, headers) -> None:
    config = config_of(weights)
    models = [start_model(replace(config, seed=seed), headers) for seed in (1, 1, 2)]
    first, same, other = (
        model.state_dict()["head_layers.qm7x.energy.0.weight"] for model in models
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    old = pretrained().state_dict()["head_layers.organic.energy.0.weight"]
    assert not torch.equal(first, old)


def test_the_random_state_of_the_process_is_left_alone(weights, headers) -> None:
    before = torch.random.get_rng_state()
    start_model(config_of(weights), headers)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_kept_head_predicts_as_before(weights, headers) -> None:
    config = config_of(weights, heads=(("qm7x", "organic"),))
    model = start_model(config, headers).eval()
    atoms = molecule("CH3OH")
    old = energy_and_forces(pretrained(), "organic", atoms)
    new = energy_and_forces(model, "qm7x", atoms)
    torch.testing.assert_close(new, old, rtol=0, atol=0)


def test_a_kept_head_with_other_references_differs_by_these_alone(
    weights, headers
) -> None:
    own = {1: -13.0, 6: -1030.0, 7: -1485.0, 8: -2040.0}
    config = config_of(weights, heads=(("qm7x", "organic"),))
    scales = TaskScales(references=tuple(own.items()))
    model = start_model(with_task(config, scales=scales), headers).eval()
    atoms = molecule("CH3OH")
    old, old_forces = energy_and_forces(pretrained(), "organic", atoms)
    new, new_forces = energy_and_forces(model, "qm7x", atoms)
    moved = sum(own[z] - REFERENCES[z] for z in atoms.numbers)
    # float64 sums of numbers of 1e3 eV
    assert float(new - old) == pytest.approx(moved, abs=1e-9)
    torch.testing.assert_close(new_forces, old_forces, rtol=0, atol=0)


def test_a_kept_head_takes_the_facts_of_the_new_data(weights, headers) -> None:
    config = config_of(weights, heads=(("qm7x", "organic"),))
    spec = start_model(config, headers).heads["qm7x"]
    assert spec.level_of_theory == headers["qm7x"]["level_of_theory"]
    assert (spec.energy_scale, spec.energy_shift) == (2.5, 0.75)


def test_a_head_with_new_references_covers_the_elements_of_the_data_only(
    weights, headers
) -> None:
    config = config_of(weights, heads=(("qm7x", "organic"),))
    headers["qm7x"]["statistics"]["elements"] = [1, 8]
    kept = start_model(config, headers).heads["qm7x"].elements
    assert kept == (1, 6, 7, 8)
    scales = TaskScales(references=((1, -13.0), (8, -2040.0)))
    other = start_model(with_task(config, scales=scales), headers).heads["qm7x"]
    assert other.elements == (1, 8)


def test_a_kept_head_without_a_reference_of_an_element_is_an_error(
    weights, headers
) -> None:
    headers["qm7x"]["statistics"]["elements"] = [1, 14]
    config = config_of(weights, heads=(("qm7x", "organic"),))
    with pytest.raises(
        ArgumentError,
        match=r"no reference energy for Si, .* such as --references least-squares",
    ):
        start_model(config, headers)


def test_the_weights_bring_their_shape_and_hash(weights) -> None:
    config = config_of(weights)
    source = load_start(StartConfig(weights=str(weights)))
    resolved = resolve_start(replace(config, model=replace(TINY, num_blocks=3)), source)
    assert resolved.model == TINY
    assert resolved.start is not None
    assert resolved.start.sha256 == source.info["weights_sha256"]


def test_a_branch_of_direct_forces_is_left_out_where_it_is_not_needed(
    tmp_path, headers
) -> None:
    path = tmp_path / "direct.safetensors"
    save_weights(pretrained(has_direct_forces=True), path)
    config = config_of(path)
    source = load_start(StartConfig(weights=str(path)))
    model = start_model(resolve_start(config, source), headers)
    assert not model.config.has_direct_forces
    assert not [name for name in model.state_dict() if "force" in name]


def test_a_branch_of_direct_forces_is_kept_where_it_is_needed(
    tmp_path, headers
) -> None:
    path = tmp_path / "direct.safetensors"
    save_weights(pretrained(has_direct_forces=True), path)
    config = with_task(config_of(path), forces="direct")
    source = load_start(StartConfig(weights=str(path)))
    model = start_model(resolve_start(config, source), headers)
    given, found = source.state_dict(), model.state_dict()
    branch = [name for name in found if "force_mlp" in name or ".force_" in name]
    assert branch
    for name in branch:
        torch.testing.assert_close(found[name], given[name], rtol=0, atol=0)


def test_weights_that_have_changed_since_are_an_error(weights) -> None:
    with pytest.raises(CheckpointError, match=r"have changed since the run was made"):
        load_start(StartConfig(weights=str(weights), sha256="0" * 64))


def test_a_run_of_another_shape_is_an_error(weights, headers) -> None:
    config = replace(config_of(weights), model=replace(TINY, num_blocks=2))
    with pytest.raises(CheckpointError, match=r"another shape than the weights"):
        start_model(config, headers)


def test_graphs_of_other_rules_than_those_of_the_weights_are_an_error(
    weights, headers
) -> None:
    graph = replace(RULES, rules="published", max_neighbors=30)
    with pytest.raises(
        ArgumentError, match=r"follow the smooth rules, and the tasks .* published"
    ):
        start_model(with_task(config_of(weights), graph=graph), headers)


def test_a_head_that_does_not_exist_is_an_error_with_a_suggestion(
    weights, headers
) -> None:
    config = config_of(weights, heads=(("qm7x", "organics"),))
    with pytest.raises(
        ArgumentError, match=r"no head 'organics' .* did you mean 'organic'"
    ):
        start_model(config, headers)


def test_a_head_for_a_task_that_does_not_exist_is_an_error(weights, headers) -> None:
    config = config_of(weights, heads=(("qm9", "organic"),))
    with pytest.raises(ArgumentError, match=r"no task 'qm9'"):
        start_model(config, headers)


def test_only_heads_of_energy_and_forces_are_kept(tmp_path, headers) -> None:
    target = TargetSpec(name="gap", unit="eV")
    spec = HeadSpec(name="gap", kind="scalar", graph=RULES, forces=None, target=target)
    path = tmp_path / "gap.safetensors"
    save_weights(JMPModel(TINY, [spec]), path)
    config = config_of(path, heads=(("qm7x", "gap"),))
    with pytest.raises(
        ArgumentError, match=r"'gap' of the weights is of kind 'scalar'"
    ):
        start_model(config, headers)


def test_a_head_without_direct_forces_is_not_kept_for_them(weights, headers) -> None:
    config = with_task(
        config_of(weights, heads=(("qm7x", "organic"),)), forces="direct"
    )
    config = replace(config, model=replace(TINY, has_direct_forces=True))
    with pytest.raises(ArgumentError, match=r"'organic' .* has no direct forces"):
        start_model(config, headers)


def test_the_model_says_what_it_was_made_from(weights, headers) -> None:
    config = config_of(weights, heads=(("qm7x", "organic"),), frozen=("embedding",))
    model = start_model(config, headers)
    assert model.info["licence"] == "CC-BY-NC-4.0"
    start = model.info["training"]["start"]
    assert start["weights"] == "toy-pretrained"
    assert start["heads"] == {"qm7x": "organic"}
    assert start["frozen"] == ["embedding"]
    assert len(start["sha256"]) == 64


def test_a_run_without_a_start_is_an_error(headers) -> None:
    config = toy_config(Path("stores"), Path("run"))
    with pytest.raises(ArgumentError, match=r"has no weights to start from"):
        start_model(config, headers)
