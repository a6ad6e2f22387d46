"""What is kept of stopped work: the file after a kill, and what counts as the same."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from jmp_calc.errors import DataError, UnsupportedSystemError
from jmp_calc.sim.evaluation import evaluate_each
from jmp_calc.sim.kept import Kept
from jmp_calc.sim.kept_file import Beginning, KeptFile, beginnings
from toys import stoppable

KEYS = [bytes([n]) * 32 for n in (1, 2, 3)]
RESULTS = [
    {
        "energy": 0.1 + 0.2,
        "forces": np.asfortranarray(np.random.default_rng(0).normal(size=(3, 3))),
        "stress": np.float32([1, np.nan, -0.0]),
        "energy_std": np.float64(1e-300),
        "head": "qm7x",
        "is_conservative": True,
        "none": None,
        "nothing": np.zeros((0, 3)),
    },
    {"energy": float("inf")},
]


def equal(found, expected) -> bool:
    """Whether all is the same to the last bit, types included."""
    return repr(_plain(found)) == repr(_plain(expected))


def _plain(results):
    return [
        {
            name: (type(x), x.dtype.str, x.shape, x.tobytes())
            if isinstance(x, (np.ndarray, np.generic))
            else x
            for name, x in one.items()
        }
        for one in results
    ]


BEGINNING = Beginning(files=["x.csv"], identity={"dtype": "float32"})
OPENED: list[KeptFile] = []


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "a.part"
    close()


def close() -> None:
    while OPENED:
        OPENED.pop().close()


def opened(path, *, is_new: bool) -> KeptFile:
    """The file, after the one before is closed."""
    close()
    OPENED.append(KeptFile(path, is_new=is_new))
    return OPENED[-1]


def filled(path) -> KeptFile:
    file = opened(path, is_new=True)
    file.begin(BEGINNING)
    for key in KEYS:
        file.add(key, RESULTS)
    return file


def test_results_come_back_as_they_were_given_to_the_last_bit(path):
    file = filled(path)
    assert equal(file.add(KEYS[0], RESULTS), RESULTS)
    assert equal(file.find(KEYS[1]), RESULTS)
    again = opened(path, is_new=False)
    assert all(equal(again.find(key), RESULTS) for key in KEYS)
    assert again.find(bytes(32)) is None
    assert again.n_systems == 6
    assert again.find(KEYS[0])[0]["forces"].flags.writeable
    assert beginnings(path) == [BEGINNING]


def test_wherever_the_file_was_cut_off_what_is_whole_is_known_and_it_goes_on(path):
    filled(path)
    close()
    data = path.read_bytes()
    for size in range(0, len(data), 19):
        path.write_bytes(data[:size])
        file = opened(path, is_new=False)
        n_known = sum(file.find(key) is not None for key in KEYS)
        assert n_known == file.n_systems / 2
        file.add(KEYS[2], RESULTS)
        again = opened(path, is_new=False)
        assert equal(again.find(KEYS[2]), RESULTS)
        assert again.n_systems == 2 * min(n_known + 1, 3)
        close()


@pytest.mark.parametrize("place", [20, 60, 400, -1])
def test_a_damaged_record_is_not_used(path, place):
    filled(path)
    close()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    file = opened(path, is_new=False)
    assert file.n_systems < 6
    assert all(equal(file.find(k), RESULTS) for k in KEYS if file.find(k) is not None)


def test_a_file_of_something_else_is_left_alone(path):
    path.write_text("precious")
    with pytest.raises(DataError, match="does not hold results of work that"):
        KeptFile(path, is_new=False)
    assert path.read_text() == "precious"


def test_a_full_disk_is_told_and_what_was_kept_stays(path, monkeypatch):
    file = filled(path)
    size = path.stat().st_size

    class Full:
        def __getattr__(self, name):
            return getattr(raw, name)

        def write(self, data):
            if len(data) < 100:
                raise OSError(errno.ENOSPC, "No space left on device")
            return raw.write(data[:100])

    raw, file._file = file._file, Full()
    with pytest.raises(DataError, match="No space left on device; free space there"):
        file.add(bytes(31) + b"x", RESULTS)
    file._file = raw
    close()
    assert path.stat().st_size == size


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def kept(path, calculator=None, **identity) -> Kept:
    file = opened(path, is_new=not path.exists())
    return Kept(calculator or stoppable.in_batches(), file, {"x": 1, **identity})


def n_computed(path, frames, *properties, **identity) -> int:
    stoppable.reset()
    kept(path, **identity).evaluate(frames, properties or ("energy", "forces"))
    return stoppable.Stop.n_done


CHANGES = {
    "position": lambda a: a.positions.__setitem__((0, 0), np.nextafter(a[0].x, 1)),
    "cell": lambda a: a.set_cell(a.cell * (1 + 1e-15)),
    "periodicity": lambda a: a.set_pbc((True, True, False)),
    "element": lambda a: a.numbers.__setitem__(0, 79),
    "charge": lambda a: a.set_initial_charges([1, 0, 0, 0]),
    "moment": lambda a: a.set_initial_magnetic_moments([1, 0, 0, 0]),
    "tag": lambda a: a.set_tags([1, 0, 0, 0]),
    "info": lambda a: a.info.update(charge=1),
    "array in info": lambda a: a.info.update(x=np.arange(2000)),
    "array": lambda a: a.set_array("mine", np.ones(4)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_a_calculator_may_read_makes_another_structure(change, path):
    atoms = copper()
    assert n_computed(path, [atoms]) == 1
    assert n_computed(path, [atoms.copy()]) == 0
    CHANGES[change](atoms)
    assert n_computed(path, [atoms]) == 1
    assert n_computed(path, [atoms.copy()]) == 0


def test_a_change_in_the_middle_of_a_long_array_counts(path):
    atoms = copper()
    atoms.info["x"] = {"deep": [np.zeros(2000)]}
    n_computed(path, [atoms])
    atoms.info["x"]["deep"][0][1000] = 1
    assert n_computed(path, [atoms]) == 1


def test_constraints_do_not_count_and_other_calls_do(path):
    atoms, other = copper(), copper()
    other.rattle(0.1, seed=2)
    assert n_computed(path, [atoms, other]) == 2
    assert n_computed(path, [atoms, other]) == 0
    # in another batch the last digits are others
    assert n_computed(path, [atoms]) == 1
    assert n_computed(path, [other, atoms]) == 2
    assert n_computed(path, [atoms, other], "forces") == 2
    assert n_computed(path, [atoms, other], y=2) == 2


def test_one_after_another_is_kept_one_by_one(path):
    atoms, other = copper(), copper()
    other.rattle(0.1, seed=2)
    stoppable.reset()
    kept(path, stoppable.one_by_one()).evaluate([atoms, other])
    kept(path, stoppable.one_by_one()).evaluate([other, atoms])
    assert stoppable.Stop.n_done == 2


def test_a_refused_structure_is_tried_again_and_the_others_are_known(path):
    frames = [copper(), bulk("Fe"), copper()]
    for n_done in (1, 0):
        stoppable.reset()
        found = evaluate_each(kept(path, stoppable.one_by_one()), frames)
        assert isinstance(found[1], UnsupportedSystemError)
        assert stoppable.Stop.n_done == n_done


def test_results_that_no_file_can_hold_are_passed_on(path):
    class Odd(EMT):
        def evaluate(self, list_of_atoms, properties=()):
            return [{"energy": 1.0, "more": {"a": 1}} for _ in list_of_atoms]

    evaluator = kept(path, Odd())
    for _ in range(2):
        assert evaluator.evaluate([copper()]) == [{"energy": 1.0, "more": {"a": 1}}]


class Deciding(EMT):
    """Computes with what it decided when it first met a structure, as models do."""

    def __init__(self):
        super().__init__()
        self.met: dict[int, str] = {}

    def meet(self, list_of_atoms):
        return [
            self.met.setdefault(id(a), "long" if a.positions[1, 2] > 1 else "short")
            for a in list_of_atoms
        ]

    def evaluate(self, list_of_atoms, properties=()):
        return [{"energy": 1.0, "head": head} for head in self.meet(list_of_atoms)]


def test_what_was_decided_at_the_start_holds_after_a_resume(path):
    def moved(evaluator, *lengths):
        atoms = Atoms("N2", positions=np.zeros((2, 3)))
        found = []
        for length in lengths:
            atoms.positions[1, 2] = length
            found += [one["head"] for one in evaluator.evaluate([atoms])]
        return found

    assert moved(kept(path, Deciding()), 0.9) == ["short"]
    assert moved(kept(path, Deciding()), 0.9, 1.1) == ["short", "short"]
    # the same place reached otherwise is another call
    assert moved(kept(path, Deciding()), 1.1) == ["long"]


def test_a_spacegroup_in_info_is_the_same_in_another_process(path):
    code = (
        "import sys; from ase.spacegroup import crystal; from pathlib import Path\n"
        "from jmp_calc.sim.kept import Kept; from jmp_calc.sim.kept_file import *\n"
        "from ase.calculators.emt import EMT\n"
        "cell = [3.6, 3.6, 3.6, 90, 90, 90]\n"
        "atoms = crystal('Cu', [(0, 0, 0)], spacegroup=225, cellpar=cell)\n"
        "assert 'spacegroup' in atoms.info\n"
        "file = KeptFile(Path(sys.argv[1]), is_new=not Path(sys.argv[1]).exists())\n"
        "Kept(EMT(), file, {}).evaluate([atoms])\n"
        "print(file.n_systems); file.close()"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.stdout.strip() == "1"


def test_a_molecule_and_a_crystal_may_be_in_one_call(path):
    stoppable.reset()
    evaluator = kept(path)
    first = evaluator.evaluate([molecule("H2O"), copper()])
    assert equal(evaluator.evaluate([molecule("H2O"), copper()]), first)
    assert stoppable.Stop.n_done == 2
