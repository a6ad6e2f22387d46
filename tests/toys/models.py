"""Networks with random weights, small enough for the contract of the calculator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from jmp_calc.models.config import (
    NANO,
    GraphRules,
    HeadKind,
    HeadSpec,
    ModelConfig,
    TargetSpec,
)
from jmp_calc.models.jmp import JMPModel

TINY = replace(
    NANO,
    num_blocks=1,
    emb_size_atom=8,
    emb_size_edge=8,
    emb_size_trip_in=4,
    emb_size_trip_out=4,
    emb_size_quad_in=4,
    emb_size_quad_out=4,
    emb_size_aint_in=4,
    emb_size_aint_out=4,
    num_output_afteratom=1,
    num_global_out_layers=1,
    num_spherical=5,
    num_radial=8,
    num_head_layers=3,
)
SMOOTH = GraphRules(cutoff=4.0, quadruplet_cutoff=3.0, atom_atom_cutoff=4.5)
PERIODIC = GraphRules(
    rules="published",
    cutoff=5.0,
    max_neighbors=120,
    is_periodic=True,
    radial_cutoff=12.0,
    quadruplet_tags=(1, 2),
)
ISOLATED = replace(PERIODIC, is_periodic=False)
ORGANIC = (1, 6, 7, 8)
REFERENCES = {number: -10.0 * number for number in range(1, 90)}


def spec(name: str, **fields: object) -> HeadSpec:
    """A head with what every head needs filled in."""
    settings = {"graph": SMOOTH, "forces": "gradient", "level_of_theory": f"{name}-DFT"}
    return HeadSpec(name=name, **{**settings, **fields})


def build(config: ModelConfig, *heads: HeadSpec, name: str = "toy") -> JMPModel:
    """A model whose output is large enough to see errors in it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = JMPModel(config, heads)
    for key, buffer in model.named_buffers():
        if key.endswith("factor"):
            buffer.fill_(2.0)
    model.info = {"name": name, "licence": "toy licence", "weights_sha256": "ab" * 32}
    return model


def smooth_model() -> JMPModel:
    """Our rules: gradient forces, one head per kind of structure and a second one."""
    return build(
        TINY,
        spec(
            "organic",
            elements=ORGANIC,
            references=REFERENCES,
            is_default=True,
            energy_scale=2.0,
            energy_shift=0.5,
        ),
        spec("radicals", elements=(*ORGANIC, 9), references=REFERENCES),
        spec("slabs", domain="surface", references=REFERENCES),
        spec("crystals", domain="bulk", references=REFERENCES),
    )


def published_model() -> JMPModel:
    """Published rules: direct forces, tags, no references."""
    direct = {"forces": "direct", "has_direct_forces": True}
    return build(
        replace(TINY, rules="published", has_direct_forces=True),
        spec("oc20", graph=PERIODIC, domain="surface", force_scale=0.5, **direct),
        spec("ani1x", graph=ISOLATED, elements=ORGANIC, energy_scale=3.0, **direct),
        name="toy-published",
    )


def sibling(seed: int, make: Callable[[], JMPModel] = smooth_model) -> JMPModel:
    """A model of the same build as another, as if trained from another start."""
    model = make()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.data += 0.1 * parameter.data.std(correction=0) * noise
    model.info = {**model.info, "name": f"toy-{seed}", "weights_sha256": f"{seed:064d}"}
    return model


TARGETS: dict[HeadKind, TargetSpec] = {
    "scalar": TargetSpec(
        name="gap",
        unit="eV",
        scale=0.5,
        shift=2.0,
        references={1: 0.1, 6: 0.2, 8: 0.4},
    ),
    "spatial_extent": TargetSpec(name="R_2_Abs", unit="a0^2", scale=3.0),
    "binary": TargetSpec(name="is_metal", reduction="mean"),
    "multiclass": TargetSpec(
        name="phase", reduction="max", classes=("fcc", "bcc", "hcp"), dropout=0.2
    ),
}
"""A target for every kind of head that predicts a property."""


def property_spec(kind: HeadKind, **fields: object) -> HeadSpec:
    """A head of this kind, named like it."""
    settings = {"name": kind, "kind": kind, "target": TARGETS[kind], "forces": None}
    return spec(**{**settings, **fields})


def property_model() -> JMPModel:
    """One head of every kind that predicts a property, and none for energies."""
    return build(TINY, *map(property_spec, TARGETS), name="toy-properties")


MODELS: dict[str, Callable[[], JMPModel]] = {
    "smooth": smooth_model,
    "published": published_model,
}
"""Models that the contract of the calculator is tested with."""
