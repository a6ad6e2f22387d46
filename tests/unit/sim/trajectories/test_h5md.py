"""H5MD files: layout, appending, and what a killed process leaves."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.trajectories.h5md import PS, H5MDWriter
from jmp_calc.sim.trajectories.h5md_frames import H5MDFrames
from jmp_calc.sim.trajectories.journal import JournaledFile, journal_of


def frame(number: int, start: Atoms | None = None) -> Atoms:
    atoms = molecule("CH3CH2OH") if start is None else start.copy()
    rng = np.random.default_rng(number)
    atoms.positions += rng.normal(0, 0.1, (len(atoms), 3))
    atoms.set_momenta(rng.normal(0, 1, (len(atoms), 3)))
    atoms.info = {"step": 10 * number, "time_ps": 0.005 * number}
    forces = rng.normal(0, 1, (len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * number, forces=forces)
    return atoms


def written(path, frames) -> None:
    writer = H5MDWriter(path)
    for atoms in frames:
        writer.write(atoms)
    writer.close()


@pytest.mark.parametrize("start", ["molecule", "crystal", "slab"])
def test_frames_come_back_as_they_were(start, tmp_path) -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    slab.set_constraint(FixAtoms([0, 3]))
    system = {
        "molecule": molecule("CH3CH2OH"),
        "crystal": bulk("NaCl", "rocksalt", a=5.6),
    }
    frames = [frame(k, system.get(start, slab)) for k in range(5)]
    frames[3].set_cell(frames[3].cell * 1.1)
    written(tmp_path / "a.h5", frames)
    with H5MDFrames(tmp_path / "a.h5") as found:
        assert len(found) == 5
        for one, other in zip(frames, found, strict=True):
            np.testing.assert_array_equal(other.positions, one.positions)
            np.testing.assert_array_equal(other.cell, one.cell)
            np.testing.assert_array_equal(other.pbc, one.pbc)
            np.testing.assert_array_equal(other.numbers, one.numbers)
            # velocities are stored in angstrom/ps
            np.testing.assert_allclose(
                other.get_momenta(), one.get_momenta(), rtol=1e-12
            )
            np.testing.assert_array_equal(
                other.get_forces(apply_constraint=False),
                one.calc.results["forces"],
            )
            assert other.get_potential_energy() == one.calc.results["energy"]
            assert other.info == one.info
            fixed = [list(c.index) for c in other.constraints]
            assert fixed == [list(c.index) for c in one.constraints]


def test_the_layout_is_that_of_the_specification(tmp_path) -> None:
    written(
        tmp_path / "a.h5", [frame(k, bulk("NaCl", "rocksalt", a=5.6)) for k in range(3)]
    )
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file["h5md"].attrs["version"]) == [1, 1]
        assert file["h5md/author"].attrs["name"]
        assert file["h5md/creator"].attrs["name"] == b"jmp-calc"
        assert file["h5md/modules/units"].attrs["system"] == b"SI"
        group = file["particles/all"]
        assert list(group["species"]) == [11, 17]
        assert group["box"].attrs["dimension"] == 3
        assert list(group["box"].attrs["boundary"]) == [b"periodic"] * 3
        assert group["box/edges/value"].shape == (3, 3, 3)
        for name, unit in (
            ("position", b"Ang"),
            ("velocity", b"Ang ps-1"),
            ("force", b"eV Ang-1"),
        ):
            assert group[name]["value"].shape == (3, 2, 3)
            assert group[name]["value"].attrs["unit"] == unit
            # hard links, as the specification asks for
            assert group[name]["step"] == group["position/step"]
            assert group[name]["time"] == group["position/time"]
        assert list(group["position/step"]) == [0, 10, 20]
        assert list(group["position/time"]) == [0.0, 0.005, 0.010]
        assert group["position/time"].attrs["unit"] == b"ps"
        energy = file["observables/potential_energy"]
        assert list(energy["value"]) == [0.0, -1.5, -3.0]
        assert energy["value"].attrs["unit"] == b"eV"


def test_every_frame_is_seen_at_once_and_in_full(tmp_path) -> None:
    writer = H5MDWriter(tmp_path / "a.h5")
    for number in range(4):
        writer.write(frame(number))
        with H5MDFrames(tmp_path / "a.h5") as found:
            assert len(found) == number + 1
            np.testing.assert_array_equal(
                found[number].positions, frame(number).positions
            )
    writer.close()


def test_a_file_goes_on_after_the_frames_that_are_kept(tmp_path) -> None:
    written(tmp_path / "a.h5", [frame(k) for k in range(6)])
    writer = H5MDWriter(tmp_path / "a.h5", keep_frames=3)
    assert writer.n_frames == 3
    writer.write(frame(7))
    writer.close()
    with H5MDFrames(tmp_path / "a.h5") as found:
        assert [atoms.info["step"] for atoms in found] == [0, 10, 20, 70]


def test_more_frames_than_there_are_cannot_be_kept(tmp_path) -> None:
    written(tmp_path / "a.h5", [frame(0)])
    with pytest.raises(DataError, match="has 1 frames and should have 2"):
        H5MDWriter(tmp_path / "a.h5", keep_frames=2)


def test_existing_files_are_only_replaced_on_request(tmp_path) -> None:
    written(tmp_path / "a.h5", [frame(0)])
    with pytest.raises(ArgumentError, match="exists and would be replaced"):
        H5MDWriter(tmp_path / "a.h5")
    writer = H5MDWriter(tmp_path / "a.h5", overwrite=True)
    writer.write(frame(3))
    writer.close()
    with H5MDFrames(tmp_path / "a.h5") as found:
        assert [atoms.info["step"] for atoms in found] == [30]


def test_a_frame_that_misses_what_others_have_is_refused(tmp_path) -> None:
    writer = H5MDWriter(tmp_path / "a.h5")
    writer.write(frame(0))
    poor = frame(1)
    poor.calc = None
    with pytest.raises(DataError, match="frame 1 has no force"):
        writer.write(poor)
    writer.write(frame(2))
    writer.close()
    with H5MDFrames(tmp_path / "a.h5") as found:
        assert [atoms.info["step"] for atoms in found] == [0, 20]


class Killed(BaseException):
    """Ends a write where a signal would."""


@pytest.mark.parametrize("n_writes", [0, 1, 2, 3, 5, 8])
def test_a_write_cut_off_anywhere_leaves_whole_frames(n_writes, tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    writer = H5MDWriter(path)
    writer.write(frame(0))
    writer.write(frame(1))
    raw = writer._raw

    class Dying:
        """The file of the system, which takes so many writes and no more."""

        def __init__(self, file) -> None:
            self.file = file
            self.left = n_writes

        def write(self, data):
            if self.left == 0:
                # half of it arrives
                self.file.write(bytes(data)[: len(data) // 2])
                raise Killed
            self.left -= 1
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    real = raw._file
    raw._file = Dying(real)
    try:
        writer.write(frame(2))
        wanted = 3
    except Killed:
        # the commit was saved beside the file before the first write to it
        wanted = 3
    real.flush()
    # what is on the disk now, seen by another process
    (tmp_path / "copy").mkdir()
    for file in (path, journal_of(path)):
        if file.exists():
            shutil.copy(file, tmp_path / "copy" / file.name)
    with H5MDFrames(tmp_path / "copy" / "a.h5") as found:
        assert len(found) == wanted
        np.testing.assert_array_equal(found[2].positions, frame(2).positions)
    again = H5MDWriter(tmp_path / "copy" / "a.h5", keep_frames=2)
    again.write(frame(5))
    again.close()
    with h5py.File(tmp_path / "copy" / "a.h5") as file:
        assert list(file["particles/all/position/step"]) == [0, 10, 50]


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from ase import Atoms
from jmp_calc.sim.trajectories.h5md import PS, H5MDWriter
writer = H5MDWriter(Path(sys.argv[1]))
for step in range(10**6):
    atoms = Atoms("Ar20", positions=np.full((20, 3), float(step)))
    atoms.info = {"step": step, "time_ps": 0.001 * step}
    writer.write(atoms)
    print(step, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", range(20, 140, 10))
def test_a_killed_process_leaves_whole_frames(n_frames, tmp_path) -> None:
    path = tmp_path / "a.h5"
    words = [sys.executable, "-c", SCRIPT, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= n_frames:
                os.kill(process.pid, signal.SIGKILL)
                break
    with H5MDFrames(path) as found:
        assert len(found) > n_frames
        for step, atoms in enumerate(found):
            assert atoms.info["step"] == step
            assert (atoms.positions == step).all()


def test_reading_changes_nothing_on_the_disk(tmp_path) -> None:
    path = tmp_path / "a.bin"
    file = JournaledFile(path, "w")
    file.write(b"one")
    file.commit()
    file.write(b"two")
    file._apply = lambda: None
    file.commit()
    file.close()
    assert path.read_bytes() == b"one"
    reader = JournaledFile(path, "r")
    assert reader.read() == b"onetwo"
    reader.close()
    assert path.read_bytes() == b"one"
    JournaledFile(path, "r+").close()
    assert path.read_bytes() == b"onetwo"
    assert not journal_of(path).exists()


def test_a_damaged_commit_is_an_error(tmp_path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    journal_of(path).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a\.bin\.journal is damaged"):
        JournaledFile(path, "r")


def test_a_foreign_file_is_read_in_its_units(tmp_path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("particles/water")
        group["species"] = [8, 1, 1]
        group["box/edges"] = [1.0, 2.0, 3.0]
        group["box/edges"].attrs["unit"] = "nm"
        group["box"].attrs["boundary"] = ["periodic", "periodic", "none"]
        for name, value in (("step", 100), ("time", 50.0)):
            group[f"position/{name}"] = value
        group["position/time"].attrs["unit"] = "fs"
        group["position/time"].attrs["offset"] = 10.0
        group["position/value"] = np.arange(18.0).reshape(2, 3, 3)
        group["position/value"].attrs["unit"] = "nm"
    with H5MDFrames(tmp_path / "a.h5") as found:
        atoms = found[1]
    np.testing.assert_allclose(atoms.positions, 10 * np.arange(9.0, 18.0).reshape(3, 3))
    np.testing.assert_allclose(np.diag(atoms.cell), [10, 20, 30])
    assert list(atoms.pbc) == [True, True, False]
    assert atoms.info["step"] == 100
    assert atoms.info["time_ps"] == pytest.approx(0.060)


def foreign(path, creator=b"GROMACS", **units) -> None:
    """Write one frame of water as other programs do: by series, in their units."""
    values = {
        "position": np.eye(3),
        "velocity": np.eye(3),
        "force": np.eye(3),
        "box/edges": np.eye(3),
    }
    with h5py.File(path, "w") as file:
        file.create_group("h5md/creator").attrs["name"] = creator
        group = file.create_group("particles/system")
        group["species"] = [8, 1, 1]
        for name, value in values.items():
            group[f"{name}/value"] = value[None].astype("f4")
            if unit := units.get(name.split("/")[-1]):
                group[f"{name}/value"].attrs["unit"] = unit
            group[f"{name}/time"] = [2.0]
        group["box"].attrs["boundary"] = ["periodic"] * 3


GROMACS = {
    "position": "nm",
    "velocity": "nm ps-1",
    "force": "kJ mol-1 nm-1",
    "edges": "nm",
}


def test_units_of_other_programs_are_known(tmp_path) -> None:
    foreign(tmp_path / "a.h5", **GROMACS)
    with H5MDFrames(tmp_path / "a.h5") as found:
        atoms, notes = found[0], found.notes
    np.testing.assert_allclose(atoms.positions, 10 * np.eye(3))
    np.testing.assert_allclose(atoms.cell, 10 * np.eye(3))
    np.testing.assert_allclose(atoms.get_velocities() * PS, 10 * np.eye(3))
    # 1 kJ/mol is 0.010364 eV, 1 nm is 10 A
    np.testing.assert_allclose(atoms.get_forces(), 0.0010364 * np.eye(3), rtol=1e-4)
    # a time without unit is no time, and frames without steps are counted
    assert atoms.info == {"step": 0}
    assert notes == [
        "the file was written by GROMACS: its species are taken for atomic numbers, H2O"
    ]


@pytest.mark.parametrize("name", ["position", "edges"])
def test_units_that_are_not_told_are_not_guessed(name, tmp_path) -> None:
    foreign(tmp_path / "a.h5", **{**GROMACS, name: None})
    told = f"{name}/value of .* does not tell its unit; its attribute 'unit' may be"
    with (
        H5MDFrames(tmp_path / "a.h5") as found,
        pytest.raises(DataError, match=told),
    ):
        found[0]
    foreign(tmp_path / "b.h5", **{**GROMACS, name: "furlong"})
    with (
        H5MDFrames(tmp_path / "b.h5") as found,
        pytest.raises(DataError, match="is in 'furlong'"),
    ):
        found[0]


def test_files_that_cannot_be_read_say_why(tmp_path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match="as an H5MD file"):
        H5MDFrames(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(DataError, match="does not follow the H5MD specification"):
        H5MDFrames(tmp_path / "other.h5")
    with h5py.File(tmp_path / "types.h5", "w") as file:
        group = file.create_group("particles/all")
        group["species"] = [0, 1]
        group["position/value"] = np.zeros((1, 2, 3))
    with pytest.raises(DataError, match="are not atomic numbers"):
        H5MDFrames(tmp_path / "types.h5")


def test_a_file_without_a_frame_to_keep_starts_anew(tmp_path) -> None:
    for name, earlier in (("a.h5", []), ("b.h5", [frame(0), frame(1)])):
        written(tmp_path / name, earlier)
        writer = H5MDWriter(tmp_path / name, keep_frames=0)
        writer.write(frame(4))
        writer.close()
        with H5MDFrames(tmp_path / name) as found:
            assert [atoms.info["step"] for atoms in found] == [40]


def test_a_full_disk_is_told_and_the_frames_before_stay(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.h5"
    writer = H5MDWriter(path)
    writer.write(frame(0))

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            writer.write(frame(1))
    assert writer.n_frames == 1
    writer.close()
    with H5MDFrames(path) as found:
        assert len(found) == 1
    assert not list(tmp_path.glob(".*"))
