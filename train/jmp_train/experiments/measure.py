"""What is measured of trained weights beyond the errors of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from jmp_train.data.sample import Sample
from jmp_train.data.store import Store, store_path

if TYPE_CHECKING:
    from jmp_calc.models.jmp import JMPModel
    from jmp_train.data.batches import GraphDataset


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

    def of(self, metric: str) -> Float[np.ndarray, " systems"]:
        """Return one kind of error.

        Args:
            metric: Key of ``METRICS``.
        """
        found: Float[np.ndarray, " systems"] = getattr(self, metric)
        return found


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

    spec = models[0].heads[head]
    dataset = _dataset_of(models[0], store, head)
    samples = some(len(store), limit or len(store))
    errors = {name: np.full(len(store), np.nan) for name in ("energy", "forces", "target")}
    streams = [
        predictions(model, dataset, samples, forces=spec.forces) for model in models
    ]
    for found in zip(*streams, strict=True):
        batch = found[0][0]
        said = [prediction for _, prediction in found]
        index = batch.index.cpu().numpy()
        if spec.target is not None:
            target = np.mean([s.target[:, 0].cpu().numpy() for s in said], axis=0)
            errors["target"][index] = np.abs(target - batch.target.cpu().numpy())
            continue
        energy = np.mean([s.energy.cpu().numpy() for s in said], axis=0)
        gap = np.abs(energy - batch.energy.cpu().numpy()) / batch.n_atoms.cpu().numpy()
        errors["energy"][index] = 1000 * gap
        if said[0].forces is not None:
            forces = np.mean([s.forces.cpu().numpy() for s in said], axis=0)
            gap = np.abs(forces - batch.forces.cpu().numpy()).mean(axis=1)
            errors["forces"][index] = 1000 * _means_of_free(
                gap,
                batch.graph.system_index.cpu().numpy(),
                batch.is_fixed.cpu().numpy(),
                n=batch.n_systems,
            )
    return Errors(**{name: values[samples] for name, values in errors.items()})


def _means_of_free(
    values: Float[np.ndarray, " atoms"],
    system: Int[np.ndarray, " atoms"],
    is_fixed: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    n: int,
) -> Float[np.ndarray, " systems"]:
    """Return the mean over the free atoms of each system; NaN if it has none."""
    free = ~is_fixed
    counts = np.bincount(system[free], minlength=n)
    sums = np.bincount(system[free], weights=values[free], minlength=n)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


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
