"""Sets -> stores: content, resuming, failures, and that processes change nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from jmp_calc.errors import ArgumentError, DataError
from jmp_train.data.datasets import DATASETS
from jmp_train.data.families import FAMILIES
from jmp_train.data.hashed_split import split_of
from jmp_train.data.source import FamilyOptions, Record, SetFacts
from jmp_train.data.splits import SPLITS
from jmp_train.data.store import Store
from jmp_train.data.tasks import TASKS
from jmp_train.prepare import PreparedSet, PrepareProgress, prepare
from jmp_train.prepare.part import PartJob, write_part
from toys.sources import open_family, real
from toys.toy_sources import TOY_FACTS, ToySource, toy_records
from toys.training import statistics_of, toy_molecules

DEFAULTS = {"processes": 1, "has_picture": False}


def prepared(out: Path, source: ToySource | None = None, **options: Any) -> PreparedSet:
    (found,) = prepare([source or ToySource()], out, **DEFAULTS | options)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Headers of the toy set after an undisturbed run."""
    out = tmp_path_factory.mktemp("whole")
    prepared(out)
    return headers(out)


def headers(out: Path) -> dict[str, dict[str, Any]]:
    """Headers of the stores of the toy set."""
    paths = {split: out / f"toy-{split}" for split in SPLITS}
    return {split: Store(path).header for split, path in paths.items() if path.exists()}


def test_every_record_is_in_the_store_of_its_part_in_order(tmp_path) -> None:
    prepared(tmp_path)
    for split in SPLITS:
        mine = [r.sample for r in toy_records(ToySource()) if r.split == split]
        found = list(Store(tmp_path / f"toy-{split}"))
        assert [s.energy for s in found] == [s.energy for s in mine]
        assert {s.task for s in found} == {"toy"}


def test_a_record_without_a_part_is_divided_by_its_hash(tmp_path) -> None:
    source = ToySource(splits=(None,), n_parts=20)
    found = prepared(tmp_path, source)
    for store in found.stores:
        parts = {split_of(sample) for sample in Store(store.path)}
        assert parts == {store.split}
    assert sum(store.header["n_systems"] for store in found.stores) == 120


def test_headers_state_origin_labels_and_statistics_of_their_part(tmp_path) -> None:
    prepared(tmp_path)
    header = headers(tmp_path)["val"]
    mine = [r.sample for r in toy_records(ToySource()) if r.split == "val"]
    expected = statistics_of(mine)
    assert (header["task"], header["split"]) == ("toy", "val")
    assert (header["domain"], header["licence"]) == ("molecule", "MIT")
    assert header["labels"] == {"energy": 6, "forces": 6, "stress": 0}
    assert [d["title"] for d in header["datasets"]] == ["Toy molecules"]
    assert header["statistics"]["n_atoms"] == expected.n_atoms
    assert header["statistics"]["force_rms"] == pytest.approx(expected.force_rms)


def test_two_processes_write_the_stores_that_one_writes(tmp_path, whole) -> None:
    two = prepared(tmp_path, processes=2)
    assert {store.split: store.header for store in two.stores} == whole
    assert two.skipped == {"not converged": 4}


def test_large_sets_get_several_shards_that_no_process_changes(tmp_path) -> None:
    one = prepared(tmp_path / "one", per_shard=5)
    assert [s["n_systems"] for s in one.stores[0].header["shards"]] == [4, 2, 4, 2]
    energies = [sample.energy for sample in Store(one.stores[0].path)]
    train = [r.sample for r in toy_records(ToySource()) if r.split == "train"]
    assert energies == [sample.energy for sample in train]


def test_a_part_larger_than_a_shard_is_cut(tmp_path) -> None:
    source = ToySource(n_parts=1, splits=("train",))
    found = prepared(tmp_path, source, per_shard=4)
    assert [s["n_systems"] for s in found.stores[0].header["shards"]] == [4, 2]
    assert len(list(Store(found.stores[0].path))) == 6


def test_nothing_but_stores_and_a_report_stays(tmp_path) -> None:
    prepared(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        ".prepare.lock",
        "toy-report",
        "toy-test",
        "toy-train",
        "toy-val",
    ]


def test_molecules_of_rmd17_are_left_out_on_request(tmp_path) -> None:
    source = ToySource(has_benzene=True)
    found = prepared(tmp_path, source, exclude_rmd17=True)
    assert found.skipped["holds benzene, a molecule of rMD17"] == 4
    sizes = {sample.n_atoms for sample in Store(tmp_path / "toy-train")}
    assert 12 not in sizes
    kept = prepared(tmp_path, source)
    assert kept.stores[0].header["n_systems"] == 16


def test_a_damaged_part_names_the_record_and_keeps_what_is_finished(
    tmp_path, whole
) -> None:
    flag, journal = tmp_path / "damaged", tmp_path / "read.txt"
    flag.touch()
    source = ToySource(damage=flag, journal=journal)
    with pytest.raises(DataError, match=r"record 2 of toys\.xyz is cut off") as caught:
        prepared(tmp_path / "out", source)
    assert caught.value.__notes__ == [
        "set 'toy', part 'p2'",
        "2 of 4 parts are finished and kept; repair the input and run the same command "
        "again",
    ]
    flag.unlink()
    found = prepared(tmp_path / "out", source)
    assert journal.read_text().split() == ["p0", "p1", "p2", "p2", "p3"]
    assert {s.split: s.header for s in found.stores} == whole


PROGRAM = """
import sys
from pathlib import Path
from jmp_train.prepare import prepare
from toys.toy_sources import ToySource

def main():
    folder = Path(sys.argv[1])
    source = ToySource(kill=folder / "kill", journal=folder / "read.txt")
    prepare([source], folder / "out", processes=int(sys.argv[2]), has_picture=False)

if __name__ == "__main__":
    main()
"""


def run_program(folder: Path, processes: int) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), str(folder), str(processes)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path, whole) -> None:
    (tmp_path / "kill").touch()
    assert run_program(tmp_path, 1).returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "toy-train").exists()
    done = run_program(tmp_path, 1)
    assert done.stderr == ""
    assert (tmp_path / "read.txt").read_text().split() == ["p0", "p1", "p2", "p2", "p3"]
    assert headers(tmp_path / "out") == whole


def test_a_process_that_dies_is_an_error_and_the_rest_is_kept(tmp_path, whole) -> None:
    (tmp_path / "kill").touch()
    source = ToySource(kill=tmp_path / "kill")
    with pytest.raises(DataError, match="a process died, perhaps for lack of memory"):
        prepared(tmp_path / "out", source, processes=2)
    seen: list[PrepareProgress] = []
    prepared(tmp_path / "out", source, progress=seen.append)
    assert seen[0].n_resumed >= 1
    assert headers(tmp_path / "out") == whole


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_run_that_ends_anywhere_while_shards_are_joined_goes_on(
    tmp_path, monkeypatch, whole, stop
) -> None:
    """It ends before the n-th time that a file or folder takes its name."""
    count = 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal count
        if self.name.startswith((".part", ".prepare")) or self.suffix == ".tsv":
            return original(self, target)
        count += 1
        if count == stop:
            raise KeyboardInterrupt
        return original(self, target)

    for name in ("rename", "replace"):
        original = getattr(Path, name)
        monkeypatch.setattr(Path, name, rename)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "out")
    monkeypatch.undo()
    prepared(tmp_path / "out")
    assert headers(tmp_path / "out") == whole
    assert [len(list(Store(tmp_path / "out" / f"toy-{s}"))) for s in SPLITS] == [
        12,
        6,
        6,
    ]


def test_unfinished_parts_of_other_settings_are_not_used(tmp_path) -> None:
    flag, journal = tmp_path / "damaged", tmp_path / "read.txt"
    flag.touch()
    source = ToySource(damage=flag, journal=journal)
    with pytest.raises(DataError):
        prepared(tmp_path / "out", source)
    flag.unlink()
    journal.unlink()
    prepared(tmp_path / "out", source, exclude_rmd17=True)
    assert journal.read_text().split() == ["p0", "p1", "p2", "p3"]


@pytest.fixture
def inputs(tmp_path) -> Path:
    """Folder with a file for each part of the toy set."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    for part in ToySource().parts():
        (folder / part).write_text("as downloaded")
    return folder


def test_a_part_whose_file_changed_since_it_was_finished_is_read_again(
    tmp_path, inputs, whole
) -> None:
    flag, journal = tmp_path / "damaged", tmp_path / "read.txt"
    flag.touch()
    source = ToySource(damage=flag, journal=journal, folder=inputs)
    with pytest.raises(DataError):
        prepared(tmp_path / "out", source)
    flag.unlink()
    journal.unlink()
    (inputs / "p1").write_text("as repaired")
    prepared(tmp_path / "out", source)
    assert journal.read_text().split() == ["p1", "p2", "p3"]
    assert headers(tmp_path / "out") == whole


def test_a_file_that_changed_while_shards_were_joined_starts_all_anew(
    tmp_path, inputs, monkeypatch, whole
) -> None:
    """The joined shards hold what the part was, and the other parts are gone."""
    journal = tmp_path / "read.txt"
    source = ToySource(journal=journal, folder=inputs)

    def fail(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jmp_train.prepare.pipeline.publish_store", fail)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "out", source)
    monkeypatch.undo()
    journal.unlink()
    (inputs / "p1").write_text("as repaired")
    prepared(tmp_path / "out", source)
    assert journal.read_text().split() == source.parts()
    assert headers(tmp_path / "out") == whole


def test_a_full_disk_is_an_error_and_what_is_finished_is_kept(
    tmp_path, monkeypatch, whole
) -> None:
    journal = tmp_path / "read.txt"
    source = ToySource(journal=journal)

    def fail(folder: Path, *_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", f"{folder}/n_atoms.npy")

    monkeypatch.setattr("jmp_train.data.header._write_sizes", fail)
    with pytest.raises(DataError, match=r"n_atoms\.npy \(No space.*is space left"):
        prepared(tmp_path / "out", source)
    monkeypatch.undo()
    prepared(tmp_path / "out", source)
    assert journal.read_text().split() == source.parts()
    assert headers(tmp_path / "out") == whole


@pytest.mark.parametrize("number", [0, 119, 300])
def test_a_system_with_an_atom_of_no_element_is_left_out(tmp_path, number) -> None:
    class Odd(ToySource):
        def read(self, part: str) -> Iterator[Any]:
            first, *others = super().read(part)
            if part == "p0" and isinstance(first, Record):
                numbers = first.sample.numbers.copy()
                numbers[1] = number
                first = replace(first, sample=replace(first.sample, numbers=numbers))
            yield from (first, *others)

    found = prepared(tmp_path, Odd())
    assert found.skipped == {
        "an atomic number outside of 1 to 118": 1,
        "not converged": 4,
    }


def test_old_stores_stay_until_the_new_ones_are_complete(tmp_path) -> None:
    prepared(tmp_path)
    before = headers(tmp_path)
    flag = tmp_path / "damaged"
    flag.touch()
    longer = ToySource(n_parts=5, damage=flag)
    with pytest.raises(DataError):
        prepared(tmp_path, longer)
    assert headers(tmp_path) == before
    flag.unlink()
    prepared(tmp_path, longer)
    assert headers(tmp_path)["train"]["n_systems"] == 16


def test_a_part_that_is_prepared_alone_leaves_the_others(tmp_path) -> None:
    """As OC20, whose parts are published as folders of their own."""
    prepared(tmp_path, ToySource(splits=("train",)))
    found = prepared(tmp_path, ToySource(splits=("val",), n_parts=1))
    assert [store.split for store in found.stores] == ["val"]
    sizes = {split: h["n_systems"] for split, h in headers(tmp_path).items()}
    assert sizes == {"train": 24, "val": 6}


def test_two_preparations_into_one_folder_are_refused(tmp_path) -> None:
    with (
        FileLock(tmp_path / ".prepare.lock"),
        pytest.raises(ArgumentError, match="another process is preparing data into"),
    ):
        prepared(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"cannot write into .*another folder"):
        prepared(tmp_path / "file" / "stores")


def test_a_set_without_systems_says_what_was_skipped(tmp_path) -> None:
    @dataclass(frozen=True)
    class Empty:
        facts: SetFacts = TOY_FACTS

        def parts(self) -> list[str]:
            return ["p0"]

        def inputs(self, part: str) -> tuple[Path, ...]:
            return ()

        def read(self, part: str) -> Iterator[Record]:
            return iter(())

    with pytest.raises(DataError, match=r"set 'toy' has no systems \(0 were skipped"):
        prepare([Empty()], tmp_path, processes=1)
    assert not (tmp_path / "toy-train").exists()


@pytest.mark.parametrize("name", ["a/b", "", ".hidden", "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name) -> None:
    source = ToySource(facts=replace(TOY_FACTS, name=name))
    with pytest.raises(ArgumentError, match="its name must be letters, digits"):
        prepared(tmp_path, source)


def test_two_sets_of_one_name_are_refused(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="2 sets are called 'toy'"):
        prepare([ToySource(), ToySource()], tmp_path, processes=1)


def test_processes_must_be_positive(tmp_path) -> None:
    with pytest.raises(ArgumentError, match="processes is -1; it must be at least 1"):
        prepared(tmp_path, processes=-1)


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path) -> None:
    (tmp_path / "toy-val").mkdir()
    with pytest.raises(ArgumentError, match="toy-val exists and is not a store"):
        prepared(tmp_path)


def test_progress_counts_parts_and_systems(tmp_path) -> None:
    seen: list[PrepareProgress] = []
    prepared(tmp_path, progress=seen.append)
    read = [now for now in seen if now.stage == "read"]
    assert (read[0].done, read[0].total) == (0, 4)
    assert (read[-1].done, read[-1].n_systems) == (4, 28)
    assert [now.done for now in seen if now.stage == "join"] == [0, 1, 2, 3]


class Watched:
    """A set that sees how many of its samples are alive while it is read."""

    facts = TOY_FACTS

    def __init__(self) -> None:
        self.most_alive = 0

    def parts(self) -> list[str]:
        return ["all"]

    def inputs(self, part: str) -> tuple[Path, ...]:
        return ()

    def read(self, part: str) -> Iterator[Record]:
        (sample,) = toy_molecules(1)
        watches: list[weakref.ref[Any]] = []
        dead: list[object] = []
        for _ in range(600):
            positions = sample.positions.copy()
            watches.append(weakref.ref(positions, dead.append))
            yield Record(sample=replace(sample, positions=positions), split="train")
            self.most_alive = max(self.most_alive, len(watches) - len(dead))


def test_samples_are_written_as_they_are_read_and_not_kept(tmp_path) -> None:
    source = Watched()
    job = PartJob(source=0, number=0, part="all", folder=tmp_path)
    found = write_part([source], job, lambda: None)
    assert found.shards["train"][0].n_systems == 600
    # the one just read, and the one that the loop variables of both sides still name
    assert source.most_alive <= 2


def test_processes_end_with_their_parent(tmp_path) -> None:
    """Orphans would go on to write into the folder of the next run."""
    (tmp_path / "kill").touch()
    program = tmp_path / "parent.py"
    program.write_text(ORPHANS)
    with subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        # the pipe closes when the last process that holds it has ended
        assert parent.stdout.read() == ""
    assert not Path(f"/proc/{child}/stat").exists() or is_zombie(child)


def is_zombie(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().split()[2] == "Z"


ORPHANS = """
import os, sys, time
from jmp_train.workers import Workers

def wait(shared, job, pulse):
    if job == 0:
        print(os.getpid(), flush=True)
    time.sleep(600)

if __name__ == "__main__":
    with Workers(2, None) as workers:
        list(workers.run(wait, [0, 1]))
"""


def test_the_excerpts_of_nano_are_divided_and_the_kept_molecules_left_out(
    tmp_path, monkeypatch
) -> None:
    for name in TASKS["wb97x"].datasets:
        content = toy_excerpt() if name == "threebpa" else []
        info = replace(DATASETS[name], read=lambda _root, c=content: iter(c))
        monkeypatch.setitem(DATASETS, name, info)
    options = FamilyOptions(variant="wb97x")
    (source,) = FAMILIES["nano"].open(tmp_path, options)
    (found,) = prepare([source], tmp_path, **DEFAULTS)
    assert found.skipped == {"holds benzene, a molecule of rMD17": 1}
    assert [store.split for store in found.stores] == list(SPLITS)
    expected = toy_excerpt()[1:]
    for store in found.stores:
        mine = [s.energy for s in expected if split_of(s) == store.split]
        assert [s.energy for s in Store(store.path)] == mine
        assert store.header["licence"] == TASKS["wb97x"].licence
        titles = [DATASETS[name].title for name in TASKS["wb97x"].datasets]
        assert [d["title"] for d in store.header["datasets"]] == titles


def toy_excerpt() -> list[Any]:
    """A benzene, which is kept out, and eighty molecules."""
    benzene = next(iter(toy_records(ToySource(has_benzene=True)))).sample
    samples = [benzene, *toy_molecules(80, seed=4)]
    return [replace(sample, source="threebpa", task="") for sample in samples]


def test_an_unknown_task_of_nano_is_an_error(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"unknown task 'wb97'.*mean 'wb97x'"):
        FAMILIES["nano"].open(tmp_path, FamilyOptions(variant="wb97"))


def test_a_missing_data_set_of_nano_says_what_the_root_must_hold(tmp_path) -> None:
    sources = FAMILIES["nano"].open(tmp_path, FamilyOptions(variant="qm7x"))
    with pytest.raises(DataError, match=r"there is no .*qm7x.*one folder per data set"):
        prepare(sources, tmp_path / "out", processes=1)
    assert not (tmp_path / "out" / "qm7x-train").exists()


@pytest.mark.parametrize("is_empty", [False, True], ids=["cut off", "empty"])
@pytest.mark.parametrize(
    ("folder", "file", "task"),
    [
        ("3bpa", "train_300K.xyz", "wb97x"),
        ("qm7x", "qm7x_250_small.npz", "qm7x"),
        ("mlearn", "Cu_test.json.gz", "pbe"),
        ("oc20_relaxations", "random1000100.traj", "oc20"),
    ],
)
def test_a_damaged_file_of_nano_is_an_error(
    tmp_path, folder, file, task, is_empty
) -> None:
    content = real(folder, file).read_bytes()
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_bytes(b"" if is_empty else content[:30_000])
    sources = open_family("nano", tmp_path, variant=task)
    with pytest.raises(DataError, match=f"{folder}.*(cut off|is empty)"):
        prepare(sources, tmp_path / "out", **DEFAULTS)
