"""From user data and weights to the configuration of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.config import NANO, GraphRules, S
from jmp_calc.models.jmp import JMPModel
from jmp_train.config import TrainConfig
from jmp_train.config_file import from_plain, to_plain
from jmp_train.data.store import Store, store_path
from jmp_train.finetune.graphs import changed_rules, graph_rules
from jmp_train.finetune.replay import parse_replay
from jmp_train.finetune.run import prepare_data
from jmp_train.finetune.settings import FinetuneSettings
from jmp_train.finetune.userplan import UserData, UserPlan, plan_user_run
from jmp_train.finetune.zero_shot import (
    HeadScore,
    best_head,
    candidate_heads,
    feature_change,
    find_head,
    residual_references,
    score_heads,
)
from jmp_train.groups import layer_factors
from jmp_train.recipes.nano import GRAPH
from toys.finetuning import to_frame, toy_weights, write_user_file
from toys.training import REFERENCES, RULES, toy_crystals, toy_molecules

PUBLISHED = GraphRules(
    rules="published", cutoff=8.0, max_neighbors=30, is_periodic=False
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("finetune")


@pytest.fixture(scope="module")
def data(folder) -> UserData:
    """Twelve molecules with energies and forces, prepared."""
    path = write_user_file(folder / "mine.xyz", 12)
    return prepare_data(
        FinetuneSettings(data=(path,), out=folder / "run"), lambda _: None
    )


def plan_of(data: UserData, source: JMPModel | None, **changes: object) -> UserPlan:
    settings = FinetuneSettings(
        data=(Path("mine.xyz"),),
        out=data.folder.parent,
        device="cpu",
        weights="scratch" if source is None else "toy.safetensors",
        **changes,
    )
    return plan_user_run(settings, data, source)


def frames_data(folder: Path, frames: list, **changes: object) -> UserData:
    folder.mkdir()
    ase.io.write(folder / "mine.xyz", frames)
    settings = FinetuneSettings(
        data=(folder / "mine.xyz",), out=folder / "run", **changes
    )
    return prepare_data(settings, lambda _: None)


def test_a_plan_is_a_configuration_that_a_file_can_hold(data) -> None:
    config = plan_of(data, toy_weights()).config
    assert from_plain(TrainConfig, to_plain(config)) == config


def test_the_weights_bring_shape_graphs_and_rates_by_depth(data) -> None:
    config = plan_of(data, toy_weights()).config
    assert config.model == toy_weights().config
    assert config.data.tasks[0].graph == RULES
    assert config.start is not None
    assert config.start.layer_rates == layer_factors(config.model.num_blocks)


def test_a_run_from_scratch_has_no_start(data) -> None:
    plan = plan_of(data, None)
    assert plan.config.start is None
    assert plan.config.model == NANO
    assert plan.config.data.tasks[0].graph == GRAPH


def test_energies_and_forces_are_trained_on_and_their_loss_decides(data) -> None:
    config = plan_of(data, None).config
    (task,) = config.data.tasks
    assert (task.forces, task.energy_weight, task.force_weight) == ("gradient", 1, None)
    assert task.stress_weight == 0
    assert config.stopping is not None
    assert config.stopping.monitor == "loss"


def test_the_length_follows_from_the_number_of_systems(data) -> None:
    config = plan_of(data, None).config
    n_train = len(data.stores["train"])
    assert config.data.batch_systems == 2
    assert config.max_steps == 200 * -(-n_train // 2)


def test_what_the_user_says_counts(data) -> None:
    config = plan_of(
        data,
        None,
        max_steps=7,
        batch_systems=3,
        learning_rate=5e-4,
        energy_weight=0.5,
        force_weight=3.0,
        seed=9,
    ).config
    (task,) = config.data.tasks
    assert (config.max_steps, config.data.batch_systems, config.seed) == (7, 3, 9)
    assert config.optim.learning_rate == 5e-4
    assert (task.energy_weight, task.force_weight) == (0.5, 3.0)


def test_a_head_can_be_kept_by_name(data) -> None:
    plan = plan_of(data, toy_weights(), head="other")
    assert plan.head == "other"
    assert plan.config.start is not None
    assert plan.config.start.heads == (("mine", "other"),)


def test_a_head_that_knows_nothing_is_not_kept(data) -> None:
    """The toy weights are random: they are no better than zero forces."""
    plan = plan_of(data, toy_weights())
    assert {score.name for score in plan.scores} == {"qm7x", "other"}
    assert plan.head is None


def test_a_head_that_does_not_exist_is_an_error(data) -> None:
    with pytest.raises(ArgumentError, match=r"no head 'qm7' .* did you mean 'qm7x'"):
        plan_of(data, toy_weights(), head="qm7")


def test_the_references_go_into_the_configuration(data) -> None:
    plan = plan_of(data, None)
    assert plan.references is not None
    scales = plan.config.data.tasks[0].scales
    assert scales is not None
    assert dict(scales.references or ()) == plan.references.values
    assert set(plan.counts) == {1, 6, 7, 8}


def test_references_of_a_kept_head_are_fitted_to_what_it_leaves(data) -> None:
    """With random weights that is nearly the energy itself, of which the references
    are the largest part by far."""
    source = toy_weights()
    fit = residual_references(source, data.stores["train"], "qm7x")
    for number, value in REFERENCES.items():
        if number in fit.references:
            assert fit.references[number] == pytest.approx(value, abs=20)


def test_references_of_a_kept_head_cover_a_rare_element(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jmp_train.finetune.zero_shot.N_FITTED", 4)
    frames = [to_frame(s) for s in toy_molecules(12)]
    for place in (5, 11):
        frames[place].numbers[0] = 9
    found = frames_data(tmp_path / "rare", frames, val_fraction=0.1)
    fit = residual_references(
        toy_weights(elements=(1, 6, 7, 8, 9)), found.stores["train"], "qm7x"
    )
    assert set(fit.references) == set(found.counts)
    assert 9 in found.counts


def test_free_atoms_in_the_data_are_the_references_of_a_new_head(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_molecules(8)]
    for symbol, energy in {
        "H": -13.0,
        "C": -1030.0,
        "N": -1485.0,
        "O": -2040.0,
    }.items():
        atom = ase.Atoms(symbol)
        atom.info["REF_energy"] = energy
        frames.append(atom)
    data = frames_data(tmp_path / "free", frames)
    plan = plan_of(data, None)
    assert plan.references is not None
    assert plan.references.kind == "isolated-atoms"
    assert plan.references.values == {1: -13.0, 6: -1030.0, 7: -1485.0, 8: -2040.0}
    assert sum(len(store) for store in data.stores.values()) == 8


def test_stress_labels_are_trained_on(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_crystals(6)]
    for atoms in frames:
        atoms.info["REF_stress"] = [0.01, 0.02, 0.03, 0.0, 0.0, 0.0]
    data = frames_data(tmp_path / "stress", frames)
    task = plan_of(data, None).config.data.tasks[0]
    assert task.stress_weight == 1
    direct = plan_of(data, None, forces="direct")
    assert direct.config.data.tasks[0].stress_weight == 0
    assert "stress labels are not trained on" in direct.notes


def test_published_rules_take_no_mixture_of_crystals_and_molecules(tmp_path) -> None:
    frames = [to_frame(s) for s in [*toy_molecules(6), *toy_crystals(6)]]
    data = frames_data(tmp_path / "mixed", frames)
    with pytest.raises(DataError, match="some systems are periodic and others are not"):
        plan_of(data, None, size="S")
    assert plan_of(data, None).config.data.tasks[0].graph == GRAPH


def test_energies_alone_are_enough(tmp_path) -> None:
    frames = [to_frame(s, with_forces=False) for s in toy_molecules(8)]
    data = frames_data(tmp_path / "energies", frames)
    plan = plan_of(data, toy_weights())
    assert plan.config.data.tasks[0].forces is None
    assert plan.head is None
    assert plan.config.stopping is not None
    assert plan.config.stopping.monitor == "energy"
    assert "derivatives of its energy" in plan.notes[0]


def test_a_target_has_a_head_of_its_own(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_molecules(8)]
    for index, atoms in enumerate(frames):
        atoms.info["gap"] = 1.0 + index
    data = frames_data(tmp_path / "gap", frames, target="gap:eV")
    plan = plan_of(data, toy_weights(), target="gap:eV", reduction="mean")
    (task,) = plan.config.data.tasks
    assert (task.kind, task.target, task.reduction) == ("scalar", "gap", "mean")
    assert (task.forces, plan.references) == (None, None)
    assert plan.config.stopping is not None
    assert plan.config.stopping.monitor == "target"


def test_direct_forces_need_force_labels(tmp_path) -> None:
    frames = [to_frame(s, with_forces=False) for s in toy_molecules(8)]
    data = frames_data(tmp_path / "direct", frames)
    with pytest.raises(DataError, match=r"cannot be learned without force labels"):
        plan_of(data, None, forces="direct")


def test_a_replayed_task_keeps_its_head_and_is_mixed_evenly(data, toy_stores) -> None:
    source = toy_weights()
    plan = plan_of(data, source, replay=(f"{toy_stores}:qm7x",))
    config = plan.config
    assert [task.name for task in config.data.tasks] == ["mine", "qm7x"]
    assert config.data.temperature == float("inf")
    assert config.start is not None
    assert ("qm7x", "qm7x") in config.start.heads
    linked = Store(store_path(config.data.stores, "qm7x", "train"))
    original = Store(store_path(toy_stores, "qm7x", "train"))
    assert linked.header["fingerprint"] == original.header["fingerprint"]
    alone = plan_of(data, source).config.max_steps
    assert alone is not None
    assert config.max_steps == 2 * alone


def test_data_called_like_the_task_to_replay_are_an_error(data, toy_stores) -> None:
    with pytest.raises(ArgumentError, match=r"both called 'mine'; .* --name"):
        plan_of(data, toy_weights(heads=("mine",)), replay=(f"{toy_stores}:mine",))


def test_a_store_to_replay_that_is_not_there_is_an_error(data, tmp_path) -> None:
    with pytest.raises(DataError, match=r"no store .* to replay; --replay takes"):
        plan_of(data, toy_weights(), replay=(f"{tmp_path}:other",))


def test_a_task_to_replay_needs_a_head(data, toy_stores) -> None:
    with pytest.raises(ArgumentError, match=r"no head 'pbe' of energy and forces"):
        plan_of(data, toy_weights(), replay=(f"{toy_stores}:pbe",))


@pytest.mark.parametrize("word", ["stores", ":qm7x", "stores:"])
def test_what_to_replay_has_two_parts(word) -> None:
    with pytest.raises(ArgumentError, match=r"does not say what to replay"):
        parse_replay(word)


def test_candidates_cover_the_elements_and_the_boundaries() -> None:
    source = toy_weights()
    source.heads["other"] = replace(source.heads["other"], elements=(1, 8))
    assert candidate_heads(source, elements=(1, 6), is_periodic=True) == ["qm7x"]
    closed = replace(source.heads["qm7x"], graph=PUBLISHED)
    source.heads["qm7x"] = closed
    assert candidate_heads(source, elements=(1, 6), is_periodic=True) == []
    assert candidate_heads(source, elements=(1, 6), is_periodic=False) == ["qm7x"]


def test_scores_are_sorted_and_compared_with_zero_forces(data) -> None:
    scores = score_heads(toy_weights(), data.stores["train"], ["qm7x", "other"])
    assert scores[0].force_mae <= scores[1].force_mae
    assert scores[0].baseline > 0


@pytest.mark.parametrize(("mae", "best"), [(0.4, "a"), (0.6, None)])
def test_a_head_is_kept_if_it_is_better_than_half_as_wrong_as_zero(mae, best) -> None:
    assert best_head([HeadScore(name="a", force_mae=mae, baseline=1.0)]) == best


def test_no_head_to_compare_means_a_new_one() -> None:
    assert best_head([]) is None


def test_a_property_head_is_not_a_head_of_energies() -> None:
    with pytest.raises(ArgumentError, match=r"they have qm7x, other"):
        find_head(toy_weights(), "gap")


def test_the_same_graphs_do_not_change_the_features(data) -> None:
    systems = [data.stores["train"][0].to_atoms()]
    same = feature_change(toy_weights(), systems, old=RULES, new=RULES)
    shorter = replace(RULES, cutoff=2.0)
    other = feature_change(toy_weights(), systems, old=RULES, new=shorter)
    assert same == 0
    assert other > 0.001


def test_published_weights_take_the_cutoff_of_the_recipe_and_others_their_own() -> None:
    source = toy_weights()
    common = {"kept": None, "size": S, "is_periodic": False, "recipe": PUBLISHED}
    source.info["path"] = "jmp-s.pt"
    assert graph_rules(source, **common) == PUBLISHED
    source.info["path"] = "mine.safetensors"
    assert graph_rules(source, **common) == RULES


@pytest.mark.parametrize(("is_periodic", "cutoff"), [(False, 8.0), (True, 12.0)])
def test_without_a_recipe_published_rules_are_those_of_pretraining(
    is_periodic, cutoff
) -> None:
    rules = graph_rules(None, kept=None, size=S, is_periodic=is_periodic)
    assert (rules.cutoff, rules.is_periodic) == (cutoff, is_periodic)


def test_a_kept_head_brings_its_graphs() -> None:
    source = toy_weights()
    other = replace(RULES, cutoff=2.5)
    source.heads["other"] = replace(source.heads["other"], graph=other)
    assert graph_rules(source, kept="other", size=NANO, is_periodic=False) == other


def test_another_cutoff_scales_all_four_graphs() -> None:
    rules = changed_rules(GRAPH, cutoff=1.2 * GRAPH.cutoff, max_neighbors=None)
    assert rules.cutoffs == pytest.approx(
        {name: 1.2 * cutoff for name, cutoff in GRAPH.cutoffs.items()}
    )
    assert len(set(rules.cutoffs.values())) > 1


def test_smooth_rules_have_no_neighbor_setting() -> None:
    with pytest.raises(ArgumentError, match=r"smooth rules.*leave out --max-neighbors"):
        changed_rules(GRAPH, cutoff=None, max_neighbors=30)
