from __future__ import annotations

import json
import pickle
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from jmp_calc.errors import CheckpointError
from jmp_train.checkpoint import Checkpointer, load_state, read_facts, read_tensors
from jmp_train.checkpoint_folders import find_checkpoint, latest
from jmp_train.tensor_files import read_metadata

FACTS = {"position": {"step": 3}, "rate": 0.1, "names": ["a", "b"]}


def toy_tensors() -> dict[str, Tensor]:
    """All kinds that a run may have: several precisions, no axes, no entries."""
    generator = torch.Generator().manual_seed(0)
    return {
        "model.weight": torch.randn(3, 4, generator=generator),
        "model.empty": torch.empty(0, 3),
        "average.weight": torch.randn(3, 4, dtype=torch.float64, generator=generator),
        "optimizer.step": torch.tensor(7.0),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "counts": torch.arange(4),
        "mask": torch.tensor([True, False]),
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def saved(folder: Path) -> Path:
    """A checkpoint of step 3."""
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.save(3, FACTS, toy_tensors())
    checkpointer.wait()
    return folder / "step-00000003"


def data_file(checkpoint: Path) -> Path:
    return checkpoint / "__0_0.distcp"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_tensors_of_all_kinds_come_back_exactly(saved) -> None:
    torch.testing.assert_close(load_state(saved), toy_tensors(), rtol=0, atol=0)


def test_facts_come_back(saved) -> None:
    assert read_facts(saved) == FACTS


def test_tensors_are_read_in_place_and_only_those_that_are_asked_for(saved) -> None:
    weight = torch.zeros(3, 4)
    read_tensors(saved, {"model.weight": weight})
    assert (weight == toy_tensors()["model.weight"]).all()


def test_a_prefix_chooses_tensors_and_is_removed(saved) -> None:
    assert sorted(load_state(saved, "model.")) == ["empty", "weight"]


def test_what_changes_after_saving_is_not_in_the_checkpoint(folder) -> None:
    tensors = {"weight": torch.zeros(1000)}
    checkpointer = Checkpointer(folder, keep=1)
    checkpointer.save(1, {}, tensors)
    tensors["weight"].fill_(1.0)
    checkpointer.wait()
    assert (load_state(folder / "step-00000001")["weight"] == 0).all()


def test_the_last_ones_and_the_best_are_kept(folder) -> None:
    checkpointer = Checkpointer(folder, keep=2)
    for step in range(5):
        checkpointer.save(step, {}, toy_tensors(), is_best=step in (0, 1))
    checkpointer.wait()
    assert names_in(folder) == ["step-00000001", "step-00000003", "step-00000004"]
    assert checkpointer.latest() == folder / "step-00000004"
    assert checkpointer.best() == folder / "step-00000001"


def test_a_folder_without_checkpoints_has_neither_last_nor_best(folder) -> None:
    checkpointer = Checkpointer(folder, keep=1)
    assert (checkpointer.latest(), checkpointer.best()) == (None, None)


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_first(
    folder, saved
) -> None:
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.save(3, {"second": True}, toy_tensors())
    checkpointer.wait()
    assert read_facts(saved) == {"second": True}
    assert names_in(folder) == ["step-00000003"]


def test_what_a_killed_run_left_half_written_is_removed_at_the_next_start(
    folder, saved
) -> None:
    for name in (".step-00000009.new", ".step-00000002.gone", ".step-00000003.old"):
        (folder / name).mkdir()
        (folder / name / "file").touch()
    Checkpointer(folder, keep=2)
    assert names_in(folder) == ["step-00000003"]


def test_a_checkpoint_that_was_being_replaced_comes_back(folder, saved) -> None:
    saved.rename(folder / ".step-00000003.old")
    assert Checkpointer(folder, keep=2).latest() == saved
    assert read_facts(saved) == FACTS


def test_a_checkpoint_that_was_being_replaced_is_the_last_one(folder, saved) -> None:
    saved.rename(folder / ".step-00000003.old")
    path = latest(folder)
    assert path is not None
    assert read_facts(path) == FACTS


def test_files_that_are_not_of_the_checkpointer_stay(folder) -> None:
    folder.mkdir()
    (folder / "notes.txt").touch()
    Checkpointer(folder, keep=1)
    assert names_in(folder) == ["notes.txt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut data": (lambda p: truncate(data_file(p)), r"__0_0.distcp has \d+ of \d+ byt"),
    "no data": (lambda p: data_file(p).unlink(), r"__0_0.distcp has 0 of"),
    "no metadata": (lambda p: (p / ".metadata").unlink(), r"\.metadata is missing"),
    "cut facts": (lambda p: truncate(p / "facts.json"), r"facts\.json: "),
    "other facts": (
        lambda p: (p / "facts.json").write_text("[[1, 2, 3]]"),
        r"facts\.json: ",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(saved, damage) -> None:
    act, message = DAMAGES[damage]
    act(saved)
    expected = rf"step-00000003 is damaged \({message}.*resume from the one before"
    with pytest.raises(CheckpointError, match=expected):
        read_facts(saved)


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_last_checkpoint_is_the_last_whole_one(folder, saved, damage) -> None:
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.save(4, {}, toy_tensors())
    checkpointer.wait()
    DAMAGES[damage][0](folder / "step-00000004")
    assert latest(folder) == saved


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_changed_byte_is_noticed(folder, place) -> None:
    checkpointer = Checkpointer(folder, keep=2)
    checkpointer.save(1, {}, {"weight": torch.randn(10_000)})
    checkpointer.wait()
    file = data_file(folder / "step-00000001")
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="step-00000001 is damaged"):
        load_state(folder / "step-00000001")


def test_a_folder_that_is_no_checkpoint_is_an_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a checkpoint .* no facts\.json"):
        read_facts(tmp_path)


def change_facts(checkpoint: Path, **changes: object) -> None:
    path = checkpoint / "facts.json"
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


def test_a_foreign_format_is_an_error(saved) -> None:
    change_facts(saved, format="another")
    with pytest.raises(CheckpointError, match="is not a checkpoint of jmp-train; it s"):
        read_facts(saved)


def test_a_newer_checkpoint_is_not_passed_over_and_is_an_error(folder, saved) -> None:
    change_facts(saved, version=9, files={"in another way": 1})
    assert latest(folder) == saved
    with pytest.raises(CheckpointError, match=r"version 9 of .* reads 2. Use the vers"):
        read_facts(saved)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.bias", torch.zeros(3), r"model\.bias is missing; 1 in all"),
        ("model.weight", torch.zeros(4, 3), r"model\.weight is \[3, 4\].* not \[4, 3"),
        ("counts", torch.zeros(4), r"counts is \[4\] torch.int64 and not .*float32"),
    ],
)
def test_tensors_that_do_not_fit_are_listed(saved, name, tensor, message) -> None:
    with pytest.raises(CheckpointError, match=f"does not fit the network.*{message}"):
        read_tensors(saved, {name: tensor})


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_the_metadata_is_not_run(saved, tmp_path) -> None:
    content = pickle.dumps({"x": Bomb(tmp_path / "exploded")})
    (saved / ".metadata").write_bytes(content)
    with pytest.raises(CheckpointError, match="which no checkpoint of jmp-train needs"):
        load_state(saved)
    assert not (tmp_path / "exploded").exists()


def test_entries_that_would_be_unpickled_are_refused(saved) -> None:
    with (saved / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    metadata.state_dict_metadata["bytes"] = BytesStorageMetadata()
    (saved / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(
        CheckpointError, match=r"names .*BytesStorageMetadata, which no"
    ):
        load_state(saved)


@pytest.mark.parametrize("name", ["/etc/passwd", "../__0_0.distcp", "other.pt"])
def test_files_outside_of_the_checkpoint_are_not_read(saved, name) -> None:
    with (saved / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    for piece in metadata.storage_data.values():
        piece.relative_path = name
    (saved / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(
        CheckpointError, match=r"refers to the file .* not one of a che"
    ):
        load_state(saved)


def test_a_tensor_of_which_a_piece_is_missing_is_refused(saved) -> None:
    with (saved / ".metadata").open("rb") as file:
        metadata = pickle.load(file)
    metadata.state_dict_metadata["counts"].size = torch.Size([5])
    (saved / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="counts is not there as a whole"):
        read_metadata(saved)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.95])
def test_cut_off_metadata_are_an_error(saved, fraction) -> None:
    content = (saved / ".metadata").read_bytes()
    (saved / ".metadata").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(CheckpointError, match=r"\.metadata.* is damaged or was not wr"):
        load_state(saved)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_the_previous_checkpoint_stays(
    folder, saved, full_disk
) -> None:
    checkpointer = Checkpointer(folder, keep=1)
    checkpointer.save(4, FACTS, {"weight": torch.zeros(100_000)})
    with pytest.raises(
        CheckpointError,
        match=r"step 4 could not be written .*File too large.* the one before, "
        r".*step-00000003, is unharmed. Make room, and go on with --resume",
    ):
        checkpointer.wait()
    assert names_in(folder) == ["step-00000003"]
    assert read_facts(saved) == FACTS


def test_a_checkpoint_that_failed_is_told_at_the_next_one(folder, full_disk) -> None:
    checkpointer = Checkpointer(folder, keep=1)
    checkpointer.save(4, FACTS, {"weight": torch.zeros(100_000)})
    with pytest.raises(CheckpointError, match="there is none before it"):
        checkpointer.save(5, FACTS, {"weight": torch.zeros(10)})


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"cannot be written to .*choose another"):
        Checkpointer(tmp_path / "file" / "checkpoints", keep=1)


def test_facts_that_json_does_not_hold_are_an_error_before_anything_is_written(
    folder,
) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Checkpointer(folder, keep=1).save(1, {"x": torch.zeros(1)}, {})
    assert names_in(folder) == []


@pytest.mark.parametrize("place", [".", "checkpoints", "checkpoints/step-00000003"])
def test_a_run_its_checkpoints_and_a_checkpoint_are_found(
    tmp_path, saved, place
) -> None:
    assert find_checkpoint(tmp_path / place) == saved


def test_a_run_without_checkpoints_is_an_error(tmp_path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no whole checkpoint in .*start the run"
    ):
        find_checkpoint(tmp_path)


def test_a_run_without_a_best_checkpoint_is_an_error(tmp_path, saved) -> None:
    with pytest.raises(
        CheckpointError, match=r"no checkpoint in .* is marked as the b"
    ):
        find_checkpoint(tmp_path, is_best=True)


@pytest.mark.parametrize("place", [".", "checkpoint.pt"])
def test_a_checkpoint_of_the_first_layout_is_an_error(tmp_path, place) -> None:
    torch.save({"format": "jmp-train-checkpoint"}, tmp_path / "checkpoint.pt")
    with pytest.raises(
        CheckpointError, match=r"of version 1 .* it reads 2\. Use the w"
    ):
        find_checkpoint(tmp_path / place)
