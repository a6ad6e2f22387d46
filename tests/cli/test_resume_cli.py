"""What users are told about work that was stopped, and what becomes of its files."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
from ase.build import bulk, molecule
from ase.io import read, write
from filelock import FileLock

from jmp_calc import JMPCalculator
from jmp_calc.cli import main
from jmp_calc.errors import UnsupportedSystemError
from toys import stoppable

KEPT = Path("here/cu-eos-evaluations.part")
EMT = ("--calculator", "toys.stoppable:one_by_one")
EOS = ("eos", "cu.xyz", "--relax", "none", "--out", "here", *EMT)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("Cu", "Al"):
        write(f"{name.lower()}.xyz", bulk(name))
    rattled = bulk("Cu", cubic=True)
    rattled.rattle(0.1, seed=1)
    write("rattled.xyz", rattled)
    return tmp_path


def interrupted(at: int, *words: str) -> None:
    """Work of which ``at`` evaluations are done."""
    stoppable.reset(at, by=signal.SIGINT)
    assert main(words) == 130
    stoppable.reset()


def n_computed(*words: str, code: int = 0) -> int:
    stoppable.reset()
    assert main(words) == code
    return stoppable.Stop.n_done


def error_line(capsys) -> str:
    return error_line_of(capsys.readouterr().err)


def error_line_of(text: str) -> str:
    (line,) = text.strip().splitlines()
    return line


def test_an_interruption_tells_what_is_kept_and_how_to_go_on(capsys):
    interrupted(4, *EOS)
    told = capsys.readouterr()
    assert f"kept        4 evaluations in {KEPT}; the same command goes on" in told.out
    assert "with --out here --resume" in told.out
    assert told.err.strip() == "jmp-md: interrupted"
    assert n_computed(*EOS, "--resume") == 7
    assert f"resumed     4 evaluations known from {KEPT}" in capsys.readouterr().out
    assert not [path for path in Path("here").iterdir() if "eval" in path.name]


def test_without_resume_what_is_left_is_neither_used_nor_lost(capsys):
    interrupted(4, *EOS)
    before = KEPT.read_bytes()
    capsys.readouterr()
    assert main(EOS) == 2
    line = error_line(capsys)
    assert str(KEPT) in line
    assert "go on with it by --resume, or begin anew with --overwrite" in line
    assert KEPT.read_bytes() == before
    assert n_computed(*EOS, "--overwrite") == 11
    assert not KEPT.exists()


def test_work_without_a_folder_goes_on_in_the_one_that_it_made(capsys):
    words = ("eos", "cu.xyz", "--relax", "none", *EMT)
    interrupted(4, *words)
    capsys.readouterr()
    assert main([*words, "--resume"]) == 2
    assert "--resume needs the --out of the work" in error_line(capsys)
    assert n_computed(*words, "--resume", "--out", "runs/cu-eos-1") == 7


def test_resume_begins_what_is_not_there_and_leaves_what_is_finished(capsys):
    assert n_computed(*EOS, "--resume") == 11
    before = Path("here/cu-eos.csv").read_bytes()
    capsys.readouterr()
    assert n_computed(*EOS, "--resume", code=2) == 0
    line = error_line(capsys)
    assert "here/cu-eos.csv exists and would be replaced" in line
    assert "--resume finds nothing there that is not finished" in line
    assert Path("here/cu-eos.csv").read_bytes() == before


def test_results_of_other_work_are_not_replaced_by_a_resume(capsys):
    assert main(["eos", "al.xyz", "--relax", "none", "--out", "here", *EMT]) == 0
    interrupted(4, *EOS)
    capsys.readouterr()
    words = ("eos", "cu.xyz", "al.xyz", *EOS[2:], "--resume")
    assert n_computed(*words, code=2) == 0
    assert "here/al-eos.csv exists and would be replaced" in error_line(capsys)
    # with what belongs to it, a picture among it, it may go on
    assert n_computed(*EOS, "--resume", "--plot") == 7


def test_what_is_kept_for_more_structures_stays_until_all_are_done():
    words = ("eos", "cu.xyz", "al.xyz", *EOS[2:])
    interrupted(15, *words)
    assert n_computed(*EOS, "--resume") == 0
    assert KEPT.exists()
    assert n_computed(*words, "--resume") == 7
    assert not KEPT.exists()


def test_a_relaxation_with_too_few_steps_goes_on_with_more():
    words = ("relax", "rattled.xyz", "--out", "here", *EMT)
    assert n_computed(*words, "--steps", "3", code=3) == 4
    n_more = n_computed(*words, "--resume", "--steps", "50")
    assert n_computed("relax", "rattled.xyz", "--out", "there", *EMT) == 4 + n_more
    for name in ("rattled-final.xyz", "rattled-relax.csv", "rattled-relax.traj"):
        assert Path("here", name).read_bytes() == Path("there", name).read_bytes()


def test_another_calculator_or_a_changed_one_computes_all_again(monkeypatch):
    source = "from toys.stoppable import one_by_one as first, one_by_one as second\n"
    Path("mine.py").write_text(source)
    monkeypatch.syspath_prepend(".")
    interrupted(4, *EOS, "--calculator", "mine:first")
    KEPT.rename("kept")
    for name, more, n_all in (
        ("first", "", 7),
        ("second", "", 11),
        ("first", "# another parameter\n", 11),
    ):
        Path("mine.py").write_text(source + more)
        KEPT.write_bytes(Path("kept").read_bytes())
        words = (*EOS, "--calculator", f"mine:{name}", "--resume", "--overwrite")
        assert n_computed(*words) == n_all


def test_that_what_computes_has_changed_is_told(capsys):
    interrupted(4, *EOS)
    capsys.readouterr()
    assert n_computed(*EOS, "--calculator", "emt", "--resume") == 0
    line = error_line(capsys)
    assert line == (
        "jmp-md: warning: what computes has changed (calculator was "
        "toys.stoppable:one_by_one and is emt), so that nothing known from before is "
        "used"
    )


def test_energies_that_were_refused_leave_nothing(capsys):
    write("odd.xyz", [bulk("Cu"), bulk("Fe")])
    assert n_computed("energy", "odd.xyz", "--out", "here", *EMT, code=2) == 1
    assert not list(Path("here").glob("*.part"))
    assert "kept" not in capsys.readouterr().out


@pytest.mark.parametrize("names", [["cu.xyz", "fe.xyz"], ["cu.xyz"]])
def test_what_would_be_refused_again_is_not_said_to_go_on(names, capsys, monkeypatch):
    def refuse(*_):
        raise UnsupportedSystemError("odd")

    write("fe.xyz", bulk("Fe"))
    stoppable.reset(4)
    monkeypatch.setattr("toys.stoppable.os.kill", refuse)
    assert main(["eos", *names, *EOS[2:]]) == 2
    told = capsys.readouterr().out
    assert "; when what was refused is mended, the command goes on with" in told
    assert "the same command" not in told


def test_one_process_at_a_time_does_the_work(capsys):
    interrupted(4, *EOS)
    capsys.readouterr()
    before = KEPT.read_bytes()
    with FileLock(KEPT.with_name(f".{KEPT.name}.lock")):
        for word in ("--resume", "--overwrite"):
            assert n_computed(*EOS, word, code=2) == 0
            assert f"another jmp-md works with {KEPT}" in error_line(capsys)
    assert KEPT.read_bytes() == before


def test_a_file_of_another_kind_is_told(capsys):
    Path("here").mkdir()
    KEPT.write_text("precious")
    assert n_computed(*EOS, "--resume", code=2) == 0
    assert "does not hold results of work that did not finish" in error_line(capsys)
    assert KEPT.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told(capsys):
    Path("file").write_text("")
    assert n_computed(*EOS, "--out", "file", code=2) == 0
    assert "file" in error_line(capsys)


def test_a_full_disk_ends_the_work_and_more_space_lets_it_go_on(capsys):
    words = ("eos", "cu.xyz", "al.xyz", *EOS[2:])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        n_done = n_computed(*words, code=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    told = capsys.readouterr()
    # once, not for each structure
    assert error_line_of(told.err).startswith(
        f"jmp-md: error: cannot write {KEPT}: File too large; free space there"
    )
    assert "goes on with --out here --resume" in told.out
    assert 1 < n_done < 11
    assert n_computed(*words, "--resume") == 22 - n_done + 1


def test_a_model_goes_on_in_batches_to_the_same_last_bit(monkeypatch):
    for number, name in enumerate(("H2O", "CH3OH")):
        atoms = molecule(name)
        atoms.rattle(0.1, seed=number)
        write(f"{name}.xyz", atoms)
    words = ["relax", "H2O.xyz", "CH3OH.xyz", "--steps", "6", "--together", "2"]
    code = main([*words, "--out", "whole-work"])
    evaluate, calls = JMPCalculator.evaluate, []

    def stopped(self, frames, properties):
        calls.append(len(frames))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return evaluate(self, frames, properties)

    monkeypatch.setattr(JMPCalculator, "evaluate", stopped)
    assert main([*words, "--out", "here"]) == 130
    assert main([*words, "--out", "here", "--resume"]) == code
    assert calls == [2] * 8
    for path in Path("whole-work").glob("*[!l]"):
        if path.suffix != ".part":
            assert Path("here", path.name).read_bytes() == path.read_bytes()
    assert len(read("here/H2O-relax.traj", ":")) == 7
