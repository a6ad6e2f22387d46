"""Compare this project's network with stored outputs of the published one.

    python tests/golden/compare.py CASE.npz [CASE.npz ...]

For every array of a case: name, shape, largest error relative to the largest magnitude
of the array, tolerance. Exits with 1 if any array is beyond its tolerance and with 2 if
a file is not a case. The weights file is named in the case and lies beside it.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jmp_calc.errors import JMPError
from jmp_calc.graph.batch import AtomGraph, collate
from jmp_calc.graph.build import graph_from_arrays, graph_from_edges
from jmp_calc.models.config import GraphRules, HeadSpec, ModelConfig
from jmp_calc.models.jmp import JMPModel
from jmp_calc.models.layout import JoinedEdges
from jmp_calc.models.state_dict import published_to_ours

RELATIVE = 1e-10
"""Float64 tolerance, relative to the largest magnitude of an array."""
NOISE_FACTOR = 20
"""Where collinear triples amplify rounding: accepted multiple of the stored noise."""
TIED_GAP = 1e-6
"""Below this gap (angstrom) at a neighbour limit, stored graphs are the input."""
COLLINEAR_QUADRUPLET = 1e-8
"""Quadruplet features of collinear cells, for a different correct dihedral."""
COLLINEAR_SINE = 1e-9
"""The published code cannot tell a smaller sine from zero."""
SAME_PLACE = 1e-6
"""Angstrom; atom images closer than this are one."""
PRETRAINING_TASKS = ("oc20", "oc22", "ani1x", "transition1x")
NEEDED = ("pos", "atomic_numbers", "tags", "cell", "pbc", "natoms", "energy", "forces")
"""Arrays without which a file is not a case."""
GRAPH_NAMES = {
    "main": "main",
    "atom_atom": "a2a",
    "atom_edge": "a2ee2a",
    "quadruplet": "qint",
}
_ENERGY_LAYER = re.compile(r"(output\.out_energy\.0|out_energy)\.\d+\.weight")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One array of a case against ours."""

    name: str
    shape: tuple[int, ...]
    error: float
    """Largest absolute difference over the largest magnitude of the stored array."""
    tolerance: float

    @property
    def is_within(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return bool(self.error <= self.tolerance)


class CaseError(ValueError):
    """A file is missing or is not what it should be."""


def load_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read all arrays of a file.

    Args:
        path: An npz file.
        needed: Names without which it is of no use here.

    Raises:
        CaseError: If there is no such file, or it is another kind of file.
    """
    if not path.is_file():
        raise CaseError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise CaseError(f"{path}: not an npz file")
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise CaseError(f"{path}: no {', '.join(missing)} in this file")
    return arrays


def load_case(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of a case."""
    return load_arrays(path, ("weights_file", "graph_settings", *NEEDED))


def load_model(path: Path) -> JMPModel:
    """Build the model of a ``weights__*.npz`` file, float64."""
    arrays = load_arrays(path, ("__config__",))
    config = json.loads(str(arrays["__config__"]))
    state = {
        name: torch.from_numpy(value)
        for name, value in arrays.items()
        if not name.startswith("__")
    }
    is_pretraining = any(name.startswith("output.") for name in state)
    tasks = PRETRAINING_TASKS if is_pretraining else ("task",)
    has_forces = any(
        name.startswith(("output.out_forces", "out_forces")) for name in state
    )
    fields = ModelConfig.__dataclass_fields__
    settings = {name: value for name, value in config.items() if name in fields}
    model_config = ModelConfig(
        **settings,
        rules="published",
        has_direct_forces=has_forces,
        num_head_layers=sum(
            _ENERGY_LAYER.fullmatch(name) is not None for name in state
        ),
    )
    heads = [
        HeadSpec(
            name=task,
            graph=GraphRules(rules="published", cutoff=1.0, max_neighbors=1),
            forces="direct" if has_forces else "gradient",
            has_direct_forces=has_forces,
            has_energy_bias=is_pretraining,
        )
        for task in tasks
    ]
    model = JMPModel(model_config, heads).double()
    model.load_state_dict(published_to_ours(state, task_names=tasks))
    return model.eval()


def graph_rules(case: dict[str, np.ndarray]) -> GraphRules:
    """Return the graph rules of a case."""
    settings = json.loads(str(case["graph_settings"]))
    return GraphRules(
        rules="published",
        cutoff=settings["cutoff"],
        max_neighbors=settings["max_neighbors"],
        is_periodic=settings["pbc"],
        radial_cutoff=12.0,
        quadruplet_tags=tuple(settings["qint_tags"]),
    )


def build_batch(case: dict[str, np.ndarray], *, from_stored_edges: bool) -> AtomGraph:
    """Return the batch of a case, searched by us or made of the stored edges."""
    rules, graphs, start = graph_rules(case), [], 0
    for system, n_atoms in enumerate(case["natoms"]):
        atoms = slice(start, start + int(n_atoms))
        inputs: dict[str, Any] = {
            "positions": case["pos"][atoms],
            "numbers": case["atomic_numbers"][atoms],
            "cell": case["cell"][system],
            "tags": case["tags"][atoms],
        }
        if from_stored_edges:
            edges = {
                ours: _stored_edges(case, theirs, start, int(n_atoms))
                for ours, theirs in GRAPH_NAMES.items()
            }
            graphs.append(graph_from_edges(**inputs, edges=edges, rules=rules))
        else:
            pbc = case["pbc"][system]
            graphs.append(graph_from_arrays(**inputs, pbc=pbc, rules=rules))
        start += int(n_atoms)
    return collate(graphs)


def _stored_edges(
    case: dict[str, np.ndarray], name: str, start: int, n_atoms: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source, target = case[f"graph.{name}.edge_index"]
    mine = (target >= start) & (target < start + n_atoms)
    shift = np.rint(case[f"graph.{name}.cell_offset"][mine]).astype(np.int64)
    return source[mine] - start, target[mine] - start, shift


def canonical_order(case: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return the order that sorts stored edges by target, source, shift."""
    source, target = case[f"graph.{name}.edge_index"]
    shift = np.rint(case[f"graph.{name}.cell_offset"])
    return np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], source, target))


def evaluate(model: JMPModel, graph: AtomGraph) -> dict[str, torch.Tensor]:
    """Run every head and record the intermediates, under the names of the cases."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(_recorder(found, name))
        for name, module in _recorded_modules(model)
    ]
    kind = next(iter(model.heads.values())).forces
    predictions = [model(graph, head, forces=kind) for head in model.heads]
    for handle in handles:
        handle.remove()
    found["energy"] = torch.stack([p.energy for p in predictions], -1)
    found["forces"] = torch.stack([p.forces for p in predictions], -1)
    if len(predictions) == 1:
        (only,) = predictions
        found |= {"energy": only.energy, "forces": only.forces}
        found["energy_per_atom"] = only.atom_energy
    found["h0"] = model.embedding(graph.numbers - 1)
    return {name: value.detach() for name, value in found.items()}


def _recorder(found: dict[str, torch.Tensor], name: str) -> Any:
    def record(_module: Any, _inputs: Any, output: Any) -> None:
        if name.endswith(".block"):
            found[name.replace(".block", ".h")] = output[0]
            found[name.replace(".block", ".m")] = output[1]
        else:
            found[name] = output

    return record


def _recorded_modules(model: JMPModel) -> Iterator[tuple[str, torch.nn.Module]]:
    backbone = model.backbone
    yield "m0", backbone.edge_embedding
    yield "out_mlp_E", backbone.energy_mlp
    if model.config.has_direct_forces:
        yield "out_mlp_F", backbone.force_mlp
    for ours, theirs in _BASES.items():
        yield f"bases.{theirs}", getattr(backbone.bases, ours)
    for i, block in enumerate(backbone.blocks):
        yield f"int_blocks.{i}.block", block
        for ours, theirs in _BLOCK_PARTS.items():
            yield f"int_blocks.{i}.{theirs}", getattr(block, ours)
    for i, output in enumerate(backbone.outputs):
        yield f"out_blocks.{i}.x_E", output.after_atom
        if model.config.has_direct_forces:
            yield f"out_blocks.{i}.x_F", output.force_scale


_BASES = {
    "mlp_rbf_h": "atom_update",
    "mlp_rbf_out": "output",
    "mlp_rbf_qint": "qint_rad",
    "mlp_rbf_tint": "e2e_rad",
    "mlp_rbf_aeint": "a2e_rad",
    "mlp_rbf_eaint": "e2a_rad",
    "mlp_rbf_aint": "a2a_rad",
    "mlp_cbf_tint": "e2e_cir_radW",
    "mlp_cbf_aeint": "a2e_cir_radW",
    "mlp_cbf_eaint": "e2a_cir_radW",
    "mlp_cbf_qint": "qint_cir_radW",
    "mlp_sbf_qint": "qint_sph_radW",
}
_BLOCK_PARTS = {
    "dense_ca": "dense_ca",
    "triplet": "trip_interaction",
    "quadruplet": "quad_interaction",
    "atom_to_edge": "atom_edge_interaction",
    "edge_to_atom": "edge_atom_interaction",
    "atom_to_atom": "atom_interaction",
    "atom_update": "atom_update",
}


def compare_case(path: Path) -> list[Comparison]:
    """Compare every array of a case that has a counterpart here."""
    case = load_case(path)
    model = load_model(path.parent / str(case["weights_file"]))
    graph = build_batch(case, from_stored_edges=is_tied(case))
    results = list(_compare_graphs(case, graph))
    if not all(r.is_within for r in results):
        return results
    found = evaluate(model, graph)
    for name, value in found.items():
        if name in case:
            edges = _edges_of(name)
            order = slice(None) if edges is None else canonical_order(case, edges)
            results.append(_compare(name, value.numpy(), case[name][order], case))
    return results


def _edges_of(name: str) -> str | None:
    """Return the edge set that is the first axis of an array; None for atoms."""
    if name in ("bases.a2e_rad", "bases.e2a_cir_radW"):
        return "a2ee2a"
    if name.startswith("bases.") or name in ("m0", "out_mlp_F"):
        return "main"
    parts = (".m", ".x_F", "dense_ca", "trip_interaction", "quad_interaction")
    return "main" if name.endswith((*parts, "atom_edge_interaction")) else None


def _compare_graphs(
    case: dict[str, np.ndarray], graph: AtomGraph
) -> Iterator[Comparison]:
    joined = JoinedEdges.of(graph)
    vectors = joined.split(joined.vectors(graph))
    for ours, theirs in GRAPH_NAMES.items():
        edges, order = getattr(graph, ours), canonical_order(case, theirs)
        stored = np.column_stack(
            [case[f"graph.{theirs}.edge_index"].T, case[f"graph.{theirs}.cell_offset"]]
        )[order]
        mine = np.column_stack([edges.source, edges.target, edges.shift])
        is_same = mine.shape == stored.shape and bool((mine == stored).all())
        yield _exact(f"graph.{theirs}.edges", stored.shape, is_same)
        if not is_same:
            continue
        # the atom_edge edges may be the main ones
        vector = vectors.get(ours, vectors["main"])
        distance = torch.linalg.vector_norm(vector, dim=1)
        unit = vector / distance[:, None]
        for name, value in (("distance", distance), ("vector", unit)):
            key = f"graph.{theirs}.{name}"
            yield _compare(key, value.numpy(), case[key][order], case)
    order = canonical_order(case, "main")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    swap = rank[case["id_swap"][order]]
    yield _exact("id_swap", swap.shape, bool((swap == graph.swap.numpy()).all()))


def _exact(name: str, shape: tuple[int, ...], is_same: bool) -> Comparison:
    error = 0.0 if is_same else float("inf")
    return Comparison(name=name, shape=shape, error=error, tolerance=0.0)


def has_collinear_atoms(case: dict[str, np.ndarray]) -> bool:
    """Whether c, a, b or d, b, a of some quadruplet lie on one line exactly.

    The stored features then hold rounding noise of the published angle, about 1e-8.
    """
    names = ("graph.main", "graph.qint")
    main_of, quad_of = (case[f"{name}.edge_index"] for name in names)
    main, quad = (
        case[f"{name}.vector"] * case[f"{name}.distance"][:, None] for name in names
    )
    for vector, b, a in zip(quad, *quad_of, strict=True):
        to_a, to_b = main[main_of[1] == a], main[main_of[1] == b]
        # b -> a itself and a -> b are not part of a quadruplet.
        c = to_a[np.linalg.norm(to_a - vector, axis=1) > SAME_PLACE]
        d = to_b[np.linalg.norm(to_b + vector, axis=1) > SAME_PLACE]
        others = np.concatenate([c, d])
        area = np.linalg.norm(np.cross(others, vector), axis=1)
        lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(vector)
        if bool((area < COLLINEAR_SINE * lengths).any()):
            return True
    return False


def is_tied(case: dict[str, np.ndarray]) -> bool:
    """Whether neighbours tie at a limit, so that the stored graphs are the input."""
    return float(case.get("max_neighbor_gap", np.inf)) < TIED_GAP


def _noise(name: str, case: dict[str, np.ndarray]) -> float:
    """Return the largest difference of energy or forces that rounding explains."""
    if not is_tied(case):
        return NOISE_FACTOR * float(case.get(f"rotation_noise_{name}", 0.0))
    # The stored noise is that of ties, which stored graphs take away. What is left is
    # the rounding of collinear quadruplets, and it cancels in the energy only.
    largest = float(np.abs(case[name]).max(initial=0.0))
    return COLLINEAR_QUADRUPLET * largest if name == "forces" else 0.0


def _compare(
    name: str, value: np.ndarray, stored: np.ndarray, case: dict[str, np.ndarray]
) -> Comparison:
    largest = float(np.abs(stored).max(initial=0.0))
    # An array of zeros has no scale. Features are of order one; for energies and forces
    # nothing but the stored noise is accepted then.
    scale, tolerance = largest or 1.0, RELATIVE
    if not largest and name in ("energy", "forces"):
        tolerance = 0.0
    if name.endswith("quad_interaction") and has_collinear_atoms(case):
        tolerance = COLLINEAR_QUADRUPLET
    if name in ("energy", "forces"):
        tolerance = max(tolerance, _noise(name, case) / scale)
    if value.shape != stored.shape:
        error = float("inf")
    else:
        error = float(np.abs(value - stored).max(initial=0.0)) / scale
    return Comparison(name=name, shape=stored.shape, error=error, tolerance=tolerance)


def main(paths: Sequence[str]) -> int:
    """Print a table per case; return 1 beyond a tolerance, 2 if a file is no case."""
    if not paths:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    status = 0
    for path in paths:
        sys.stdout.write(f"{path}\n")
        try:
            results = compare_case(Path(path))
        except (CaseError, JMPError) as error:
            sys.stderr.write(f"{error}\n")
            status = 2
            continue
        for r in results:
            mark = "" if r.is_within else "  BEYOND"
            numbers = f"{r.error:9.2e} {r.tolerance:9.2e}{mark}"
            sys.stdout.write(f"  {r.name:42s} {r.shape!s:18s} {numbers}\n")
        if not all(r.is_within for r in results):
            status = max(status, 1)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
