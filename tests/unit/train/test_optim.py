from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import OptimConfig
from jmp_train.optim import (
    MovingAverage,
    build_optimizer,
    finish_gradients,
    learning_rate,
)
from jmp_train.recipes.smoke import TINY
from toys.training import RULES

SCHEDULE = OptimConfig(
    learning_rate=1.0, warmup_steps=5, warmup_start=0.2, final=0.1, clip_norm=None
)


def tiny_model(**changes: object) -> JMPModel:
    spec = HeadSpec(name="a", graph=RULES, forces="gradient")
    return JMPModel(replace(TINY, **changes), [spec])


def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 25, SCHEDULE) for step in range(26)]
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates[15] == pytest.approx(0.1 + 0.5 * 0.9)  # half of the cosine
    assert rates[25] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(rates[5:]))


def test_the_learning_rate_stays_at_its_end_value() -> None:
    assert learning_rate(1000, 25, SCHEDULE) == pytest.approx(0.1)


def test_the_optimizer_decays_all_parameters_in_one_group() -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, OptimConfig())
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    assert (group["betas"], group["eps"]) == ((0.9, 0.95), 1e-8)
    assert (group["weight_decay"], group["amsgrad"]) == (0.1, False)


def test_shared_basis_gradients_are_divided_by_their_uses() -> None:
    """gemnet_oc, section 9; mlp_rbf_out is used once more, before the blocks."""
    model = tiny_model(num_blocks=3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    finish_gradients(model)
    found = {
        name: float(parameter.grad.unique())
        for name, parameter in model.named_parameters()
    }
    divided = {name for name, value in found.items() if value != 1}
    kinds = ["rbf_tint", "rbf_h", "rbf_qint", "rbf_aeint", "rbf_eaint", "rbf_aint"]
    kinds += ["cbf_tint", "cbf_qint", "cbf_aeint", "cbf_eaint", "sbf_qint", "rbf_out"]
    assert divided == {f"backbone.bases.mlp_{kind}.weight" for kind in kinds}
    assert found.pop("backbone.bases.mlp_rbf_out.weight") == 1 / 4
    assert all(found[name] == pytest.approx(1 / 3) for name in divided & found.keys())


def test_parameters_without_gradient_get_zeros() -> None:
    model = tiny_model()
    finish_gradients(model)
    assert all((p.grad == 0).all() for p in model.parameters())


def test_the_average_starts_at_the_weights_and_follows_them() -> None:
    model = tiny_model()
    start = model.embedding.weight.detach().clone()
    average = MovingAverage(model, 0.9)
    with torch.no_grad():
        model.embedding.weight.add_(1.0)
    average.update(model)
    average.update(model)
    expected = start + (1 - 0.9**2)
    torch.testing.assert_close(average.values["embedding.weight"], expected)


def test_the_average_holds_every_parameter_and_no_buffer() -> None:
    model = tiny_model()
    names = {name for name, _ in model.named_parameters()}
    assert MovingAverage(model, 0.9).values.keys() == names


def test_averaged_weights_are_in_the_model_only_inside_the_block() -> None:
    model = tiny_model()
    raw = model.embedding.weight.detach().clone()
    average = MovingAverage(model, 0.9)
    average.values["embedding.weight"].zero_()
    with average.applied_to(model):
        assert (model.embedding.weight == 0).all()
    assert (model.embedding.weight == raw).all()
    assert (average.values["embedding.weight"] == 0).all()
