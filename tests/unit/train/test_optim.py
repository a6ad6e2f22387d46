from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jmp_calc.models.config import HeadSpec
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import OptimConfig
from jmp_train.groups import ParameterGroup
from jmp_train.optim import (
    MovingAverage,
    build_optimizer,
    clip_gradients,
    finish_gradients,
    moments,
)
from jmp_train.recipes.smoke import TINY
from toys.training import RULES


def tiny_model(**changes: object) -> JMPModel:
    spec = HeadSpec(name="a", graph=RULES, forces="gradient")
    return JMPModel(replace(TINY, **changes), [spec])


def one_group(model: JMPModel) -> ParameterGroup:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return ParameterGroup(name="all", factor=1.0, names=names, parameters=parameters)


def test_the_optimizer_decays_all_parameters_of_a_group() -> None:
    model = tiny_model()
    optimizer = build_optimizer([one_group(model)], OptimConfig())
    (group,) = optimizer.param_groups
    assert len(group["params"]) == len(list(model.parameters()))
    assert (group["betas"], group["eps"]) == ((0.9, 0.95), 1e-8)
    assert (group["weight_decay"], group["amsgrad"]) == (0.1, False)


def test_moments_are_named_after_parameters_and_follow_the_optimizer() -> None:
    model = tiny_model()
    group = one_group(model)
    optimizer = build_optimizer([group], OptimConfig(betas=(0.5, 0.75)))
    found = moments(optimizer, [group])
    assert len(found) == 2 * len(group.names)
    for parameter in group.parameters:
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    assert (found["exp_avg.embedding.weight"] == 1.0).all()
    assert (found["exp_avg_sq.embedding.weight"] == 1.0).all()


def clipped(**limits: float | None) -> tuple[float, torch.Tensor]:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, -4.0])
    norm = clip_gradients([parameter], OptimConfig(**limits))
    return norm, parameter.grad


def test_gradients_are_clipped_by_norm_or_by_value_or_not_at_all() -> None:
    expected = {
        (1.0, None): [0.6, -0.8],
        (None, 3.5): [3.0, -3.5],
        (None, None): [3.0, -4.0],
    }
    for (by_norm, by_value), gradient in expected.items():
        norm, found = clipped(clip_norm=by_norm, clip_value=by_value)
        assert norm == 5.0
        assert found.tolist() == pytest.approx(gradient, rel=1e-6)


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


def test_the_scale_of_the_loss_is_taken_out_of_the_gradients() -> None:
    model = tiny_model()
    model.embedding.weight.grad = torch.full_like(model.embedding.weight, 8.0)
    finish_gradients(model, 0.25)
    assert (model.embedding.weight.grad == 2.0).all()


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
