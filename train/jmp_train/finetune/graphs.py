"""Which graph rules a run on trained weights follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jmp_calc.errors import ArgumentError
from jmp_calc.models.config import GraphRules, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_calc.pretrained.loading import PUBLISHED_SUFFIXES
from jmp_train.recipes.finetune.recipe import published_graph
from jmp_train.recipes.nano import GRAPH

MOLECULE_CUTOFF = 8.0
"""Cutoff of the published tasks of molecules, Å."""
CRYSTAL_CUTOFF = 12.0
"""Cutoff of the published tasks of surfaces, Å."""


def is_published(source: JMPModel) -> bool:
    """Return whether weights are those of a published pre-training file.

    Args:
        source: Trained weights.
    """
    return Path(str(source.info.get("path", ""))).suffix in PUBLISHED_SUFFIXES


def graph_rules(
    source: JMPModel | None,
    *,
    kept: str | None,
    size: ModelConfig,
    is_periodic: bool,
    recipe: GraphRules | None = None,
) -> GraphRules:
    """Return the graph rules of a task.

    They come with the weights: with the kept head, or else with the default head.
    Published weights, and networks of the published sizes from scratch, take the
    cutoff of the recipe, or else that of the published task with such boundaries.
    Networks with smooth rules from scratch take the graphs of jmp-nano, because the
    published cutoffs would give them far too many neighbors.

    Args:
        source: Trained weights; None: from scratch.
        kept: Head of the weights that is kept; None: the head is new.
        size: Network of a run from scratch.
        is_periodic: Whether the data are periodic.
        recipe: Graph rules of the recipe; None: there is no recipe.
    """
    if source is None and size.rules == "smooth":
        return GRAPH
    published = recipe or published_graph(
        CRYSTAL_CUTOFF if is_periodic else MOLECULE_CUTOFF, is_periodic=is_periodic
    )
    if source is None:
        return published
    if kept is not None:
        return source.heads[kept].graph
    if is_published(source):
        return published
    heads = sorted(source.heads.values(), key=lambda spec: not spec.is_default)
    return heads[0].graph


def changed_rules(
    rules: GraphRules, *, cutoff: float | None, max_neighbors: int | None
) -> GraphRules:
    """Return rules with another cutoff or neighbor setting, as the user asks.

    The cutoffs of all four graphs change in proportion.

    Args:
        rules: What they would be otherwise.
        cutoff: Of the main graph, Å; None: the same.
        max_neighbors: Neighbor setting N; None: the same.

    Raises:
        ArgumentError: If smooth rules are to have a neighbor setting.
    """
    if max_neighbors is not None:
        if rules.rules == "smooth":
            raise ArgumentError(
                "these weights follow the smooth rules, which know no limit of "
                "neighbors; leave out --max-neighbors"
            )
        rules = replace(rules, max_neighbors=max_neighbors, max_neighbors_by_size=())
    if cutoff is None:
        return rules
    ratio = cutoff / rules.cutoff

    def scaled(value: float | None) -> float | None:
        return None if value is None else ratio * value

    return replace(
        rules,
        cutoff=cutoff,
        atom_edge_cutoff=scaled(rules.atom_edge_cutoff),
        quadruplet_cutoff=scaled(rules.quadruplet_cutoff),
        atom_atom_cutoff=scaled(rules.atom_atom_cutoff),
    )
