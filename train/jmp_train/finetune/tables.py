"""What a fine-tuning says about itself before the first step, as text."""

from __future__ import annotations

from collections.abc import Sequence

from jmp_calc.models.config import GraphRules
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig
from jmp_train.finetune.zero_shot import HeadScore
from jmp_train.groups import BLOCK_FACTORS, ParameterGroup
from jmp_train.text_table import text_table


def start_line(config: TrainConfig, source: JMPModel | None) -> str:
    """Return what the run starts from, on one line.

    Args:
        config: The run.
        source: Weights to start from; None: from scratch.
    """
    if source is None or config.start is None:
        return "start       random weights"
    info = source.info
    return (
        f"start       {info.get('name', config.start.weights)} "
        f"({info.get('licence', 'licence not stated')}), SHA-256 "
        f"{config.start.sha256[:12]}"
    )


def head_lines(config: TrainConfig, scores: Sequence[HeadScore]) -> str:
    """Return which head is kept, and how good those were that were compared.

    Args:
        config: The run.
        scores: The best first.
    """
    lines = []
    if scores:
        lines.append("heads of the weights, force errors before training (meV/Å):")
        lines += [f"  {s.name:12s}{1000 * s.force_mae:10.1f}" for s in scores]
        lines.append(f"  {'zero forces':12s}{1000 * scores[0].baseline:10.1f}")
    kept = dict(config.start.heads) if config.start is not None else {}
    for task in config.data.tasks:
        origin = f"kept, from head {kept[task.name]!r}" if task.name in kept else "new"
        lines.append(f"head        {task.name}: {origin}")
    return "\n".join(lines)


def graph_line(rules: GraphRules, *, change: float | None, old: float | None) -> str:
    """Return the graph rules on one line, and what it means if they were changed.

    Args:
        rules: Of the run.
        change: Relative change of the atom features; None: rules are as they were.
        old: Cutoff that the weights were trained with, Å; None: not known.
    """
    limit = f", N = {rules.max_neighbors}" if rules.max_neighbors else ""
    text = f"graphs      {rules.rules} rules, cutoff {rules.cutoff:g} Å{limit}"
    if change is None:
        return text
    before = "" if old is None else f" from {old:g} Å"
    return (
        f"{text}; changed{before}, which changes the features of the atoms by "
        f"{100 * change:.1f} % before any training"
    )


def group_table(groups: Sequence[ParameterGroup], config: TrainConfig) -> str:
    """Return the groups of parameters and their peak rates as a table.

    Args:
        groups: Of the run.
        config: The run.
    """
    rate = config.optim.learning_rate
    rows = [("group", "parameters", "factor", "peak rate")]
    rows += [
        (g.name, str(g.n_numbers), f"{g.factor:g}", f"{g.factor * rate:.2e}")
        for g in groups
    ]
    text = text_table(rows, is_number=(False, True, True, True))
    if len(groups) > 1 and config.model.num_blocks != len(BLOCK_FACTORS):
        text += (
            f"\n(factors of {config.model.num_blocks} blocks are interpolated by depth "
            f"between the published ones of {len(BLOCK_FACTORS)})"
        )
    if config.start is not None and config.start.frozen:
        text += f"\nfrozen      {', '.join(config.start.frozen)}"
    return text
