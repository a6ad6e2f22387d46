"""Every verb has help with an example, and refuses bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.io import write

from jmp_calc.cli import VERBS, main

TURN = ("--atoms", "2,0,1,3", "--moved", "3")
WORK: dict[str, tuple[tuple[str, ...], str]] = {
    "run": (("--steps", "2"), "traj.traj"),
    "relax": ((), "final.xyz"),
    "energy": ((), "energy.xyz"),
    "scan": (TURN, "scan.csv"),
    "neb": (("other.xyz",), "neb.csv"),
    "vibrations": ((), "vibrations.csv"),
    "elastic": ((), "elastic.csv"),
    "eos": ((), "eos.csv"),
    "phonons": ((), "bands.csv"),
}
"""Verb that computes structures -> words that it needs, end of a file that it makes."""

OTHERS = {"predict", "analyze", "check", "serve", "models"}
"""Verbs of other input."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with a crystal that every verb takes, and with what none takes."""
    monkeypatch.chdir(tmp_path)
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    cell = [3.9, 4.0, 4.1]
    for name, element in (("good", "Cu"), ("unknown", "Si")):
        atoms = Atoms(f"{element}4", scaled_positions=places, cell=cell, pbc=True)
        write(f"{name}.xyz", atoms)
        atoms.rattle(0.1, seed=1)
        write(f"{name}-other.xyz", atoms)
    write("other.xyz", atoms)
    Path("empty.xyz").write_text("")
    Path("noise.xyz").write_bytes(bytes(range(256)))
    Path("folder").mkdir()
    return tmp_path


def words_of(verb: str, name: str, *more: str) -> list[str]:
    needed = [word.replace("other", f"{name}-other") for word in WORK[verb][0]]
    return [verb, f"{name}.xyz", *needed, "--calculator", "emt", *more]


def refused(words: list[str], capsys) -> str:
    """Return the line on stderr of a call that ends as one with bad input."""
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    assert main(words) == 2
    after = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    assert after == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jmp-md: error: ")
    return line


def test_every_verb_is_in_a_table():
    assert set(WORK) | OTHERS == set(VERBS)


@pytest.fixture
def help_of(capsys):
    """Function from a verb to its help, on one line."""

    def read(verb: str) -> str:
        assert main([verb, "--help"]) == 0
        return " ".join(capsys.readouterr().out.split())

    return read


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb, help_of):
    assert f"jmp-md {verb}" in help_of(verb).partition("Example: ")[2]


@pytest.mark.parametrize("verb", WORK)
def test_help_tells_exit_codes_and_units(verb, help_of):
    text = help_of(verb)
    codes = text.partition("Exit codes: ")[2]
    assert codes.startswith("0 ")
    assert "1 bug, 2 usage or input" in codes
    assert "130 " in codes
    assert any(unit in text for unit in ("eV", "Å", "THz"))


@pytest.mark.parametrize("verb", WORK)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "none.xyz does not exist; give a structure file"),
        ("empty", "cannot read structure"),
        ("noise", "cannot read structure"),
        ("unknown", "No EMT-potential for Si"),
    ],
)
def test_a_file_that_cannot_be_computed_is_one_line_and_makes_nothing(
    verb, name, told, capsys
):
    if not Path(f"{name}-other.xyz").exists():
        Path("good-other.xyz").replace(f"{name}-other.xyz")
    line = refused(words_of(verb, name), capsys)
    assert told in line or (verb == "energy" and "structures from" in line)


@pytest.mark.parametrize("verb", WORK)
def test_a_folder_is_no_structure(verb, capsys):
    words = words_of(verb, "good")
    assert "folder is a folder" in refused([verb, "folder", *words[2:]], capsys)


@pytest.mark.parametrize("verb", WORK)
def test_existing_results_are_kept_unless_allowed(verb, capsys):
    Path("old").mkdir()
    made = Path("old", f"good-{WORK[verb][1]}")
    made.write_text("precious")
    line = refused(words_of(verb, "good", "--out", "old"), capsys)
    assert f"{made} exists and would be replaced" in line


@pytest.mark.parametrize("verb", WORK)
def test_a_mistyped_option_and_value_are_told(verb, capsys):
    assert main([*words_of(verb, "good"), "--overwite"]) == 2
    assert "'--overwrite'" in capsys.readouterr().err
    assert main([*words_of(verb, "good"), "--dtype", "float46"]) == 2
    assert "float64" in capsys.readouterr().err
    assert not Path("runs").exists()
