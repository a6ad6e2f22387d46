"""Exactly once, whoever dies and when: the ledger and the loop without verbs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ase import Atoms

from jmp_calc.cli.campaigns.ledger import ACCOUNT, Ledger
from jmp_calc.cli.campaigns.loop import ATTEMPTS, work_off
from jmp_calc.cli.campaigns.parts import Done, Ended, Failed, split
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError
from toys.pools import InProcess

IDENTITY = {"verb": "toy", "settings": {"fmax_eV_per_A": 0.01}}


def parts_of(n, per_task=1, identity=IDENTITY, shift=0.0):
    structures = [
        Structure(
            path=Path("many.xyz"),
            frame=number,
            name=f"s{number}",
            atoms=Atoms("H", positions=[[0, 0, number + shift * (number == 1)]]),
        )
        for number in range(n)
    ]
    return list(split(structures, per_task, identity))


def write_one(part, folder):
    (folder / "result.txt").write_text(part.name)
    ended = tuple(Ended(name=s.name, status="ok", exit_code=0) for s in part.structures)
    return Done(ended=ended, worker="here", seconds=0.1)


def work(out, parts, executor=None, identity=IDENTITY, overwrite=False, keeps=False):
    """One start of a campaign; return what it did and its tally."""
    executor = executor or InProcess(write_one)
    told = []
    ledger = Ledger(out, keeps_attempts=keeps)
    with ledger.opened(identity, files=[], overwrite=overwrite):
        missing = ledger.missing(parts, overwrite=overwrite)
        tally = work_off(
            missing, executor, ledger, progress=lambda part, _: told.append(part.name)
        )
        assert [p.name for p in parts if ledger.account_of(p)] == sorted(
            path.name for path in ledger.parts.iterdir()
        )
    return executor.seen, tally


def journal(out):
    return [
        json.loads(line)["part"]
        for line in (out / "journal.jsonl").read_text().splitlines()
    ]


def test_every_part_is_done_once_and_a_second_start_has_nothing_to_do(tmp_path):
    parts = parts_of(5)
    seen, tally = work(tmp_path, parts)
    assert sorted(seen) == [f"s{n}" for n in range(5)] == sorted(journal(tmp_path))
    assert tally.failed == {}
    assert (tmp_path / "parts/s3/result.txt").read_text() == "s3"
    assert not (tmp_path / ".work").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*/*")}
    assert work(tmp_path, parts)[0] == []
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/*")}


def test_what_a_dead_worker_had_is_done_by_another(tmp_path):
    executor = InProcess(write_one, kills={"s2": ATTEMPTS - 1})
    seen, tally = work(tmp_path, parts_of(4), executor)
    assert seen.count("s2") == ATTEMPTS
    assert tally.n_lost == ATTEMPTS - 1
    assert sorted(journal(tmp_path)) == ["s0", "s1", "s2", "s3"]
    account = json.loads((tmp_path / "parts/s2" / ACCOUNT).read_text())
    assert account["attempts"] == ATTEMPTS


def test_a_part_that_kills_every_worker_is_given_up_and_tried_by_the_next_start(
    tmp_path,
):
    parts = parts_of(3)
    executor = InProcess(write_one, kills={"s0": 99})
    seen, tally = work(tmp_path, parts, executor)
    assert seen.count("s0") == ATTEMPTS
    assert "3 workers died while computing it" in tally.failed["s0"].reason
    assert sorted(journal(tmp_path)) == ["s1", "s2"]
    assert work(tmp_path, parts)[0] == ["s0"]


def test_a_failed_part_leaves_nothing_and_is_tried_by_the_next_start(tmp_path):
    def fail(part, folder):
        write_one(part, folder)
        return Failed(reason="disk full", exit_code=2)

    _, tally = work(tmp_path, parts_of(2), InProcess(fail))
    assert set(tally.failed) == {"s0", "s1"}
    assert list((tmp_path / "parts").iterdir()) == []
    assert sorted(work(tmp_path, parts_of(2))[0]) == ["s0", "s1"]


def test_after_an_interruption_only_what_is_missing_is_done(tmp_path):
    first, tally = work(
        tmp_path, parts_of(6), InProcess(write_one, n_before_interrupt=2)
    )
    assert tally.interruption == "Ctrl-C"
    second, _ = work(tmp_path, parts_of(6))
    assert len(first) == 2
    assert sorted(first + second) == [f"s{n}" for n in range(6)]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_journal_that_was_cut_off_loses_nothing(tmp_path, cut):
    # the folder of a part is what counts; the journal is made whole from it
    work(tmp_path, parts_of(3))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert work(tmp_path, parts_of(3))[0] == []
    assert sorted(journal(tmp_path)) == ["s0", "s1", "s2"]
    path.unlink()
    assert work(tmp_path, parts_of(3))[0] == []
    assert sorted(journal(tmp_path)) == ["s0", "s1", "s2"]


def test_a_folder_that_was_removed_is_done_again(tmp_path):
    work(tmp_path, parts_of(3))
    (tmp_path / "parts/s1/result.txt").unlink()
    (tmp_path / "parts/s1" / ACCOUNT).unlink()
    (tmp_path / "parts/s1").rmdir()
    assert work(tmp_path, parts_of(3))[0] == ["s1"]


def test_other_settings_are_refused_or_done_anew(tmp_path):
    other = {"verb": "toy", "settings": {"fmax_eV_per_A": 0.05}}
    work(tmp_path, parts_of(2))
    with pytest.raises(ArgumentError, match=r"fmax_eV_per_A was 0.01 and is 0.05;"):
        work(tmp_path, parts_of(2, identity=other), identity=other)
    seen, _ = work(
        tmp_path, parts_of(2, identity=other), identity=other, overwrite=True
    )
    assert sorted(seen) == ["s0", "s1"]
    assert work(tmp_path, parts_of(2, identity=other), identity=other)[0] == []


def test_a_changed_structure_is_refused_or_done_again_alone(tmp_path):
    work(tmp_path, parts_of(3))
    changed = parts_of(3, shift=0.1)
    with pytest.raises(
        ArgumentError, match=r"many\.xyz \(or a setting\) has changed since s1"
    ):
        work(tmp_path, changed)
    assert work(tmp_path, changed, overwrite=True)[0] == ["s1"]
    assert not (tmp_path / ".work").exists()


def test_more_structures_may_be_added(tmp_path):
    work(tmp_path, parts_of(2))
    assert sorted(work(tmp_path, parts_of(4))[0]) == ["s2", "s3"]


def test_parts_of_several_structures_have_the_names_of_the_first_and_last():
    parts = parts_of(5, per_task=2)
    assert [part.name for part in parts] == ["s0-to-s1", "s2-to-s3", "s4"]
    assert len({part.fingerprint for part in parts}) == 3


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    with (
        Ledger(tmp_path).opened(IDENTITY, files=[], overwrite=False),
        pytest.raises(ArgumentError, match="another jmp-md works in"),
    ):
        work(tmp_path, parts_of(1))


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(ArgumentError, match="exists and would be replaced"):
        work(tmp_path, parts_of(1))


def test_attempts_are_kept_until_the_part_is_done(tmp_path):
    executor = InProcess(write_one, kills={"s0": 99})
    work(tmp_path, parts_of(1), executor, keeps=True)
    assert len(list((tmp_path / ".work").iterdir())) == ATTEMPTS
    work(tmp_path, parts_of(1), keeps=True)
    assert not (tmp_path / ".work").exists()
