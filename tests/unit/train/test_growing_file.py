from __future__ import annotations

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

from jmp_calc.errors import DataError
from jmp_train.data.growing_file import GrowingFile


def part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "new.xyz"


def test_a_finished_file_holds_all_geometries_and_lists_what_failed(path):
    with GrowingFile(path) as file:
        file.add([molecule("H2O"), molecule("NH3")], "")
        file.add([], "no bond")
        file.add([molecule("CH4")], "")
        assert not path.exists()
        file.finish()
    formulas = [atoms.get_chemical_formula() for atoms in ase.io.read(path, ":")]
    assert formulas == ["H2O", "H3N", "CH4"]
    assert path.with_suffix(".failed.tsv").read_text() == "1\tno bond\n"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "new.failed.tsv",
        "new.xyz",
    ]


def test_a_file_that_was_left_goes_on_behind_the_last_whole_structure(path):
    with GrowingFile(path) as file:
        file.add([molecule("H2O")], "")
        file.add([], "no bond")
    with part(path).open("a") as cut:
        cut.write("5\nPropert")
    with path.with_name(path.name + ".part.jsonl").open("a") as cut:
        cut.write("[100, 1")
    with GrowingFile(path) as file:
        assert (file.n_starts, file.n_geometries) == (2, 1)
        assert file.failed == [(1, "no bond")]
        file.add([molecule("CH4")], "")
        file.finish()
    formulas = [atoms.get_chemical_formula() for atoms in ase.io.read(path, ":")]
    assert formulas == ["H2O", "CH4"]


def test_a_file_without_geometries_is_an_error_with_the_first_reason(path):
    with GrowingFile(path) as file:
        file.add([], "no bond")
        with pytest.raises(DataError, match=r"no geometries were made for .*: no bond"):
            file.finish()
    assert not path.exists()


def test_a_damaged_line_says_what_to_delete(path):
    with GrowingFile(path) as file:
        file.add([molecule("H2O")], "")
    path.with_name(path.name + ".part.jsonl").write_text("[12, 1\n[")
    with pytest.raises(DataError, match=r"line 1 of .*jsonl is damaged; delete the"):
        GrowingFile(path)


def test_geometries_that_were_lost_are_noticed(path):
    with GrowingFile(path) as file:
        file.add([molecule("H2O")], "")
    part(path).write_text("")
    with pytest.raises(DataError, match="has 0 bytes and should have"):
        GrowingFile(path)
