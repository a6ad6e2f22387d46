from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.models.weights import load_weights, save_weights
from jmp_train.cli import main
from jmp_train.data.store import store_path
from jmp_train.evaluation.models import Measured, open_measured
from jmp_train.evaluation.reservoir import Reservoir
from jmp_train.evaluation.scores import size_class
from jmp_train.evaluation.sets import choose_spec, file_set, store_sets
from jmp_train.export import export_weights
from jmp_train.trainer import Trainer
from toys.batches import toy_model
from toys.evaluation import save_toy, write_evaluation_stores, write_frames
from toys.training import toy_config, toy_molecules, write_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    return write_evaluation_stores(tmp_path_factory.mktemp("stores"))


@pytest.fixture
def measured() -> Measured:
    return Measured(model=toy_model(), name="toy", origin="toy.safetensors")


def test_a_weights_file_says_its_name_and_hash(tmp_path) -> None:
    path = save_toy(tmp_path)
    found = open_measured(str(path))
    assert (found.name, found.origin, found.step) == ("toy", str(path), None)
    assert len(found.sha256) == 64


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    """A run that has ended, and whose weights file was finished afterwards."""
    folder = tmp_path_factory.mktemp("ended")
    for split, n in (("train", 4), ("val", 2), ("test", 3)):
        write_store(store_path(folder / "stores", "qm7x", split), toy_molecules(n))
    config = toy_config(folder / "stores", folder / "run", max_steps=2)
    config = replace(config, data=replace(config.data, tasks=config.data.tasks[:1]))
    Trainer.build(config).run()
    file = export_weights(config.out)
    model = load_weights(file)
    spec = model.heads["qm7x"]
    model.heads["qm7x"] = replace(spec, references={1: 7.0, 6: 7.0, 8: 7.0})
    save_weights(model, file)
    return config.out


def test_a_run_that_has_ended_is_measured_by_its_weights_file(ended) -> None:
    found = open_measured(str(ended))
    assert (found.run, found.step) == (ended, 2)
    assert found.origin.endswith(".safetensors")
    assert found.model.heads["qm7x"].references[1] == 7.0


def test_raw_weights_and_a_checkpoint_are_measured_as_they_are(ended) -> None:
    checkpoint = ended / "checkpoints" / "step-00000002"
    for found in (
        open_measured(str(ended), is_averaged=False),
        open_measured(str(checkpoint)),
    ):
        assert found.origin == str(checkpoint)
        assert found.model.heads["qm7x"].references[1] != 7.0


def test_a_run_that_goes_on_is_measured_by_its_last_checkpoint(ended, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(ended, run)
    (file,) = run.glob("*.safetensors")
    model = load_weights(file)
    model.info["training"]["step"] = 1
    save_weights(model, file)
    assert open_measured(str(run)).origin == str(run / "checkpoints" / "step-00000002")


def test_only_a_whole_evaluation_replaces_the_errors_of_the_run(ended) -> None:
    def evaluate(*words: str) -> bool:
        errors = ended / "errors-test.json"
        errors.write_text("of the run", encoding="utf-8")
        options = ("--no-pictures", "--device", "cpu", *words)
        assert main(["evaluate", str(ended), *options]) == 0
        return errors.read_text(encoding="utf-8") != "of the run"

    assert not evaluate("--limit", "1")
    assert not evaluate("--stores", str(ended.parent / "stores"), "--head", "qm7x")
    assert evaluate()


def test_all_stores_called_like_a_head_are_taken(measured, stores) -> None:
    found = store_sets(measured, stores, "test")
    assert [(s.name, s.head.name) for s in found] == [
        ("qm7x", "qm7x"),
        ("pbe", "pbe"),
        ("gap", "gap"),
        ("metal", "metal"),
    ]


def test_a_store_with_another_name_is_predicted_by_the_named_head(
    measured, stores
) -> None:
    (found,) = store_sets(
        measured, stores, "test", names=["rmd17-ethanol"], head="qm7x"
    )
    assert (found.name, found.head.name) == ("rmd17-ethanol", "qm7x")


def test_a_task_of_a_run_is_known_by_the_set_in_its_store(
    measured, stores, tmp_path
) -> None:
    config = toy_config(stores, tmp_path)
    task = replace(config.data.tasks[0], name="qm7x", store="rmd17-ethanol")
    config = replace(config, data=replace(config.data, tasks=(task,)))
    (found,) = store_sets(replace(measured, config=config), None, "test")
    assert (found.name, found.test_of) == ("qm7x", "rmd17-ethanol")


def test_only_the_test_part_is_known_as_one(measured, stores, tmp_path) -> None:
    for split in ("val", "test"):
        (tmp_path / f"qm7x-{split}").symlink_to(stores / "qm7x-test")
    found = [store_sets(measured, tmp_path, split)[0] for split in ("val", "test")]
    assert [each.test_of for each in found] == ["", "qm7x"]


def test_a_store_with_another_name_needs_a_head(measured, stores) -> None:
    with pytest.raises(ArgumentError, match=r"no head .*'rmd17-ethanol'.*--head: qm7x"):
        store_sets(measured, stores, "test", names=["rmd17-ethanol"])


def test_an_unknown_head_is_an_error_with_a_suggestion(measured) -> None:
    with pytest.raises(ArgumentError, match="did you mean 'qm7x'"):
        choose_spec(measured, "qm7", "rmd17-ethanol")


def test_weights_without_stores_or_data_are_an_error(measured) -> None:
    with pytest.raises(ArgumentError, match=r"--stores FOLDER .* or --data FILE"):
        store_sets(measured, None, "test")


def test_stores_of_which_none_is_called_like_a_head_are_listed(
    measured, stores, tmp_path
) -> None:
    (tmp_path / "other-test").symlink_to(stores / "rmd17-ethanol-test")
    with pytest.raises(ArgumentError, match=r"name it with --task, .*: other$"):
        store_sets(measured, tmp_path, "test")


def test_frames_of_a_file_become_a_set(measured, tmp_path) -> None:
    path = write_frames(tmp_path / "mine.extxyz", 3)
    with file_set(measured, [path], head="qm7x", out=tmp_path) as found:
        assert (found.name, len(found.dataset)) == ("mine", 3)
        assert found.dataset.sample(0).forces is not None
    assert [p.name for p in tmp_path.iterdir()] == ["mine.extxyz"]


def test_a_label_that_the_head_predicts_must_be_in_the_file(measured, tmp_path) -> None:
    path = write_frames(tmp_path / "mine.extxyz", 2)
    with (
        pytest.raises(DataError, match=r"none of the 2 frames has a value 'gap'"),
        file_set(measured, [path], head="gap", out=tmp_path),
    ):
        pass


def test_sizes_fall_into_classes() -> None:
    found = [size_class(n) for n in (1, 10, 11, 50, 200, 201)]
    assert found == ["1-10", "1-10", "11-20", "21-50", "101-200", "over 200"]


def test_a_reservoir_keeps_all_rows_that_fit() -> None:
    kept = Reservoir(10, 2)
    rows = np.arange(12.0).reshape(6, 2)
    kept.add(rows[:4])
    kept.add(rows[4:])
    np.testing.assert_array_equal(kept.rows, rows)


def test_a_reservoir_chooses_evenly_from_a_long_stream() -> None:
    kept = Reservoir(1000, 1)
    for start in range(0, 50_000, 100):
        kept.add(np.arange(start, start + 100.0)[:, None])
    assert (kept.n_seen, len(kept.rows)) == (50_000, 1000)
    # the mean of 1000 uniform numbers is known to 1 / sqrt(12000) = 0.9 % of the range
    assert kept.rows.mean() == pytest.approx(25_000, abs=4 * 0.0092 * 50_000)


def test_a_reservoir_never_holds_much_more_than_it_keeps() -> None:
    kept = Reservoir(50, 1)
    for _ in range(100):
        kept.add(np.zeros((40, 1)))
        assert len(kept._rows) <= 140
