"""Tables of parameter names: those of the published files and their counterparts here.

The tables below are the whole correspondence. Each row is one pattern of the published
state dict and its counterpart here; ``{b}``, ``{r}`` ... stand for the same number on
both sides, ``{task}`` for a task index there and the head's name here, ``{k}`` for a
layer index that is one larger there when a plain dense layer leads the list.

Some published names are second names of one tensor (``ALIASES``); here it exists once.

Source: GemNet-OC specification, section 11 (names) and 12.1 (aliases).
"""

from __future__ import annotations

import re
from typing import Literal

Layout = Literal["pretraining", "fine_tuning"]
"""The two published models: tasks by index under ``output.``, or one task without."""

PRETRAINING_NAMES = {
    "embedding.atom_embedding.weight": "embedding.weight",
    "output.out_energy.{task}.{i}.weight": "head_layers.{task}.energy.{i}.weight",
    "output.out_energy.{task}.{i}.bias": "head_layers.{task}.energy.{i}.bias",
    "output.out_forces.{task}.{i}.weight": "head_layers.{task}.forces.{i}.weight",
    "output.out_forces.{task}.{i}.bias": "head_layers.{task}.forces.{i}.bias",
}
"""Embedding and heads of the pre-training model, published name -> ours."""

FINE_TUNING_NAMES = {
    "embedding.weight": "embedding.weight",
    "out_energy.{i}.weight": "head_layers.{task}.energy.{i}.weight",
    "out_energy.{i}.bias": "head_layers.{task}.energy.{i}.bias",
    "out_forces.{i}.weight": "head_layers.{task}.forces.{i}.weight",
    "out_forces.{i}.bias": "head_layers.{task}.forces.{i}.bias",
}
"""Embedding and head of an energy and force fine-tuning model."""

BASES_NAMES = {
    "radial_basis.rbf.offset": "radial.offset",
    "radial_basis.rbf.temps": "radial.temps",
    "mlp_rbf_qint.linear.weight": "mlp_rbf_qint.weight",
    "mlp_cbf_qint.weight": "mlp_cbf_qint.weight",
    "mlp_sbf_qint.weight": "mlp_sbf_qint.weight",
    "mlp_rbf_aeint.linear.weight": "mlp_rbf_aeint.weight",
    "mlp_cbf_aeint.weight": "mlp_cbf_aeint.weight",
    "mlp_rbf_eaint.linear.weight": "mlp_rbf_eaint.weight",
    "mlp_cbf_eaint.weight": "mlp_cbf_eaint.weight",
    "mlp_rbf_aint.weight": "mlp_rbf_aint.weight",
    "mlp_rbf_tint.linear.weight": "mlp_rbf_tint.weight",
    "mlp_cbf_tint.weight": "mlp_cbf_tint.weight",
    "mlp_rbf_h.linear.weight": "mlp_rbf_h.weight",
    "mlp_rbf_out.linear.weight": "mlp_rbf_out.weight",
}
"""Below ``backbone.bases.`` on both sides."""

BLOCK_NAMES = {
    "dense_ca.linear.weight": "dense_ca.weight",
    "trip_interaction.dense_ba.linear.weight": "triplet.dense.weight",
    "trip_interaction.mlp_rbf.linear.weight": "triplet.radial.weight",
    "trip_interaction.scale_rbf.scale_factor": "triplet.scale_radial.factor",
    "trip_interaction.mlp_cbf.bilinear.linear.weight": "triplet.bilinear.weight",
    "trip_interaction.scale_cbf_sum.scale_factor": "triplet.scale_sum.factor",
    "trip_interaction.down_projection.linear.weight": "triplet.down.weight",
    "trip_interaction.up_projection_ca.linear.weight": "triplet.up_ca.weight",
    "trip_interaction.up_projection_ac.linear.weight": "triplet.up_ac.weight",
    "quad_interaction.dense_db.linear.weight": "quadruplet.dense.weight",
    "quad_interaction.mlp_rbf.linear.weight": "quadruplet.radial.weight",
    "quad_interaction.scale_rbf.scale_factor": "quadruplet.scale_radial.factor",
    "quad_interaction.mlp_cbf.linear.weight": "quadruplet.circular.weight",
    "quad_interaction.scale_cbf.scale_factor": "quadruplet.scale_circular.factor",
    "quad_interaction.mlp_sbf.bilinear.linear.weight": "quadruplet.bilinear.weight",
    "quad_interaction.scale_sbf_sum.scale_factor": "quadruplet.scale_sum.factor",
    "quad_interaction.down_projection.linear.weight": "quadruplet.down.weight",
    "quad_interaction.up_projection_ca.linear.weight": "quadruplet.up_ca.weight",
    "quad_interaction.up_projection_ac.linear.weight": "quadruplet.up_ac.weight",
    "atom_edge_interaction.dense_ba.linear.weight": "atom_to_edge.dense.weight",
    "atom_edge_interaction.mlp_rbf.linear.weight": "atom_to_edge.radial.weight",
    "atom_edge_interaction.scale_rbf.scale_factor": "atom_to_edge.scale_radial.factor",
    "atom_edge_interaction.mlp_cbf.bilinear.linear.weight": (
        "atom_to_edge.bilinear.weight"
    ),
    "atom_edge_interaction.scale_cbf_sum.scale_factor": "atom_to_edge.scale_sum.factor",
    "atom_edge_interaction.down_projection.linear.weight": "atom_to_edge.down.weight",
    "atom_edge_interaction.up_projection_ca.linear.weight": "atom_to_edge.up_ca.weight",
    "atom_edge_interaction.up_projection_ac.linear.weight": "atom_to_edge.up_ac.weight",
    "edge_atom_interaction.dense_ba.linear.weight": "edge_to_atom.dense.weight",
    "edge_atom_interaction.mlp_rbf.linear.weight": "edge_to_atom.radial.weight",
    "edge_atom_interaction.scale_rbf.scale_factor": "edge_to_atom.scale_radial.factor",
    "edge_atom_interaction.mlp_cbf.bilinear.linear.weight": (
        "edge_to_atom.bilinear.weight"
    ),
    "edge_atom_interaction.scale_cbf_sum.scale_factor": "edge_to_atom.scale_sum.factor",
    "edge_atom_interaction.down_projection.linear.weight": "edge_to_atom.down.weight",
    "edge_atom_interaction.up_projection_ca.linear.weight": "edge_to_atom.up_ca.weight",
    "atom_interaction.bilinear.linear.weight": "atom_to_atom.bilinear.weight",
    "atom_interaction.scale_rbf_sum.scale_factor": "atom_to_atom.scale_sum.factor",
    "atom_interaction.down_projection.linear.weight": "atom_to_atom.down.weight",
    "atom_interaction.up_projection.linear.weight": "atom_to_atom.up.weight",
    "layers_before_skip.{r}.dense_mlp.{j}.linear.weight": "before_skip.{r}.{j}.weight",
    "layers_after_skip.{r}.dense_mlp.{j}.linear.weight": "after_skip.{r}.{j}.weight",
    "atom_emb_layers.{r}.dense_mlp.{j}.linear.weight": "atom_residuals.{r}.{j}.weight",
    "atom_update.dense_rbf.linear.weight": "atom_update.radial.weight",
    "atom_update.scale_sum.scale_factor": "atom_update.scale_sum.factor",
    "atom_update.layers.0.linear.weight": "atom_update.dense_in.weight",
    "atom_update.layers.{k}.dense_mlp.{j}.linear.weight": (
        "atom_update.residuals.{k}.{j}.weight"
    ),
    "concat_layer.dense.linear.weight": "concat.weight",
    "residual_m.{r}.dense_mlp.{j}.linear.weight": "concat_residuals.{r}.{j}.weight",
}
"""Below ``backbone.int_blocks.{b}.`` there and ``backbone.blocks.{b}.`` here."""

OUTPUT_NAMES = {
    "dense_rbf.linear.weight": "radial.weight",
    "scale_sum.scale_factor": "scale_sum.factor",
    "layers.0.linear.weight": "dense_in.weight",
    "layers.{k}.dense_mlp.{j}.linear.weight": "residuals.{k}.{j}.weight",
    "seq_energy2.{r}.dense_mlp.{j}.linear.weight": "after_atom.{r}.{j}.weight",
    "seq_forces.{r}.dense_mlp.{j}.linear.weight": "force_residuals.{r}.{j}.weight",
    "dense_rbf_F.linear.weight": "force_radial.weight",
    "scale_rbf_F.scale_factor": "force_scale.factor",
}
"""Below ``backbone.out_blocks.{b}.`` there and ``backbone.outputs.{b}.`` here."""

BACKBONE_NAMES = {
    "bases.edge_emb.dense.linear.weight": "edge_embedding.weight",
    "out_mlp_E.out_mlp.0.linear.weight": "energy_mlp.0.weight",
    "out_mlp_E.out_mlp.{r}.dense_mlp.{j}.linear.weight": "energy_mlp.{r}.{j}.weight",
    "out_mlp_F.out_mlp.0.linear.weight": "force_mlp.0.weight",
    "out_mlp_F.out_mlp.{r}.dense_mlp.{j}.linear.weight": "force_mlp.{r}.{j}.weight",
}
"""The rest, below ``backbone.`` on both sides."""

RADIAL_ALIASES = (
    "radial_basis",
    "cbf_basis_qint.radial_basis",
    "sbf_basis_qint.radial_basis",
    "radial_basis_aeaint",
    "cbf_basis_aeint.radial_basis",
    "cbf_basis_eaint.radial_basis",
    "radial_basis_aint",
    "cbf_basis_tint.radial_basis",
)
"""Published modules below ``backbone.bases.`` that hold equal ``rbf.offset`` and
``rbf.temps``; the first stands for all."""

ALIASES = (
    *(
        (rf"(backbone\.bases\.){re.escape(name)}(\.rbf\.\w+)", r"\1radial_basis\2")
        for name in RADIAL_ALIASES[1:]
    ),
    (r"(backbone\.out_blocks\.\d+\.)seq_energy_pre(\..+)", r"\1layers\2"),
)
"""Second names of one tensor: pattern of the alias, the name that stands for it."""

COUNTERS = "task_steps."
"""Published names that are counters of the training run, not weights."""


def _backbone_rows() -> dict[str, str]:
    rows = {}
    for theirs, ours, table in (
        ("bases.", "bases.", BASES_NAMES),
        ("int_blocks.{b}.", "blocks.{b}.", BLOCK_NAMES),
        ("out_blocks.{b}.", "outputs.{b}.", OUTPUT_NAMES),
        ("", "", BACKBONE_NAMES),
    ):
        for there, here in table.items():
            rows[f"backbone.{theirs}{there}"] = f"backbone.{ours}{here}"
    return rows


LAYOUT_ROWS: dict[Layout, dict[str, str]] = {
    "pretraining": PRETRAINING_NAMES | _backbone_rows(),
    "fine_tuning": FINE_TUNING_NAMES | _backbone_rows(),
}
"""Every row of both layouts: published name -> ours."""
