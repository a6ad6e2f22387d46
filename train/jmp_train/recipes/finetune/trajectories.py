"""rMD17, MD22 and SPICE: trained on forces alone."""

from __future__ import annotations

from jmp_calc.models.config import ForceKind, GraphRules
from jmp_train.config import TaskConfig
from jmp_train.data.published import MD22
from jmp_train.recipes.finetune.recipe import (
    LEARNING_RATES,
    FinetuneRecipe,
    RecipeValues,
    published_graph,
)


def _force_task(
    store: str, graph: GraphRules, *, weight: float, forces: ForceKind = "gradient"
) -> TaskConfig:
    """Return a task without an energy term, whose energy head has no biases."""
    return TaskConfig(
        name=store,
        graph=graph,
        forces=forces,
        energy_weight=0.0,
        force_weight=weight,
        has_energy_bias=False,
    )


def rmd17(molecule: str, values: RecipeValues) -> FinetuneRecipe:
    """Return the recipe of one molecule of rMD17.

    Args:
        molecule: A key of ``published.RMD17``.
        values: Which published values.
    """
    is_paper = values == "jmp-paper"
    graph = published_graph(7.0, is_periodic=False, max_neighbors=100)
    return FinetuneRecipe(
        name=f"rmd17:{molecule}",
        title=f"rMD17, {molecule}: forces",
        task=_force_task(f"rmd17-{molecule}", graph, weight=10.0),
        monitor="forces",
        batch_systems=1 if is_paper else 4,
        precision="float32",
        learning_rate=LEARNING_RATES[values],
        epochs=100_000,
        plateau_patience=10 if is_paper else 25,
        stopping_patience=1000,
        min_learning_rate=1e-10,
    )


def md22(molecule: str, values: RecipeValues) -> FinetuneRecipe:
    """Return the recipe of one molecule of MD22.

    Two of the published runs have direct forces; the presets have gradient forces for
    all seven.

    Args:
        molecule: A key of ``published.MD22``.
        values: Which published values.
    """
    published = MD22[molecule]
    is_paper = values == "jmp-paper"
    return FinetuneRecipe(
        name=f"md22:{molecule}",
        title=f"MD22, {molecule}: forces",
        task=_force_task(
            f"md22-{molecule}",
            published_graph(12.0, is_periodic=False),
            weight=100.0,
            forces=published.forces if is_paper else "gradient",
        ),
        monitor="forces",
        batch_systems=published.batch_systems if is_paper else 4,
        precision=published.precision if is_paper else "fp16",
        learning_rate=LEARNING_RATES[values],
    )


def spice(subset: str, values: RecipeValues) -> FinetuneRecipe:
    """Return the recipe of one subset of SPICE.

    Args:
        subset: A key of ``published.SPICE``.
        values: Which published values.
    """
    return FinetuneRecipe(
        name=f"spice:{subset}",
        title=f"SPICE, {subset}: forces",
        task=_force_task(
            f"spice-{subset}", published_graph(12.0, is_periodic=False), weight=100.0
        ),
        monitor="forces",
        batch_systems=2 if values == "jmp-paper" else 1,
        precision="fp16",
        learning_rate=LEARNING_RATES[values],
    )
