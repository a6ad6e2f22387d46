"""What is measured of trained weights beyond the errors of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, store_path

if TYPE_CHECKING:
    from torch import Tensor

    from jmp_calc.models.jmp import JMPModel
    from jmp_train.data.batches import GraphDataset, TrainingBatch
    from jmp_train.metrics.terms import BatchPrediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Errors of single systems, so that they can be grouped afterwards.

    Units are those of ``METRICS``; NaN where not labelled.
    """

    energy: Float[np.ndarray, " systems"]
    """|error| of the energy per atom, meV/atom."""
    forces: Float[np.ndarray, " systems"]
    """Mean |error| of the force components of the free atoms of a system, meV/Å."""
    target: Float[np.ndarray, " systems"]
    """|error| of the target, in its unit."""
    n_free: Float[np.ndarray, " systems"]
    """Free atoms of each system."""

    def of(self, metric: str) -> Float[np.ndarray, " systems"]:
        """Return one kind of error.

        Args:
            metric: Key of ``METRICS``.
        """
        found: Float[np.ndarray, " systems"] = getattr(self, metric)
        return found

    def mean(self, metric: str) -> float:
        """Return the mean of one kind of error; NaN if no system has the label.

        As in the errors of a run, all force components count alike.

        Args:
            metric: Key of ``METRICS``.
        """
        values = self.of(metric)
        is_known = np.isfinite(values)
        weights = self.n_free if metric == "forces" else np.ones(len(values))
        total = float(weights[is_known].sum())
        return float((weights * values)[is_known].sum()) / total if total else np.nan


def read_samples(stores: Path, name: str, split: str, limit: int) -> list[Sample]:
    """Return up to so many systems of a part, always the same ones.

    Args:
        stores: Folder of the stores.
        name: Name of the set.
        split: ``train``, ``val`` or ``test``.
        limit: Largest number.
    """
    store = Store(store_path(stores, name, split))
    return [store[i] for i in some(len(store), limit)]


def some(n: int, limit: int) -> list[int]:
    """Return up to so many numbers below n, always the same ones.

    Args:
        n: Of how many.
        limit: Largest number of them.
    """
    chosen = np.random.default_rng(0).permutation(n)[:limit]
    return [int(i) for i in np.sort(chosen)]


def system_errors(
    models: Sequence[JMPModel], store: Store, head: str, *, limit: int | None = None
) -> Errors:
    """Return the errors of a head on labelled systems, one by one.

    Args:
        models: Networks with that head; of several, the mean of the predictions counts.
        store: Labelled systems.
        head: Head to use.
        limit: Largest number of systems; None: all.
    """
    from jmp_train.metrics.evaluate import predictions

    dataset = _dataset_of(models[0], store, head)
    samples = some(len(store), limit or len(store))
    columns = {name: np.full(len(store), np.nan) for name in _COLUMNS}
    streams = [
        predictions(model, dataset, samples, forces=model.heads[head].forces)
        for model in models
    ]
    for found in zip(*streams, strict=True):
        batch, said = found[0][0], [prediction for _, prediction in found]
        for name, values in _batch_errors(batch, said).items():
            columns[name][batch.index.cpu().numpy()] = values
    return Errors(**{name: values[samples] for name, values in columns.items()})


_COLUMNS = tuple(field.name for field in fields(Errors))


def _batch_errors(
    batch: TrainingBatch, said: Sequence[BatchPrediction]
) -> dict[str, Float[np.ndarray, " systems"]]:
    """Return the errors of the mean of several predictions; those that there are."""
    n_atoms = batch.n_atoms.cpu().numpy()
    first = said[0]
    if first.target is not None:
        target = _mean([s.target for s in said])[:, 0]
        return {"target": np.abs(target - batch.target.cpu().numpy())}
    gap = np.abs(_mean([s.energy for s in said]) - batch.energy.cpu().numpy())
    errors = {"energy": 1000 * gap / n_atoms}
    if first.forces is None:
        return errors
    free = ~batch.is_fixed.cpu().numpy()
    system = batch.graph.system_index.cpu().numpy()[free]
    gap = np.abs(_mean([s.forces for s in said]) - batch.forces.cpu().numpy())
    n_free = np.bincount(system, minlength=batch.n_systems).astype(np.float64)
    sums = np.bincount(
        system, weights=gap.mean(axis=1)[free], minlength=batch.n_systems
    )
    means = np.where(n_free > 0, sums / np.maximum(n_free, 1), np.nan)
    return errors | {"forces": 1000 * means, "n_free": n_free}


def _mean(values: Sequence[Tensor | None]) -> Float[np.ndarray, "..."]:
    known = [value.double().cpu().numpy() for value in values if value is not None]
    return np.asarray(np.mean(known, axis=0))


def _dataset_of(model: JMPModel, store: Store, head: str) -> GraphDataset:
    from jmp_train.config import TaskConfig
    from jmp_train.data.batches import GraphDataset

    spec = model.heads[head]
    target = spec.target
    task = TaskConfig(
        name=head,
        graph=spec.graph,
        kind=spec.kind,
        forces=spec.forces,
        target=None if target is None else target.name,
    )
    return GraphDataset({head: store}, {head: task})


def fitted_head(model: JMPModel, store: Store, head: str) -> JMPModel:
    """Return a model whose head has references fitted to another set, in place.

    Args:
        model: The network; its head is changed.
        store: Training systems with energies.
        head: The head.
    """
    from jmp_train.finetune.zero_shot import residual_references

    fit = residual_references(model, store, head)
    model.heads[head] = replace(model.heads[head], references=fit.references)
    return model


def pooled_features(
    weights: str | Path, samples: Sequence[Sample]
) -> Float[np.ndarray, "systems dim"]:
    """Return the mean of the atom features of each system.

    Graphs are those of the head whose domain is that of the systems, or of the first.

    Args:
        weights: Name or file.
        samples: Any systems.
    """
    import torch

    from jmp_calc.graph.build import build_graph
    from jmp_calc.pretrained import load_model

    model = load_model(weights)
    rows = []
    for sample in samples:
        wanted = "molecule" if not sample.is_periodic else None
        heads = sorted(model.heads.values(), key=lambda h: h.domain != wanted)
        graph = build_graph(sample.to_atoms(), heads[0].graph, tags=sample.tags)
        with torch.no_grad():
            rows.append(model.descriptors(graph).double().mean(dim=0).numpy())
    return np.array(rows)
