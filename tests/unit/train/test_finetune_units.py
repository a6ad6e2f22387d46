"""Units of labels that statistics of the set do not show."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.models.jmp import JMPModel
from jmp_calc.units import HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from jmp_train.data.store import Store
from jmp_train.finetune.run import prepare_data
from jmp_train.finetune.settings import FinetuneSettings, RecipeSettings
from jmp_train.finetune.units import unit_doubts
from jmp_train.finetune.zero_shot import dataset_of, score_heads
from jmp_train.metrics.evaluate import predictions
from toys.finetuning import toy_weights

WATER = -76.4 * HARTREE
"""Total energy of water, eV."""


def waters(n: int = 6) -> list[Atoms]:
    frames = []
    for seed in range(n):
        atoms = Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    return frames


def prepared(folder: Path, frames: list[Atoms]) -> Store:
    ase.io.write(folder / "mine.xyz", frames)
    settings = FinetuneSettings(data=(folder / "mine.xyz",), out=folder / "run")
    return prepare_data(settings, lambda _: None).stores["train"]


def with_energies(unit: float) -> list[Atoms]:
    frames = waters()
    for atoms in frames:
        atoms.info["REF_energy"] = WATER / unit
    return frames


@pytest.mark.parametrize(
    ("unit", "name"),
    [(HARTREE, "hartree"), (KCAL_PER_MOL, "kcal/mol"), (KJ_PER_MOL, "kJ/mol")],
)
def test_energies_of_one_composition_show_their_unit(tmp_path, unit, name) -> None:
    (text,) = unit_doubts(prepared(tmp_path, with_energies(unit)), None, ())
    assert text == (
        f"total energies are those of free atoms in {name}; check that the labels were "
        "in eV and eV/Å, or convert them"
    )


def test_energies_in_electronvolt_are_not_doubted(tmp_path) -> None:
    assert unit_doubts(prepared(tmp_path, with_energies(1.0)), None, ()) == []


def with_forces_of(source: JMPModel, store: Store, factor: float) -> list[Atoms]:
    frames = []
    spec = source.heads["qm7x"]
    dataset = dataset_of(store, spec)
    for batch, found in predictions(
        source, dataset, range(len(store)), forces="gradient"
    ):
        for k in range(batch.n_systems):
            mine = batch.graph.system_index == k
            graph = batch.graph
            atoms = Atoms(graph.numbers[mine].numpy(), graph.positions[mine].numpy())
            atoms.arrays["REF_forces"] = factor * found.forces[mine].double().numpy()
            frames.append(atoms)
    return frames


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (1 / KCAL_PER_MOL, "forces are 23.1 times those of head 'qm7x'"),
        (1 / HARTREE, "forces are 0.0367 times those of head 'qm7x'"),
        (-1.0, "forces point against those of head 'qm7x', as gradients do"),
    ],
)
def test_forces_that_a_head_knows_show_unit_and_sign(tmp_path, factor, text) -> None:
    source = toy_weights()
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    store = prepared(tmp_path / "first", with_energies(1.0))
    frames = with_forces_of(source, store, factor)
    other = prepared(tmp_path / "second", frames)
    (found,) = unit_doubts(other, source, tuple(score_heads(source, other, ["qm7x"])))
    assert found.startswith(text)


def test_forces_like_those_of_a_head_are_not_doubted(tmp_path) -> None:
    source = toy_weights()
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    store = prepared(tmp_path / "first", with_energies(1.0))
    other = prepared(tmp_path / "second", with_forces_of(source, store, 2.0))
    scores = tuple(score_heads(source, other, ["qm7x"]))
    assert unit_doubts(other, source, scores) == []


@pytest.mark.parametrize("word", ["epochs", "max_steps", "batch_systems"])
def test_a_length_of_zero_is_not_the_default(word) -> None:
    option = {"max_steps": "steps", "batch_systems": "batch"}.get(word, word)
    text = rf"--{option} is 0; .* at least 1"
    run = Path("run")
    with pytest.raises(ArgumentError, match=text):
        FinetuneSettings(data=(Path("a.xyz"),), out=run, **{word: 0})
    with pytest.raises(ArgumentError, match=text):
        RecipeSettings(recipe="qmof", stores=Path("s"), out=run, **{word: 0})


def test_a_rate_of_zero_is_not_the_default() -> None:
    with pytest.raises(ArgumentError, match=re.escape("--lr is 0.0; it must be pos")):
        FinetuneSettings(data=(Path("a.xyz"),), out=Path("run"), learning_rate=0.0)
