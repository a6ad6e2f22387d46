"""Exactly once, whoever dies and when: the ledger and the loop without verbs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms

from jmp_calc.cli.campaigns.ledger import ACCOUNT, Ledger
from jmp_calc.cli.campaigns.loop import ATTEMPTS, Tally, work_off
from jmp_calc.cli.campaigns.parts import (
    Done,
    Ended,
    Failed,
    Lost,
    fingerprints_of,
    split,
)
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError
from toys.pools import InProcess

IDENTITY = {"verb": "toy", "settings": {"fmax_eV_per_A": 0.01}}


def structures_of(n, shift=0.0):
    return [
        Structure(
            path=Path("many.xyz"),
            frame=number,
            name=f"s{number}",
            atoms=Atoms("H", positions=[[0, 0, number + shift * (number == 1)]]),
        )
        for number in range(n)
    ]


def write_one(part, folder):
    (folder / "result.txt").write_text(part.name)
    ended = tuple(Ended(name=s.name, status="ok", exit_code=0) for s in part.structures)
    versions = {"ase": "3.29.0"}
    return Done(ended=ended, worker="here", versions=versions, seconds=0.1)


def work(
    out,
    structures,
    executor=None,
    identity=IDENTITY,
    overwrite=False,
    keeps=False,
    per_task=1,
):
    """One start of a campaign; return what it did and its tally."""
    executor = executor or InProcess(write_one)
    if isinstance(structures, int):
        structures = structures_of(structures)
    ledger, tally = Ledger(out, keeps_attempts=keeps), Tally()
    with ledger.opened(identity, files=[], overwrite=overwrite):
        prints = fingerprints_of(structures, identity)
        missing = ledger.missing(
            structures, prints, per_task=per_task, overwrite=overwrite
        )
        told = []
        work_off(missing, executor, ledger, tally, progress=told.append)
        if tally.interruption is None:
            assert sorted(s.name for part in told for s in part.structures) == sorted(
                s.name for part in missing for s in part.structures
            )
        done = [one.name for one in structures if ledger.account_of(one.name)]
        assert sorted(done) == sorted(in_folders(out))
    return executor.seen, tally


def in_folders(out):
    """Names of the structures whose results are there."""
    accounts = [json.loads(path.read_text()) for path in out.glob(f"parts/*/{ACCOUNT}")]
    assert sorted(account["part"] for account in accounts) == sorted(
        path.name for path in (out / "parts").iterdir()
    )
    return [name for account in accounts for name in account["structures"]]


def test_every_part_is_done_once_and_a_second_start_has_nothing_to_do(tmp_path):
    seen, tally = work(tmp_path, 5)
    assert sorted(seen) == [f"s{n}" for n in range(5)]
    assert tally.failed == {}
    assert (tmp_path / "parts/s3/result.txt").read_text() == "s3"
    assert not (tmp_path / ".work").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*/*")}
    assert work(tmp_path, 5)[0] == []
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("parts/*/*")}


def test_what_a_dead_worker_had_is_done_by_another(tmp_path):
    executor = InProcess(write_one, kills={"s2": ATTEMPTS - 1})
    seen, tally = work(tmp_path, 4, executor)
    assert seen.count("s2") == ATTEMPTS
    assert tally.n_lost == ATTEMPTS - 1
    account = json.loads((tmp_path / "parts/s2" / ACCOUNT).read_text())
    assert account["attempts"] == ATTEMPTS


def test_a_part_that_kills_every_worker_is_given_up_and_tried_by_the_next_start(
    tmp_path,
):
    executor = InProcess(write_one, kills={"s0": 99})
    seen, tally = work(tmp_path, 3, executor)
    assert seen.count("s0") == ATTEMPTS
    assert "3 workers died while computing it" in tally.failed["s0"].reason
    assert sorted(in_folders(tmp_path)) == ["s1", "s2"]
    assert work(tmp_path, 3)[0] == ["s0"]


@pytest.mark.parametrize("bad", ["kills", "fails"])
def test_a_bad_structure_does_not_take_those_with_it_that_are_done_together(
    tmp_path, bad
):
    def do(part, folder):
        if "s2" not in [one.name for one in part.structures]:
            return write_one(part, folder)
        if bad == "kills":
            return Lost(reason="it was killed")
        return Failed(reason="no such element", exit_code=2)

    _, tally = work(tmp_path, 8, InProcess(do), per_task=4)
    assert set(tally.failed) == {"s2"}
    assert tally.n_lost == (2 + ATTEMPTS if bad == "kills" else 0)
    assert set(in_folders(tmp_path)) == {f"s{n}" for n in range(8) if n != 2}
    # the next start tries the bad one again, alone
    assert work(tmp_path, 8, per_task=4)[0] == ["s2"]


def test_a_failed_part_leaves_nothing_and_is_tried_by_the_next_start(tmp_path):
    def fail(part, folder):
        write_one(part, folder)
        return Failed(reason="disk full", exit_code=2)

    _, tally = work(tmp_path, 2, InProcess(fail))
    assert set(tally.failed) == {"s0", "s1"}
    assert list((tmp_path / "parts").iterdir()) == []
    assert sorted(work(tmp_path, 2)[0]) == ["s0", "s1"]


def test_after_an_interruption_only_what_is_missing_is_done(tmp_path):
    first, tally = work(tmp_path, 6, InProcess(write_one, n_before_interrupt=2))
    assert tally.interruption == "Ctrl-C"
    second, _ = work(tmp_path, 6)
    assert len(first) == 2
    assert sorted(first + second) == [f"s{n}" for n in range(6)]


def test_a_folder_that_was_removed_or_has_no_account_is_done_again(tmp_path):
    work(tmp_path, 4)
    shutil.rmtree(tmp_path / "parts/s1")
    (tmp_path / "parts/s2" / ACCOUNT).unlink()
    (tmp_path / "parts/s3" / ACCOUNT).write_text('{"part": "s')
    assert sorted(work(tmp_path, 4)[0]) == ["s1", "s2", "s3"]


def test_other_settings_are_refused_or_done_anew(tmp_path):
    other = {"verb": "toy", "settings": {"fmax_eV_per_A": 0.05}}
    work(tmp_path, 2)
    with pytest.raises(ArgumentError, match=r"fmax_eV_per_A was 0.01 and is 0.05;"):
        work(tmp_path, 2, identity=other)
    assert sorted(in_folders(tmp_path)) == ["s0", "s1"]
    seen, _ = work(tmp_path, 2, identity=other, overwrite=True)
    assert sorted(seen) == ["s0", "s1"]
    assert work(tmp_path, 2, identity=other)[0] == []


def test_a_changed_structure_is_refused_or_done_again_alone(tmp_path):
    work(tmp_path, 3)
    changed = structures_of(3, shift=0.1)
    with pytest.raises(
        ArgumentError, match=r"many\.xyz \(or a setting\) has changed since s1"
    ):
        work(tmp_path, changed)
    assert work(tmp_path, changed, overwrite=True)[0] == ["s1"]
    assert not (tmp_path / ".work").exists()


def test_results_of_structures_that_are_gone_are_kept_unless_told_otherwise(tmp_path):
    work(tmp_path, 3)
    with pytest.raises(ArgumentError, match="results of s2, which is not among"):
        work(tmp_path, 2)
    assert work(tmp_path, 2, overwrite=True)[0] == []
    assert sorted(in_folders(tmp_path)) == ["s0", "s1"]


def test_more_structures_may_be_added_and_shared_out_otherwise(tmp_path):
    work(tmp_path, 5, per_task=4)
    seen, _ = work(tmp_path, 8, per_task=2)
    # the last part had room, and s4 is not done again
    assert sorted(seen) == ["s5-to-s6", "s7"]


def test_parts_of_several_structures_have_the_names_of_the_first_and_last():
    structures = structures_of(5)
    prints = fingerprints_of(structures, IDENTITY)
    parts = list(split(structures, 2, prints, taken=["s4"]))
    assert [part.name for part in parts] == ["s0-to-s1", "s2-to-s3", "s4-more"]
    assert len({part.fingerprint for part in parts}) == 3


def test_no_two_attempts_share_a_folder(tmp_path):
    # a worker of a start that was killed may live for a while and go on writing
    def cut(part, folder):
        seen.append(folder)
        raise SystemExit

    seen = []
    for _ in range(2):
        with pytest.raises(SystemExit):
            work(tmp_path, 1, InProcess(cut))
    assert seen[0] != seen[1]


def test_results_of_several_versions_are_told(tmp_path):
    def newer(part, folder):
        return replace(write_one(part, folder), versions={"ase": "3.30.0"})

    work(tmp_path, 2)
    work(tmp_path, 3, InProcess(newer))
    ledger = Ledger(tmp_path)
    with ledger.opened(IDENTITY, files=[], overwrite=False):
        assert ledger.mixed_versions() == {"ase": ["3.29.0", "3.30.0"]}


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    with (
        Ledger(tmp_path).opened(IDENTITY, files=[], overwrite=False),
        pytest.raises(ArgumentError, match="another jmp-md works in"),
    ):
        work(tmp_path, 1)


def test_files_of_others_are_not_replaced(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(ArgumentError, match="exists and would be replaced"):
        work(tmp_path, 1)


def test_attempts_are_kept_until_the_part_is_done(tmp_path):
    executor = InProcess(write_one, kills={"s0": 99})
    work(tmp_path, 1, executor, keeps=True)
    assert len(list((tmp_path / ".work").iterdir())) == ATTEMPTS
    work(tmp_path, 1, keeps=True)
    assert not (tmp_path / ".work").exists()
