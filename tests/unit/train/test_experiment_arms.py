"""Runs of an experiment: done once, resumed, and never dropped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from jmp_calc.errors import DataError
from jmp_train.config import StartConfig
from jmp_train.config_file import config_hash
from jmp_train.data.store import Store, store_path
from jmp_train.experiments.arms import (
    RESULT,
    Arm,
    StoppedError,
    fingerprints_of,
    headline,
    run_arms,
    weights_of,
)
from jmp_train.experiments.side_by_side import run_side_by_side
from jmp_train.experiments.subset import copy_systems, smaller_stores
from jmp_train.progress import Watcher
from toys.training import toy_config, toy_molecules, write_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arm-stores")
    for seed, (split, n) in enumerate((("train", 6), ("val", 2), ("test", 2))):
        write_store(store_path(folder, "qm7x", split), toy_molecules(n, seed=seed))
    return folder


@pytest.fixture
def arm(stores, tmp_path) -> Arm:
    config = toy_config(stores, tmp_path / "first", max_steps=2)
    tasks = config.data.tasks[:1]
    return Arm(
        name="first",
        config=replace(config, data=replace(config.data, tasks=tasks)),
        tags={"store": "qm7x"},
    )


def after(arm: Arm) -> Arm:
    config = replace(
        arm.config,
        out=arm.config.out.with_name("second"),
        start=StartConfig(weights=""),
    )
    return Arm(name="second", config=config, after=arm)


def quiet(_line: str) -> None:
    """Nobody listens."""


def poisoned(trainer):
    """A training whose weights are not finite."""
    with torch.no_grad():
        trainer.model.embedding.weight.fill_(float("nan"))
    return trainer.run()


def test_a_finished_arm_is_not_run_again(arm) -> None:
    (first,) = run_arms([arm], quiet)
    assert first.errors["qm7x"]["n_systems"] == 2
    assert first.train_errors["qm7x"]["n_systems"] == 6
    times = {p: p.stat().st_mtime_ns for p in arm.config.out.rglob("*")}
    lines: list[str] = []
    (again,) = run_arms([arm], lines.append)
    assert not any("training" in line for line in lines)
    assert {p: p.stat().st_mtime_ns for p in arm.config.out.rglob("*")} == times
    assert again == first


def test_a_finished_arm_with_other_settings_or_data_is_refused(arm, stores) -> None:
    run_arms([arm], quiet)
    other = replace(arm, config=replace(arm.config, reduction="atom"))
    with pytest.raises(DataError, match=r"holds a run of first.*other settings"):
        run_arms([other], quiet)
    path = arm.config.out / RESULT
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["fingerprints"]["qm7x-val"] = "another"
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(DataError, match=r"with other data; choose another --out"):
        run_arms([arm], quiet)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"result.json is damaged.*trained again"):
        run_arms([arm], quiet)


def test_an_arm_starts_from_the_weights_of_the_one_before(arm) -> None:
    first, second = run_arms([arm, after(arm)], quiet)
    assert weights_of(arm).is_file()
    assert second.n_parameters == first.n_parameters
    start = json.loads((second_checkpoint(arm)).read_text(encoding="utf-8"))
    assert start["facts"]["config"]["start"]["weights"] == first.weights


def second_checkpoint(arm: Arm):
    folder = after(arm).config.out / "checkpoints"
    return max(folder.glob("step-*")) / "facts.json"


def test_an_interrupted_arm_stops_everything_and_goes_on_later(arm) -> None:
    def interrupted(trainer):
        return trainer.run(Watcher(should_stop=lambda: True))

    with pytest.raises(StoppedError, match="the same command goes on from here"):
        run_arms([arm], quiet, train=interrupted)
    assert not (arm.config.out / RESULT).exists()
    (result,) = run_arms([arm], quiet)
    assert result.n_steps == 2


def test_a_line_of_the_log_that_a_kill_cut_off_does_not_stop_an_arm(arm) -> None:
    def killed_before(trainer):
        with (trainer.config.out / "log.jsonl").open("a") as file:
            file.write('{"kind": "evalua\n')
        return trainer.run()

    (result,) = run_arms([arm], quiet, train=killed_before)
    assert [point["step"] for point in result.curve] == [0]
    assert result.n_steps == 2


def test_an_arm_whose_loss_is_not_finite_stays_with_its_problem(arm) -> None:
    config = replace(arm.config, nonfinite_limit=1)
    arm = replace(arm, config=config)
    lines: list[str] = []
    first, second = run_arms([arm, after(arm)], lines.append, train=poisoned)
    assert "not finite" in first.problem
    assert (first.errors, first.weights) == ({}, "")
    assert "no weights of first" in second.problem
    assert lines[1].startswith("[1/2] first, qm7x, seed 0: FAILED: step 0 has loss")
    known = run_arms([arm, after(arm)], quiet)
    assert [r.problem for r in known] == [first.problem, second.problem]


def elsewhere(arm: Arm, folder) -> Arm:
    return replace(arm, config=replace(arm.config, out=folder / arm.config.out.name))


def test_arms_side_by_side_give_what_they_give_one_after_the_other(
    arm, tmp_path
) -> None:
    other = replace(arm.config, seed=1, out=tmp_path / "other")
    arms = [arm, after(arm), replace(arm, name="other", config=other)]
    steps: list[tuple[int, int]] = []
    lines: list[str] = []
    together = run_side_by_side(
        arms, lines.append, processes=2, on_steps=lambda *n: steps.append(n)
    )
    assert [r.name for r in together] == ["first", "second", "other"]
    assert len(lines) == 3
    assert lines[-1].startswith("[3/3] second")  # it waits for the first
    assert max(steps) <= (6, 6)
    first = elsewhere(arm, tmp_path / "alone")
    alone = run_arms([first, after(first)], quiet)
    for one, two in zip(together, alone, strict=False):
        assert one.errors == two.errors
        assert one.val_errors == two.val_errors
    assert run_side_by_side(arms, quiet, processes=2) == together


def test_arms_side_by_side_stop_with_a_checkpoint_and_go_on(arm) -> None:
    longer = replace(arm, config=replace(arm.config, max_steps=2000))

    def ask_to_stop(done: int, _total: int) -> None:
        if done:
            raise StoppedError("enough")

    with pytest.raises(StoppedError, match="enough"):
        run_side_by_side([longer], quiet, processes=2, on_steps=ask_to_stop)
    assert not (arm.config.out / RESULT).exists()
    (checkpoint,) = (arm.config.out / "checkpoints").glob("step-*")
    assert 0 < int(checkpoint.name.split("-")[1]) < 2000


def test_the_hash_of_settings_knows_weights_by_their_content_alone(arm) -> None:
    def started(weights: str, sha256: str) -> str:
        start = StartConfig(weights=weights, sha256=sha256)
        return config_hash(replace(arm.config, start=start))

    assert started("/one/place.safetensors", "a") == started("/other.safetensors", "a")
    assert started("weights", "a") != started("weights", "b")
    assert started("one", "") != started("other", "")


def test_fingerprints_are_those_of_all_parts_that_there_are(arm) -> None:
    found = fingerprints_of(arm.config)
    assert list(found) == ["qm7x-train", "qm7x-val", "qm7x-test"]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"force_mae_eV_per_A": 0.0123}, "12.3 meV/Å"),
        ({"target_mae": 0.5, "target_unit": "eV"}, "0.5 eV"),
        ({"energy_mae_meV_per_atom": 3.0}, "3.00 meV/atom"),
        ({"force_mae_eV_per_A": None}, "no error"),
    ],
)
def test_the_main_error_is_said_in_its_unit(errors, words) -> None:
    assert headline(errors) == words


def test_a_smaller_set_has_fewer_systems_to_train_on_and_the_whole_test_part(
    stores, tmp_path
) -> None:
    folder = smaller_stores(stores, "qm7x", tmp_path, n_train=4, seed=0)
    sizes = {
        split: len(Store(store_path(folder, "qm7x", split)))
        for split in ("train", "val", "test")
    }
    assert sizes == {"train": 4, "val": 2, "test": 2}
    statistics = Store(store_path(folder, "qm7x", "train")).header["statistics"]
    assert statistics["n_systems"] == 4


def test_a_set_that_is_small_already_is_used_as_it_is(stores, tmp_path) -> None:
    assert smaller_stores(stores, "qm7x", tmp_path, n_train=6, seed=0) == stores


def test_a_copy_is_made_again_only_if_other_systems_are_wanted(
    stores, tmp_path
) -> None:
    whole, path = Store(store_path(stores, "qm7x", "train")), tmp_path / "qm7x-train"
    copy_systems(whole, [0, 1], path)
    before = (path / "header.json").stat().st_mtime_ns
    copy_systems(whole, [0, 1], path)
    assert (path / "header.json").stat().st_mtime_ns == before
    copy_systems(whole, [2, 3, 4], path)
    assert len(Store(path)) == 3
