from __future__ import annotations

import re
from pathlib import Path

import ase.io
import pytest

from jmp_calc.errors import DataError
from jmp_train.finetune.settings import FinetuneSettings
from jmp_train.finetune.userdata import open_data, part_sizes, task_name
from toys.finetuning import to_frame, write_user_file
from toys.training import toy_molecules


def settings(data: Path, **changes: object) -> FinetuneSettings:
    return FinetuneSettings(data=(data,), out=data.parent / "run", **changes)


def sizes(*args: object, **changes: object) -> tuple[int, int, int]:
    found = part_sizes(open_data(settings(*args, **changes)).splits)
    return found["train"], found["val"], found["test"]


def test_a_fifth_of_a_small_set_validates_and_none_tests(tmp_path) -> None:
    assert sizes(write_user_file(tmp_path / "mine.xyz", 20)) == (16, 4, 0)


def test_the_part_that_validates_can_be_said(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 20)
    assert sizes(path, val_fraction=0.5) == (10, 10, 0)


def test_the_parts_are_the_same_each_time(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 20)
    first, second = (open_data(settings(path)).splits for _ in range(2))
    assert first == second


def test_copies_of_a_structure_are_in_one_part(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_molecules(6)] * 3
    ase.io.write(tmp_path / "mine.xyz", frames)
    (splits,) = open_data(settings(tmp_path / "mine.xyz")).splits
    assert splits[:6] == splits[6:12] == splits[12:]


def test_files_that_validate_and_test_leave_all_data_to_train_on(tmp_path) -> None:
    files = {
        name: write_user_file(tmp_path / f"{name}.xyz", n, seed=seed)
        for seed, (name, n) in enumerate({"mine": 9, "v": 3, "t": 2}.items())
    }
    found = sizes(files["mine"], val=files["v"], test=files["t"])
    assert found == (9, 3, 2)


def test_parts_that_the_frames_name_are_kept(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_molecules(6)]
    for atoms, split in zip(frames, ("train",) * 4 + ("val", "test"), strict=True):
        atoms.info["split"] = split
    ase.io.write(tmp_path / "mine.xyz", frames)
    assert sizes(tmp_path / "mine.xyz") == (4, 1, 1)


def test_named_parts_without_one_that_validates_are_an_error(tmp_path) -> None:
    frames = [to_frame(s) for s in toy_molecules(3)]
    for atoms in frames:
        atoms.info["split"] = "train"
    ase.io.write(tmp_path / "mine.xyz", frames)
    with pytest.raises(DataError, match=r"train 3, val 0, .* but none validates"):
        open_data(settings(tmp_path / "mine.xyz"))


def test_a_single_structure_is_too_little(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 1)
    with pytest.raises(DataError, match=r"1 different structures, which is too few"):
        open_data(settings(path, val_fraction=0.5))


def test_labels_that_are_called_otherwise_in_another_file_are_an_error(
    tmp_path,
) -> None:
    train = write_user_file(tmp_path / "mine.xyz", 4)
    val = write_user_file(tmp_path / "v.xyz", 2, seed=1, with_forces=False)
    with pytest.raises(
        DataError, match=r"forces in .*v\.xyz is absent, and in the training data cal"
    ):
        open_data(settings(train, val=val))


@pytest.mark.parametrize(
    ("file", "given", "name"),
    [
        ("mine.extxyz", None, "mine"),
        ("my set.2.xyz", None, "my-set"),
        ("train.xyz", None, "train-data"),
        ("values.xyz", None, "values-data"),
        ("mine.xyz", "Pt slabs, v1.2", "Pt-slabs-v1-2"),
    ],
)
def test_the_task_is_called_after_the_data(file, given, name) -> None:
    assert task_name(settings(Path(file), name=given)) == name


def test_structures_that_test_and_are_trained_on_are_counted(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 10)
    (note,) = open_data(settings(path, test=path)).notes
    assert re.match(r"8 of the 10 structures of the test part are in the train", note)


def test_parts_without_common_structures_need_no_note(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 10)
    other = write_user_file(tmp_path / "other.xyz", 10, seed=1)
    assert open_data(settings(path, val=other)).notes == ()


def test_named_parts_that_share_a_structure_are_noted(tmp_path) -> None:
    frames = [to_frame(s) for _ in range(2) for s in toy_molecules(3)]
    for atoms, split in zip(frames, ("train",) * 3 + ("val",) * 3, strict=True):
        atoms.info["split"] = split
    ase.io.write(tmp_path / "mine.xyz", frames)
    *_, note = open_data(settings(tmp_path / "mine.xyz")).notes
    assert note.startswith("3 of the 3 structures of the val part")


def test_blocks_of_a_trajectory_can_be_held_out(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 40)
    (splits,) = open_data(settings(path, split_by="block")).splits
    assert splits.count("val") == 8
    assert splits[::2] == splits[1::2]


def test_labels_that_are_not_trained_on_do_not_matter_in_another_file(tmp_path) -> None:
    path = write_user_file(tmp_path / "mine.xyz", 10, with_forces=False)
    test = write_user_file(tmp_path / "test.xyz", 4, seed=1)
    source = open_data(settings(path, test=test))
    assert (source.keys.energy, source.keys.forces) == ("REF_energy", None)
    assert part_sizes(source.splits)["test"] == 4
