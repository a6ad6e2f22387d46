"""A published recipe and weights -> the configuration of a run."""

from __future__ import annotations

from dataclasses import replace

import torch

from jmp_calc.errors import ArgumentError, DataError, did_you_mean
from jmp_calc.models.config import SIZES
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import Device, Precision, StartConfig, TrainConfig
from jmp_train.data.store import store_path
from jmp_train.devices import choose_device
from jmp_train.finetune.graphs import changed_rules, graph_rules
from jmp_train.finetune.settings import AUTO, NEW_HEAD, SCRATCH, RecipeSettings
from jmp_train.finetune.zero_shot import find_head
from jmp_train.groups import layer_factors
from jmp_train.recipes.finetune import FinetuneRecipe, finetune_recipe
from jmp_train.start import resolve_start


def plan_recipe_run(settings: RecipeSettings, source: JMPModel | None) -> TrainConfig:
    """Return the run of a recipe.

    Args:
        settings: Which recipe, and what is to be different from it.
        source: Weights to start from; None: from scratch.

    Raises:
        ArgumentError: If there is no such recipe, size, head or part.
        DataError: If the stores are not there.
    """
    recipe = finetune_recipe(
        settings.recipe, values=settings.values, fold=settings.fold
    )
    _check(settings, recipe)
    head = None if settings.head in (NEW_HEAD, AUTO) else settings.head
    if head is not None and source is not None:
        find_head(source, head)
    own = recipe.task.graph
    graph = changed_rules(
        graph_rules(
            source,
            kept=head,
            size=SIZES[settings.size],
            is_periodic=bool(own.is_periodic),
            recipe=own,
        ),
        cutoff=settings.cutoff,
        max_neighbors=settings.max_neighbors,
    )
    config = recipe.config(
        stores=settings.stores,
        out=settings.out,
        model=SIZES[settings.size] if source is None else source.config,
        graph=graph,
    )
    config = _with_overrides(config, settings)
    if source is None:
        return config
    rates = layer_factors(source.config.num_blocks)
    start = StartConfig(
        weights=settings.weights,
        heads=() if head is None else ((config.name, head),),
        frozen=settings.frozen,
        layer_rates=rates if settings.has_layer_rates else (),
    )
    return resolve_start(replace(config, start=start), source)


def _check(settings: RecipeSettings, recipe: FinetuneRecipe) -> None:
    if settings.size not in SIZES:
        raise ArgumentError(
            f"unknown size {settings.size!r}; choose from {', '.join(SIZES)}"
            + did_you_mean(settings.size, SIZES)
        )
    if settings.weights == SCRATCH and (
        settings.frozen or settings.head not in (NEW_HEAD, AUTO)
    ):
        raise ArgumentError(
            "a run from scratch has nothing to freeze and no head to keep; start from "
            "trained weights"
        )
    name = recipe.task.store or recipe.task.name
    path = store_path(settings.stores, name, "train")
    if not path.exists():
        family, _, variant = settings.recipe.partition(":")
        raise DataError(
            f"there is no store {path}; make it with 'jmp-train data prepare {family} "
            f"SOURCE --out {settings.stores}'"
            + (f" (--help says how to choose {variant})" if variant else "")
        )


def _with_overrides(config: TrainConfig, settings: RecipeSettings) -> TrainConfig:
    optim = replace(config.optim, ema_decay=settings.ema_decay)
    if settings.learning_rate is not None:
        optim = replace(optim, learning_rate=settings.learning_rate)
    data = replace(config.data, workers=settings.workers)
    if settings.batch_systems is not None:
        data = replace(data, batch_systems=settings.batch_systems)
    return replace(
        config,
        data=data,
        optim=optim,
        epochs=settings.epochs or config.epochs,
        max_steps=settings.max_steps,
        max_minutes=settings.max_minutes or config.max_minutes,
        precision=settings.precision or feasible(config.precision, settings.device),
        device=settings.device,
        seed=settings.seed,
    )


def feasible(precision: Precision, device: Device) -> Precision:
    """Return the arithmetic that stands for fp16 on a device.

    It is bf16 on GPUs that have it, which needs no scaling of the loss, and float32 on
    the CPU, where 16 bits save nothing.

    Args:
        precision: Of the recipe.
        device: Where to train.

    Source:
        Training specification, section 6.
    """
    if precision != "fp16":
        return precision
    if choose_device(device).type == "cpu":
        return "float32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
