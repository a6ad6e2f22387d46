"""Every verb goes on where it was stopped, and ends as if it had not been."""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path

import pytest
from ase.build import add_adsorbate, bulk, fcc100, molecule
from ase.constraints import FixAtoms
from ase.io import write

from jmp_calc.cli import main
from toys import stoppable

CASES = {
    "relax": "cu.xyz cu2.xyz al.xyz --move both --steps 8 --trajectory-format traj",
    "energy": "many.xyz cu.xyz --chunk 3",
    "phonons": "cu.xyz al.xyz --supercell 2 --mesh 3 --band-points 4 --relax both",
    "vibrations": "water.xyz n2.xyz --relax --steps 5",
    "elastic": "cu.xyz al.xyz --relax cell --points 2",
    "eos": "cu.xyz al.xyz --points 5",
    "neb": "initial.xyz final.xyz --images 3 --relax-ends --steps 6",
    "scan": "ethane.xyz --atoms 2,0,1,5 --points 4 --relax --steps 6",
}
"""Verb -> small work with more than one structure."""

VARYING = re.compile(
    r"^( *)(command|started|ended|wall_seconds):.*\n(\1 +.*\n)*", re.MULTILINE
)
"""Lines of a summary that tell of the call and not of the result."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A folder with small structures."""
    monkeypatch.chdir(tmp_path)
    for name, element in (("cu", "Cu"), ("cu2", "Cu"), ("al", "Al")):
        crystal = bulk(element, "bcc", a=3.0, cubic=True)
        crystal.rattle(0.05, seed=len(name))
        write(f"{name}.xyz", crystal)
    frames = [bulk("Cu", "bcc", a=3.0, cubic=True) for _ in range(8)]
    for seed, frame in enumerate(frames):
        frame.rattle(0.05, seed=seed)
    write("many.xyz", frames)
    for name, formula in (("water", "H2O"), ("n2", "N2"), ("ethane", "C2H6")):
        write(f"{name}.xyz", molecule(formula))
    slab = fcc100("Al", size=(1, 1, 2))
    add_adsorbate(slab, "Au", 1.7, "hollow")
    slab.info.clear()
    slab.center(axis=2, vacuum=4.0)
    slab.set_constraint(FixAtoms([0, 1]))
    write("initial.xyz", slab)
    slab.positions[-1, 0] += slab.cell[0, 0] / 2
    write("final.xyz", slab)
    return tmp_path


def words_of(verb: str, calculator: str, out: str) -> list[str]:
    chosen = ["--calculator", f"toys.stoppable:{calculator}", "--out", out]
    return [verb, *CASES[verb].split(), *chosen]


def results(folder: str) -> dict[str, str | bytes]:
    """What is in all files but that of what is kept."""
    found: dict[str, str | bytes] = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_dir() or path.suffix == ".part":
            continue
        data: str | bytes = path.read_bytes()
        if path.suffix in (".yml", ".yaml"):
            data = VARYING.sub("", path.read_text()).replace(folder, "FOLDER")
        found[str(path.relative_to(folder))] = data
    return found


def kept_in(folder: str) -> list[str]:
    return [path.name for path in Path(folder).glob("*.part")]


@pytest.mark.parametrize("verb", CASES)
@pytest.mark.parametrize(
    "calculator",
    [
        "in_batches",
        # the same way through verbs; what differs is in tests/unit/sim/test_kept.py
        pytest.param("one_by_one", marks=pytest.mark.slow),
    ],
)
def test_killed_and_interrupted_work_ends_as_if_it_had_not_been(verb, calculator):
    stoppable.reset()
    code = main(words_of(verb, calculator, "whole-work"))
    n_all = stoppable.Stop.n_done
    assert (code == 0) != bool(kept_in("whole-work"))

    words = words_of(verb, calculator, "stopped-work")
    first, second = sorted(random.Random(verb).sample(range(4, n_all - 1), 2))
    assert stoppable.killed(first, *words) == -signal.SIGKILL
    stoppable.reset(second - first, by=signal.SIGINT)
    assert main([*words, "--resume"]) == 130
    assert kept_in("stopped-work")
    n_done = stoppable.Stop.n_done
    stoppable.reset()
    assert main([*words, "--resume"]) == code
    n_done += stoppable.Stop.n_done
    # of batches that were cut off the beginning is computed again
    assert n_done < n_all if calculator == "in_batches" else n_done == n_all - first
    assert results("stopped-work") == results("whole-work")
    assert kept_in("stopped-work") == kept_in("whole-work")
