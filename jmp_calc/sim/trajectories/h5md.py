"""Writes trajectories to H5MD files (HDF5 for molecular data), by h5py.

Source:
    H5MD specification, version 1.1 (https://www.nongnu.org/h5md), with its module
    "units"; de Buyl, Colberg and Hoefling, Computer Physics Communications 185, 1546
    (2014).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.output import check_new, writing
from jmp_calc.sim.trajectories.journal import JournaledFile
from jmp_calc.units import FS
from jmp_calc.versions import installed_versions

ENDINGS = (".h5", ".h5md", ".hdf5")
"""Endings of H5MD files."""
PS = 1000.0 * FS
"""One picosecond in ASE time units."""
CREATOR = "jmp-calc"
"""How files say who wrote them."""
CHUNK_BYTES = 8192
"""Size of what HDF5 stores together: small, because each frame rewrites one chunk."""


def require_h5py() -> None:
    """Check that H5MD files can be read and written.

    Raises:
        ArgumentError: If h5py is not installed.
    """
    if find_spec("h5py") is None:
        raise ArgumentError(
            "H5MD files need h5py, which is not installed; run: pip install "
            "'jmp-calc[h5md]'"
        )


class H5MDWriter:
    """Appends frames to an H5MD file; each is there in full after ``write``.

    Positions, velocities and forces are in ``particles/all``; energies (and stress) in
    ``observables``. What the first frame has decides what is stored. If the process is
    killed, frames written before stay readable and none is seen in part.

    Args:
        path: The file.
        overwrite: Whether an existing file may be replaced.
        keep_frames: Go on with an existing file after its first frames; later ones are
            dropped. None: make a new file.

    Raises:
        ArgumentError: If the file exists and may not be replaced, or h5py is missing.
        DataError: If it cannot be written, or has fewer frames.
    """

    n_bytes = 0

    def __init__(
        self, path: Path, *, overwrite: bool = False, keep_frames: int | None = None
    ) -> None:
        require_h5py()
        import h5py

        self.path = path
        self.n_frames = keep_frames or 0
        is_new = keep_frames is None
        if is_new:
            check_new([path], overwrite=overwrite)
        with writing(path):
            self._raw = JournaledFile(path, "w" if is_new else "r+")
            try:
                self._file = h5py.File(self._raw, "w" if is_new else "r+")
            except OSError as error:
                self._raw.close()
                raise DataError(
                    f"cannot go on with {path}: {error}; start a new run"
                ) from error
            if is_new:
                self._write_head()
            else:
                self._keep(self.n_frames)
            self._commit()

    def write(self, frame: Atoms) -> None:
        """Append one frame with its results.

        Args:
            frame: Its ``info`` may have ``step`` and ``time_ps``; without them frames
                are counted, and have no time.

        Raises:
            DataError: If it cannot be written.
        """
        values = _values_of(frame)
        with writing(self.path):
            if "particles" not in self._file:
                self._make(frame, values)
                self._find_series()
            number = self.n_frames
            _append(self._clock["step"], number, frame.info.get("step", number))
            if "time" in self._clock:
                _append(self._clock["time"], number, frame.info["time_ps"])
            for name, dataset in self._series.items():
                if name not in values:
                    raise DataError(
                        f"frame {number} has no {name.split('/')[-1]}, which earlier "
                        f"frames of {self.path} have"
                    )
                _append(dataset, number, values[name])
            self._commit()
        self.n_frames += 1

    def close(self) -> None:
        """Close the file; a frame that was cut off is dropped."""
        try:
            # HDF5 writes its last words to memory, where they are forgotten
            self._file.close()
        finally:
            self._raw.close()

    def _find_series(self) -> None:
        """Find what grows with each frame."""
        position = self._file["particles/all/position"]
        self._clock = {n: position[n] for n in ("step", "time") if n in position}
        names = ["particles/all/box/edges"]
        for group in ("particles/all", "observables"):
            names += [f"{group}/{name}" for name in self._file.get(group, {})]
        # what has no value of its own is the same in all frames
        elements = {name: self._file[name] for name in names}
        self._series = {
            name: element["value"]
            for name, element in elements.items()
            if hasattr(element, "keys") and "value" in element
        }

    def _commit(self) -> None:
        self._file.flush()
        self._raw.commit()

    def _write_head(self) -> None:
        head = self._file.create_group("h5md")
        head.attrs["version"] = [1, 1]
        head.create_group("author").attrs["name"] = np.bytes_("unknown")
        creator = head.create_group("creator")
        creator.attrs["name"] = np.bytes_(CREATOR)
        version = installed_versions(["jmp-calc"]).get("jmp-calc", "unknown")
        creator.attrs["version"] = np.bytes_(version)
        units = head.create_group("modules/units")
        units.attrs["version"] = [1, 0]
        units.attrs["system"] = np.bytes_("SI")

    def _make(self, frame: Atoms, values: Mapping[str, np.ndarray]) -> None:
        particles = self._file.create_group("particles/all")
        particles["species"] = frame.numbers.astype("i4")
        particles["mass"] = frame.get_masses()
        particles["mass"].attrs["unit"] = np.bytes_("u")
        box = particles.create_group("box")
        box.attrs["dimension"] = 3
        box.attrs["boundary"] = np.array(
            [b"periodic" if is_on else b"none" for is_on in frame.pbc]
        )
        fixed = _fixed(frame)
        if len(fixed):
            self._file["parameters/fixed_atoms"] = fixed
        position = particles.create_group("position")
        _make_series(position, "step", np.int64(0), "")
        if "time_ps" in frame.info:
            _make_series(position, "time", np.float64(0), "ps")
        for name, value in values.items():
            group = self._file.require_group(name)
            _make_series(group, "value", value, _UNIT_OF.get(name.split("/")[-1], ""))
            for clock in ("step", "time"):
                if clock in position and clock not in group:
                    group[clock] = position[clock]

    def _keep(self, number: int) -> None:
        found = 0
        if "particles" in self._file:
            self._find_series()
            found = len(self._clock["step"])
        if found < number:
            raise DataError(
                f"{self.path} has {found} frames and should have {number}; it was "
                "changed since the run stopped: start a new run from the last frame"
            )
        if found:
            for dataset in (*self._clock.values(), *self._series.values()):
                dataset.resize(number, axis=0)


_UNIT_OF = {
    "position": "Ang",
    "velocity": "Ang ps-1",
    "force": "eV Ang-1",
    "edges": "Ang",
    "potential_energy": "eV",
    "kinetic_energy": "eV",
    "stress": "eV Ang-3",
}


def _values_of(frame: Atoms) -> dict[str, np.ndarray]:
    """Return what is stored of a frame, by the name of its element."""
    found = {
        "particles/all/position": frame.positions,
        "particles/all/box/edges": np.array(frame.cell),
    }
    if frame.has("momenta"):
        found["particles/all/velocity"] = frame.get_velocities() * PS
        found["observables/kinetic_energy"] = np.float64(frame.get_kinetic_energy())
    results = getattr(frame.calc, "results", {})
    if "forces" in results:
        found["particles/all/force"] = results["forces"]
    if "energy" in results:
        found["observables/potential_energy"] = np.float64(results["energy"])
    if "stress" in results:
        found["observables/stress"] = results["stress"]
    return found


def _fixed(frame: Atoms) -> np.ndarray:
    indices = [c.index for c in frame.constraints if isinstance(c, FixAtoms)]
    return np.concatenate(indices) if indices else np.zeros(0, dtype=int)


def _make_series(group: Any, name: str, value: Any, unit: str) -> None:
    value = np.asarray(value)
    rows = max(1, CHUNK_BYTES // max(1, value.nbytes))
    dataset = group.create_dataset(
        name,
        shape=(0, *value.shape),
        maxshape=(None, *value.shape),
        chunks=(rows, *value.shape),
        dtype=value.dtype if value.dtype.kind == "i" else "f8",
    )
    if unit:
        dataset.attrs["unit"] = np.bytes_(unit)


def _append(dataset: Any, number: int, value: Any) -> None:
    dataset.resize(number + 1, axis=0)
    dataset[number] = value
