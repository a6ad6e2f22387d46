"""Parameters by depth: which learn slowly, which not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.models.config import ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig

EMBEDDING_FACTOR = 0.30
"""Factor of the atom embedding (training specification, section 2.4)."""
BLOCK_FACTORS = (0.55, 0.40, 0.30, 0.40, 0.55, 0.625)
"""Factors of the six blocks of the published large network; all else has 1."""
PARTS = ("backbone", "embedding", "bases", "block.K", "output.K", "heads")
"""Names of parts that can be frozen; K counts from 0."""

_PREFIXES = {
    "backbone": "backbone.",
    "embedding": "embedding.",
    "bases": "backbone.bases.",
    "heads": "head_layers.",
}
_BLOCK_PREFIXES = {"block": "backbone.blocks", "output": "backbone.outputs"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterGroup:
    """Parameters that learn at the same rate."""

    name: str
    """What they are: all, embedding, block 0, ... or rest."""
    factor: float
    """Factor on the learning rate of the run."""
    names: tuple[str, ...]
    """Names of the parameters in the model, in its order."""
    parameters: tuple[torch.nn.Parameter, ...]
    """The parameters, in the same order."""

    @property
    def n_numbers(self) -> int:
        """How many numbers they hold."""
        return sum(p.numel() for p in self.parameters)


def layer_factors(num_blocks: int) -> tuple[float, ...]:
    """Return the factors of embedding and blocks for a network of any depth.

    Six blocks have the published factors. Other depths are not published: block k of n
    gets the published U shape at the same relative depth k / (n - 1), interpolated
    linearly between the six; a single block stands in the middle.

    Args:
        num_blocks: Interaction blocks of the network.

    Source:
        Factors: training specification, section 2.4. Interpolation: ours.
    """
    depth = np.linspace(0, 1, num_blocks) if num_blocks > 1 else np.array([0.5])
    published = np.linspace(0, 1, len(BLOCK_FACTORS))
    factors = np.interp(depth, published, BLOCK_FACTORS)
    return (EMBEDDING_FACTOR, *(round(float(factor), 6) for factor in factors))


def parameter_groups(model: JMPModel, config: TrainConfig) -> list[ParameterGroup]:
    """Return what learns, and at which rates; the rest is frozen.

    Frozen parameters are in no group and need no gradient from then on. Without
    ``config.start`` or its ``layer_rates`` there is one group, ``all``.

    Args:
        model: The network.
        config: Of the run; ``start`` says what is frozen and the factors.

    Raises:
        ArgumentError: If a frozen part matches nothing, nothing is left to learn, or
            the factors do not go with the depth of the network.
    """
    start = config.start
    frozen = frozen_names(model, () if start is None else start.frozen)
    rates = () if start is None else start.layer_rates
    learning = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
        if name not in frozen:
            learning.append((name, parameter))
    if not learning:
        raise ArgumentError(
            "everything is frozen, so that nothing can be learned; freeze less than "
            f"{', '.join(start.frozen if start else ())}"
        )
    if not rates:
        return [_group("all", 1.0, learning)]
    n_blocks = model.config.num_blocks
    if len(rates) != n_blocks + 1:
        raise ArgumentError(
            f"layer_rates has {len(rates)} factors; a network of {n_blocks} blocks "
            f"needs {n_blocks + 1}: the embedding, then each block"
        )
    labels = ["embedding", *(f"block {k}" for k in range(n_blocks))]
    factors = dict(zip(labels, rates, strict=True)) | {"rest": 1.0}
    members = {
        label: [item for item in learning if layer_of(item[0]) == label]
        for label in factors
    }
    return [
        _group(label, factors[label], items)
        for label, items in members.items()
        if items
    ]


def layer_of(name: str) -> str:
    """Return the group of a parameter: embedding, block K or rest.

    Block k is interaction k and the output after it; block 0 also has the output
    before any interaction.

    Args:
        name: Name of the parameter.
    """
    if name.startswith("embedding."):
        return "embedding"
    found = re.match(r"backbone\.(blocks|outputs)\.(\d+)\.", name)
    if found is None:
        return "rest"
    number = int(found[2])
    if found[1] == "outputs":
        number = max(number - 1, 0)
    return f"block {number}"


def frozen_names(model: JMPModel, frozen: Sequence[str]) -> set[str]:
    """Return the names of the parameters that some words freeze.

    Args:
        model: The network.
        frozen: Parts (``PARTS``) or patterns of names with ``*``.

    Raises:
        ArgumentError: If a word is no part, or matches no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    result: set[str] = set()
    for word in frozen:
        if "*" in word:
            found = {name for name in names if fnmatchcase(name, word)}
        else:
            prefix = _prefix(word, model.config)
            found = {name for name in names if name.startswith(prefix)}
        if not found:
            raise ArgumentError(
                f"the pattern {word!r} matches no parameter; names look like "
                f"{names[0]}, {names[1]}, {names[-1]}"
            )
        result |= found
    return result


def _prefix(word: str, config: ModelConfig) -> str:
    if word in _PREFIXES:
        return _PREFIXES[word]
    part, _, number = word.partition(".")
    if part not in _BLOCK_PREFIXES or not number.isdecimal():
        raise ArgumentError(
            f"{word!r} is no part of the network; freeze {', '.join(PARTS)}, or a "
            "pattern of parameter names with *" + did_you_mean(word, PARTS)
        )
    n = config.num_blocks + (part == "output")
    if int(number) >= n:
        raise ArgumentError(
            f"there is no {word}; this network has {part}.0 to {part}.{n - 1}"
        )
    return f"{_BLOCK_PREFIXES[part]}.{int(number)}."


def _group(
    name: str, factor: float, items: Sequence[tuple[str, torch.nn.Parameter]]
) -> ParameterGroup:
    return ParameterGroup(
        name=name,
        factor=factor,
        names=tuple(name for name, _ in items),
        parameters=tuple(parameter for _, parameter in items),
    )
