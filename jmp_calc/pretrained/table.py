"""The models that have a name, and what is known about them without opening them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError, did_you_mean

BUNDLED = Path(__file__).parents[1] / "weights"
"""Folder of the weights files that the package carries."""

_PUBLISHED_URL = "https://jmp-iclr-datasets.s3.amazonaws.com/"
_PUBLISHED_LICENCE = "CC-BY-NC-4.0"
_PUBLISHED_HEADS = {
    "oc20": "an adsorbate on a metal or other inorganic surface; periodic",
    "oc22": "an oxide surface, with or without adsorbates; periodic",
    "ani1x": "organic molecules of H, C, N and O near their equilibrium",
    "transition1x": "organic molecules of H, C, N and O along reactions",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A weights file with a name."""

    name: str
    """What ``load_model`` and ``--model`` accept."""
    file: str
    """Name of the file, in the package or in the cache folder."""
    url: str | None
    """Where it is published; None: it is part of the package."""
    size_bytes: int | None
    """Size of the published file; None: not known before the download."""
    licence: str
    """Licence of the weights, which need not be that of the code."""
    description: str
    """One line that helps to choose."""
    heads: Mapping[str, str] | None
    """What each head is for, by name; None: written in the file itself."""

    @property
    def is_bundled(self) -> bool:
        """Whether the package carries the file, so that it is never downloaded."""
        return self.url is None


PRETRAINED: dict[str, Pretrained] = {
    model.name: model
    for model in (
        Pretrained(
            name="jmp-nano",
            file="jmp-nano.safetensors",
            url=None,
            size_bytes=None,
            licence="MIT",
            description="bundled, small and fast: a demonstration and a starting point",
            heads=None,
        ),
        Pretrained(
            name="jmp-small",
            file="jmp-s.pt",
            url=_PUBLISHED_URL + "jmp-s.pt",
            size_bytes=None,
            licence=_PUBLISHED_LICENCE,
            description="the published JMP-S: a starting point for fine-tuning",
            heads=_PUBLISHED_HEADS,
        ),
        Pretrained(
            name="jmp-large",
            file="jmp-l.pt",
            url=_PUBLISHED_URL + "jmp-l.pt",
            size_bytes=3_749_529_931,
            licence=_PUBLISHED_LICENCE,
            description="the published JMP-L: the most accurate, a large download",
            heads=_PUBLISHED_HEADS,
        ),
    )
}
"""Every named model."""


def find_pretrained(name: str) -> Pretrained:
    """Return the entry of a named model.

    Args:
        name: A key of ``PRETRAINED``.

    Raises:
        ArgumentError: If there is none of that name.
    """
    if name not in PRETRAINED:
        raise ArgumentError(
            f"unknown model {name!r}; choose one of {', '.join(PRETRAINED)}, or give "
            f"the path of a weights file{did_you_mean(name, PRETRAINED)}"
        )
    return PRETRAINED[name]
