"""Losses and steps of mixed batches, against the formulas written out system by system.

The reference evaluates one system at a time with the network itself, in float64, and
follows the training specification, sections 1.4, 1.8, 2.2 and 2.3.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.data import atomic_numbers

from jmp_train.config import OptimConfig, TaskConfig, TrainConfig
from jmp_train.data.batches import TrainingBatch
from jmp_train.objective import Divisors
from jmp_train.trainer import Trainer
from toys.joined import join_systems
from toys.steps import fed_step
from toys.training import RULES, toy_config, toy_crystals, toy_molecules, write_store

OPTIM = OptimConfig(
    learning_rate=1e-2,
    weight_decay=0.3,
    warmup_steps=3,
    clip_norm=0.5,
    ema_decay=0.75,
)
TASKS = (
    TaskConfig(name="a", store="qm7x", graph=RULES, energy_weight=1.5),
    TaskConfig(name="b", store="pbe", graph=RULES, force_weight=80.0),
    TaskConfig(name="c", store="qm7x", graph=RULES, force_weight=15.0),
    TaskConfig(name="d", store="pbe", graph=RULES, force_weight=14.0),
)
# Ten molecules and five crystals of each store: two systems of a, two of b, ...
MIXED = (0, 1, 11, 12, 16, 26)
"""Samples of all four tasks."""


def four_tasks(stores: Path, out: Path, *, forces: str = "gradient") -> TrainConfig:
    config = toy_config(stores, out, precision="float64", optim=OPTIM, scale_batches=0)
    tasks = tuple(replace(task, forces=forces) for task in TASKS)
    model = replace(config.model, has_direct_forces=forces == "direct")
    data = replace(config.data, tasks=tasks)
    return replace(config, data=data, model=model)


@pytest.fixture
def config(toy_stores: Path, tmp_path: Path) -> TrainConfig:
    return four_tasks(toy_stores, tmp_path / "run")


def terms_by_hand(
    trainer: Trainer, batch: TrainingBatch
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """Weighted energy error, force errors of the atoms, and beta, of each system."""
    config, found = trainer.config, []
    for index in batch.index.tolist():
        item = join_systems([trainer.dataset[index]])
        task = config.task(item.head[0])
        statistics = trainer.statistics[task.name]
        energy_scale = force_scale = statistics.force_rms
        if config.forces == "direct":
            energy_scale = statistics.energy_std
        numbers = item.graph.numbers.tolist()
        energy = item.energy - sum(statistics.references[z] for z in numbers)
        out = trainer.model(
            item.graph, task.name, forces=config.forces, create_graph=True
        )
        delta = task.energy_weight * (out.energy[0] - energy[0] / energy_scale).abs()
        errors = (out.forces.double() - item.forces / force_scale + 1e-6).norm(dim=1)
        beta = task.force_weight or statistics.mean_atoms
        found.append((delta, errors, beta))
    return found


def loss_by_hand(trainer: Trainer, batch: TrainingBatch) -> torch.Tensor:
    terms = terms_by_hand(trainer, batch)
    energy = sum(delta for delta, _, _ in terms) / len(terms)
    if trainer.config.reduction == "structure":
        forces = sum(beta * errors.mean() for _, errors, beta in terms) / len(terms)
    else:
        n_atoms = sum(len(errors) for _, errors, _ in terms)
        forces = sum(beta * errors.sum() for _, errors, beta in terms) / n_atoms
    return energy + forces


def divisors(trainer: Trainer, batch: TrainingBatch) -> Divisors:
    systems, atoms = trainer.maker.objective.counts(batch)
    return Divisors(systems=float(systems), atoms=float(atoms))


def loss_of(trainer: Trainer, batch: TrainingBatch) -> torch.Tensor:
    return trainer.maker.objective(batch, divisors(trainer, batch))[0]


@pytest.mark.parametrize("forces", ["gradient", "direct"])
@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_loss_and_gradient_of_four_tasks_are_those_of_the_formulas(
    toy_stores, tmp_path, reduction, forces
) -> None:
    config = four_tasks(toy_stores, tmp_path / "run", forces=forces)
    trainer = Trainer.build(replace(config, reduction=reduction))
    batch = join_systems([trainer.dataset[i] for i in MIXED])
    assert set(batch.head) == {"a", "b", "c", "d"}
    parameters = list(trainer.model.parameters())
    expected = loss_by_hand(trainer, batch)
    found = loss_of(trainer, batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    a = torch.autograd.grad(found, parameters)
    b = torch.autograd.grad(
        expected, parameters, materialize_grads=True, allow_unused=True
    )
    # sums over edges in another order: about 1e-15 times the largest gradient
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


def clipped_gradients(trainer: Trainer, batch: TrainingBatch) -> list[torch.Tensor]:
    parameters = dict(trainer.model.named_parameters())
    gradients = torch.autograd.grad(
        loss_by_hand(trainer, batch),
        list(parameters.values()),
        materialize_grads=True,
        allow_unused=True,
    )
    n_blocks = trainer.config.model.num_blocks
    uses = {
        name: n_blocks + (name == "backbone.bases.mlp_rbf_out.weight")
        for name in parameters
        if name.startswith("backbone.bases.mlp_")
    }
    scaled = [
        gradient / uses.get(name, 1)
        for name, gradient in zip(parameters, gradients, strict=True)
    ]
    norm = math.sqrt(sum(float((g**2).sum()) for g in scaled))
    assert norm > OPTIM.clip_norm  # or clipping is not tested
    return [g * (OPTIM.clip_norm / (norm + 1e-6)) for g in scaled]


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_two_optimizer_steps_equal_adamw_written_out(config, reduction) -> None:
    trainer = Trainer.build(replace(config, reduction=reduction))
    fed = fed_step(trainer, MIXED)
    parameters = list(trainer.model.parameters())
    average = [p.detach().clone() for p in parameters]
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    beta1, beta2 = OPTIM.betas
    for step, rate in enumerate((2e-3, 6e-3), start=1):
        before = [p.detach().clone() for p in parameters]
        gradients = clipped_gradients(trainer, fed.batches[0])
        result = trainer.train_step(fed)
        trainer.position = replace(trainer.position, step=step)
        assert result.learning_rate == pytest.approx(rate)
        for i, (p, g) in enumerate(zip(before, gradients, strict=True)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            change = (m[i] / (1 - beta1**step)) / (
                (v[i] / (1 - beta2**step)).sqrt() + OPTIM.eps
            )
            new = p * (1 - rate * OPTIM.weight_decay) - rate * change
            average[i] = 0.75 * average[i] + 0.25 * new
            torch.testing.assert_close(parameters[i], new, rtol=1e-6, atol=1e-9)
    found = list(trainer.average.values.values())
    torch.testing.assert_close(found, average, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_a_step_of_several_batches_is_the_step_of_the_joined_batch(
    config, reduction
) -> None:
    config = replace(config, reduction=reduction)
    parts, whole = Trainer.build(config), Trainer.build(config)
    a = parts.train_step(fed_step(parts, MIXED[:1], MIXED[1:]))
    b = whole.train_step(fed_step(whole, MIXED))
    assert a.loss == pytest.approx(b.loss, rel=1e-12)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-9)
    for x, y in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-8, atol=1e-12)


def test_as_published_each_batch_is_averaged_before_the_step(config) -> None:
    trainer = Trainer.build(replace(config, average="batches"))
    fed = fed_step(trainer, MIXED[:1], MIXED[1:])
    expected = [loss_by_hand(trainer, batch).item() for batch in fed.batches]
    result = trainer.train_step(fed)
    assert result.loss == pytest.approx(sum(expected) / 2, rel=1e-12)


def test_the_head_of_an_absent_task_has_zero_gradient_and_only_decays(config) -> None:
    trainer = Trainer.build(config)
    head = trainer.model.head_layers["d"]
    before = [p.detach().clone() for p in head.parameters()]
    rate = trainer.train_step(fed_step(trainer, (0, 11, 16))).learning_rate
    for old, new in zip(before, head.parameters(), strict=True):
        assert (new.grad == 0).all()
        torch.testing.assert_close(new, old * (1 - rate * OPTIM.weight_decay))


def test_without_a_batch_loss_and_gradients_are_zero(config) -> None:
    trainer = Trainer.build(config)
    loss, terms = trainer.maker.objective(None, Divisors(systems=1.0, atoms=1.0))
    loss.backward()
    assert (loss.item(), terms) == (0.0, None)
    assert all((p.grad == 0).all() for p in trainer.model.parameters())


def test_terms_of_the_tasks_sum_to_the_loss(config) -> None:
    trainer = Trainer.build(config)
    result = trainer.train_step(fed_step(trainer, MIXED[:2], MIXED[2:]))
    counts = {task: sums.n_systems for task, sums in result.tasks.items()}
    assert counts == {"a": 2, "b": 2, "c": 1, "d": 1}
    assert result.loss == pytest.approx(result.term("energy") + result.term("forces"))


# ---- parts of the loss that the toys do not have


def write_special(folder: Path) -> Path:
    """Water with and without labels, and crystals with stress; one atom is fixed."""
    molecules = toy_molecules(8)
    numbers = atomic_numbers["O"]
    fixed = [sample.numbers == numbers for sample in molecules]
    molecules = [
        replace(
            sample,
            fixed=fixed[i],
            energy=None if i == 1 else sample.energy,
            forces=None if i == 2 else sample.forces,
        )
        for i, sample in enumerate(molecules)
    ]
    crystals = [
        replace(
            sample, stress=0.01 * torch.eye(3, dtype=torch.float64).numpy() * (i + 1)
        )
        for i, sample in enumerate(toy_crystals(4))
    ]
    for split in ("train", "val", "test"):
        write_store(folder / f"special-{split}", molecules)
        write_store(folder / f"stressed-{split}", crystals)
    return folder


@pytest.fixture(scope="module")
def special_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_special(tmp_path_factory.mktemp("special"))


def special_config(stores: Path, out: Path, **changes: object) -> TrainConfig:
    config = toy_config(stores, out, precision="float64", scale_batches=0)
    tasks = (
        TaskConfig(name="special", graph=RULES),
        TaskConfig(name="stressed", graph=RULES, stress_weight=3.0),
    )
    return replace(config, data=replace(config.data, tasks=tasks), **changes)


@pytest.mark.parametrize("reduction", ["structure", "atom"])
def test_fixed_atoms_are_left_out_of_the_loss_and_of_its_divisor(
    special_stores, tmp_path, reduction
) -> None:
    config = special_config(special_stores, tmp_path, free_atoms_only=True)
    trainer = Trainer.build(replace(config, reduction=reduction))
    batch = join_systems([trainer.dataset[0]])  # water with its oxygen fixed
    (delta, errors, beta) = terms_by_hand(trainer, batch)[0]
    assert batch.is_fixed.tolist() == [True, False, False]
    expected = delta + beta * errors[1:].mean()
    assert loss_of(trainer, batch).item() == pytest.approx(expected.item(), rel=1e-12)


def test_systems_without_a_label_count_in_the_other_terms_only(
    special_stores, tmp_path
) -> None:
    trainer = Trainer.build(special_config(special_stores, tmp_path))
    batch = join_systems([trainer.dataset[i] for i in (0, 1, 2)])
    assert batch.has_energy.tolist() == [True, False, True]
    assert batch.has_forces.tolist() == [True, True, False]
    terms = terms_by_hand(trainer, batch)
    expected = terms[0][0] + terms[2][0]
    expected = expected + sum(beta * errors.mean() for _, errors, beta in terms[:2])
    loss = loss_of(trainer, batch)
    assert loss.item() == pytest.approx(expected.item() / 3, rel=1e-12)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in trainer.model.parameters())


def test_the_stress_term_is_the_error_in_units_of_the_spread_of_the_stress(
    special_stores, tmp_path
) -> None:
    trainer = Trainer.build(special_config(special_stores, tmp_path))
    batch = join_systems([trainer.dataset[9]])
    (delta, errors, beta) = terms_by_hand(trainer, batch)[0]
    out = trainer.model(
        batch.graph, "stressed", forces="gradient", stress=True, create_graph=True
    )
    spec = trainer.model.heads["stressed"]
    volume = torch.linalg.det(batch.graph.cell[0]).abs()
    stress = out.virial[0] * spec.energy_scale / volume
    error = (stress - batch.stress[0]).abs() / trainer.statistics["stressed"].stress_rms
    rows, columns = torch.triu_indices(3, 3)
    expected = delta + beta * errors.mean() + 3.0 * error[rows, columns].mean()
    assert loss_of(trainer, batch).item() == pytest.approx(expected.item(), rel=1e-12)
