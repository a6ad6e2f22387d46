"""The network against stored outputs of the published one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from golden import compare

HERE = Path(__file__).parent / "cases"
SHARED = Path(__file__).parents[3] / "shared" / "parity"


def cases(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*__*.npz")) if "weights__" not in p.name]


@pytest.mark.parametrize("path", cases(HERE), ids=lambda p: p.stem)
def test_a_stored_case_is_reproduced(path: Path) -> None:
    results = compare.compare_case(path)
    assert {"energy", "forces"} <= {r.name for r in results}
    assert [r for r in results if not r.is_within] == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the whole set of cases is not here")
@pytest.mark.parametrize("path", cases(SHARED) or [SHARED], ids=lambda p: p.stem)
def test_a_case_of_the_whole_set_is_reproduced(path: Path) -> None:
    results = compare.compare_case(path)
    assert len(results) > 40
    assert [r for r in results if not r.is_within] == []


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A copy of a case and its weights in another place."""
    return copy_of("gradient__co_diatomic", tmp_path)


def copy_of(case: str, tmp_path: Path) -> Path:
    path = HERE / f"{case}.npz"
    weights = str(compare.load_case(path)["weights_file"])
    for name in (path.name, weights):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    return tmp_path / path.name


def change(path: Path, name: str, factor: float) -> Path:
    """Save another case with one array changed."""
    case = compare.load_case(path)
    case[name] = case[name] * factor
    changed = path.with_name("changed.npz")
    np.savez(changed, **case)
    return changed


def script(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, compare.__file__, *map(str, paths)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_the_script_runs_on_files_outside_and_names_each_array(outside: Path) -> None:
    result = script(outside, HERE / "direct__water_far_ar.npz")
    assert result.returncode == 0, result.stderr
    assert str(outside) in result.stdout
    assert result.stdout.count("\n  int_blocks.1.quad_interaction ") == 2
    energy = next(x for x in result.stdout.splitlines() if x.startswith("  energy "))
    assert energy.split()[:2] == ["energy", "(1,)"]
    assert energy.split()[-1] == "1.00e-10"


@pytest.mark.parametrize("name", ["energy", "forces", "int_blocks.0.h", "pos"])
def test_a_relative_change_beyond_the_tolerance_is_found(
    outside: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(outside), str(change(outside, name, 1 + 1e-9))]) == 1
    assert "BEYOND" in capsys.readouterr().out
    assert compare.main([str(change(outside, name, 1 + 1e-13))]) == 0


@pytest.mark.parametrize(("name", "factor"), [("energy", 1 + 1e-9), ("forces", 1.01)])
def test_a_change_is_found_where_neighbours_tie(
    tmp_path: Path, name: str, factor: float
) -> None:
    """The noise stored with that case is that of ties; stored graphs have none."""
    case = copy_of("direct__cu_fcc_tied", tmp_path)
    assert compare.main([str(case)]) == 0
    assert compare.main([str(change(case, name, factor))]) == 1


def test_a_missing_number_is_beyond_any_tolerance(outside: Path) -> None:
    assert compare.main([str(change(outside, "energy", np.nan))]) == 1


def test_a_file_that_is_not_a_case_is_named_and_the_others_are_compared(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = outside.with_name("notes.txt")
    text.write_text("not an archive")
    weights = HERE / "weights__tiny_direct.npz"
    wrong = [outside.with_name("absent.npz"), text, weights]
    assert compare.main([*map(str, wrong), str(outside)]) == 2
    output = capsys.readouterr()
    assert f"{wrong[0]}: no such file" in output.err
    assert f"{text}: not an npz file" in output.err
    assert f"{weights}: no weights_file, graph_settings, pos" in output.err
    assert "  energy  " in output.out


def test_weights_that_do_not_lie_beside_the_case_are_named(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (outside.parent / "weights__tiny_gradient.npz").unlink()
    assert compare.main([str(outside)]) == 2
    assert "weights__tiny_gradient.npz: no such file" in capsys.readouterr().err


def test_the_script_without_files_says_how_it_is_used() -> None:
    result = script()
    assert result.returncode == 2
    assert "CASE.npz" in result.stderr
