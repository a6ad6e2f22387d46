"""Renaming between the published state dict and ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from golden.pack_keys import read_packed
from jmp_calc.errors import CheckpointError
from jmp_calc.models.config import NANO, GraphRules, HeadSpec, L, ModelConfig, S
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.state_dict import (
    model_from_state,
    ours_to_published,
    published_names_to_ours,
    published_to_ours,
)

TASKS = ("oc20", "oc22", "ani1x", "transition1x")
CASES = {
    "base__pretrain": (S, TASKS, True),
    "base__gradient": (S, ("task",), False),
    "base__ft_direct": (S, ("task",), True),
    "large__pretrain": (L, TASKS, True),
    "large__gradient": (L, ("task",), False),
    "large__ft_direct": (L, ("task",), True),
}


def meta_model(config: ModelConfig, tasks: tuple[str, ...], direct: bool) -> JMPModel:
    """The model of a case, without memory for its weights."""
    heads = [
        HeadSpec(
            name=task,
            graph=GraphRules(cutoff=5.0),
            forces="direct" if direct else "gradient",
            has_direct_forces=direct,
            has_energy_bias=len(tasks) > 1,
        )
        for task in tasks
    ]
    with torch.device("meta"):
        return JMPModel(replace(config, has_direct_forces=direct), heads)


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


@pytest.mark.parametrize("case", CASES)
def test_model_has_the_published_names_shapes_and_parameter_count(case: str) -> None:
    config, tasks, direct = CASES[case]
    model, published = meta_model(config, tasks, direct), read_packed()[case]
    layout = "pretraining" if case.endswith("pretrain") else "fine_tuning"
    renamed = ours_to_published(model.state_dict(), task_names=tasks, layout=layout)
    stored = {k: tuple(v) for k, v in published["state_dict_shapes"].items()}
    assert shapes(renamed) == stored
    back = published_names_to_ours(stored, task_names=tasks)
    assert set(back.values()) == set(model.state_dict())
    n_parameters = sum(p.numel() for p in model.parameters())
    assert n_parameters == published["parameter_count"]
    assert {back[name] for name in published["parameter_order"]} == dict(
        model.named_parameters()
    ).keys()


def counted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names with a different number in each."""
    return {name: torch.tensor([float(i)]) for i, name in enumerate(state)}


@pytest.mark.parametrize("n_edge", [96, 64])
def test_round_trip_keeps_every_tensor_in_its_place(n_edge: int) -> None:
    config = replace(NANO, emb_size_edge=n_edge)
    ours = counted(meta_model(config, ("b", "a"), True).state_dict())
    published = ours_to_published(ours, task_names=("b", "a"), layout="pretraining")
    first = "backbone.out_blocks.0.layers.0.linear.weight"
    assert (first in published) == (n_edge != config.emb_size_atom)
    assert (
        published["output.out_energy.1.0.weight"]
        is (ours["head_layers.a.energy.0.weight"])
    )
    back = published_to_ours(published, task_names=("b", "a"))
    assert {k: v.item() for k, v in back.items()} == {
        k: v.item() for k, v in ours.items()
    }


def test_no_two_rows_give_the_same_name() -> None:
    ours = meta_model(NANO, ("task",), False).state_dict()
    published = ours_to_published(ours, task_names=("task",), layout="fine_tuning")
    names = published_names_to_ours(published, task_names=("task",))
    shared = [n for n in names if "seq_energy_pre" not in n and ".rbf." not in n]
    assert len({names[n] for n in shared}) == len(shared)


@pytest.mark.parametrize(
    "alias",
    [
        "backbone.bases.radial_basis_aint.rbf.temps",
        "backbone.out_blocks.1.seq_energy_pre.0.linear.weight",
    ],
)
def test_aliases_must_hold_the_same_numbers(alias: str) -> None:
    config = replace(NANO, num_output_afteratom=1, emb_size_atom=64)
    ours = counted(meta_model(config, ("t",), False).state_dict())
    published = ours_to_published(ours, task_names=("t",), layout="fine_tuning")
    published[alias] = published[alias] + 1
    with pytest.raises(CheckpointError, match=f"{alias}.*should hold the same numbers"):
        published_to_ours(published, task_names=("t",))
    kept = published_to_ours(published, task_names=("t",), check_aliases=False)
    assert {k: v.item() for k, v in kept.items()} == {
        k: v.item() for k, v in ours.items()
    }


def test_counters_are_left_out() -> None:
    names = ["embedding.weight", "task_steps._module_dict.x.sum_value"]
    assert published_names_to_ours(names, task_names=("t",)) == {
        "embedding.weight": "embedding.weight"
    }


def test_unknown_published_names_are_listed_up_to_five() -> None:
    names = [f"backbone.extra.{i}" for i in range(7)]
    with pytest.raises(
        CheckpointError, match=r"7 names are not those.*extra\.4 and 2 more"
    ):
        published_names_to_ours(names, task_names=("t",))


def test_a_task_without_a_name_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="belongs to task 2, but only 1"):
        published_names_to_ours(["output.out_energy.2.0.weight"], task_names=("t",))


def test_names_that_the_layout_lacks_are_listed() -> None:
    with pytest.raises(CheckpointError, match="no place in the published pretraining"):
        ours_to_published(
            {"other.weight": torch.zeros(1)}, task_names=("t",), layout="pretraining"
        )


def test_fine_tuning_layout_takes_one_task() -> None:
    with pytest.raises(CheckpointError, match="holds one task, got 2: a, b"):
        ours_to_published({}, task_names=("a", "b"), layout="fine_tuning")


def small_state() -> tuple[ModelConfig, list[HeadSpec], dict[str, torch.Tensor]]:
    heads = [HeadSpec(name="t", graph=GraphRules(cutoff=5.0), forces="gradient")]
    return NANO, heads, JMPModel(NANO, heads).state_dict()


def test_model_from_state_is_the_model_that_gave_it() -> None:
    config, heads, state = small_state()
    random_state = torch.get_rng_state()
    model = model_from_state(config, heads, state, dtype=torch.float64)
    assert torch.equal(random_state, torch.get_rng_state())
    fresh = JMPModel(config, heads)
    for name, value in model.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, state[name].double())
    for name, buffer in fresh.named_buffers():  # also those that no file holds
        assert dict(model.named_buffers())[name].device.type == "cpu"
        if name not in state:
            assert torch.equal(dict(model.named_buffers())[name], buffer)
    assert all(p.requires_grad for p in model.parameters())


def test_model_does_not_share_memory_with_the_state() -> None:
    config, heads, state = small_state()
    model = model_from_state(config, heads, state)
    state["embedding.weight"].zero_()
    assert model.embedding.weight.abs().sum() > 0


def test_missing_extra_and_misshapen_tensors_are_named() -> None:
    config, heads, state = small_state()
    del state["embedding.weight"]
    state["surplus"] = torch.zeros(1)
    state["backbone.bases.radial.temps"] = torch.zeros(3)
    with pytest.raises(
        CheckpointError,
        match=r"1 tensors are missing: embedding.weight; 1 are not part of the model: "
        r"surplus; 1 have another shape: backbone.bases.radial.temps is \(3,\)",
    ):
        model_from_state(config, heads, state)
