"""The network against stored outputs of the published one."""

from __future__ import annotations

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


def test_the_script_fails_beyond_the_tolerance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = compare.load_case(HERE / "gradient__co_diatomic.npz")
    case["energy"] = case["energy"] * (1 + 1e-9)
    np.savez(tmp_path / "changed.npz", **case)
    weights = str(case["weights_file"])
    (tmp_path / weights).write_bytes((HERE / weights).read_bytes())
    assert compare.main([str(tmp_path / "changed.npz")]) == 1
    assert "BEYOND" in capsys.readouterr().out
    assert compare.main([str(HERE / "gradient__co_diatomic.npz")]) == 0
