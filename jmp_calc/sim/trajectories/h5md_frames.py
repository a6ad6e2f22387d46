"""Reads trajectories from H5MD files, also foreign ones.

Source:
    As for :mod:`jmp_calc.sim.trajectories.h5md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from jmp_calc.errors import DataError
from jmp_calc.sim.trajectories.h5md import CREATOR, PS, require_h5py
from jmp_calc.sim.trajectories.journal import JournaledFile, journal_of
from jmp_calc.units import KCAL_PER_MOL, KJ_PER_MOL

_LENGTHS = {
    **dict.fromkeys(("Ang", "Angstrom", "angstrom", "A"), 1.0),
    "nm": 10.0,
    "pm": 0.01,
}
_TIMES = {"ps": 1.0, "fs": 0.001, "ns": 1000.0}
_ENERGIES = {"eV": 1.0, "kJ mol-1": KJ_PER_MOL, "kcal mol-1": KCAL_PER_MOL}
UNITS: Mapping[str, float] = {
    **_LENGTHS,
    **_TIMES,
    **_ENERGIES,
    **{f"{a} {t}-1": _LENGTHS[a] / _TIMES[t] for a in _LENGTHS for t in _TIMES},
    **{f"{e} {a}-1": _ENERGIES[e] / _LENGTHS[a] for e in _ENERGIES for a in _LENGTHS},
}
"""Units of foreign files in those used here: angstrom, ps, eV and what they give."""


class H5MDFrames:
    """Frames of an H5MD file, read one by one; a context manager.

    Foreign files are read if their species are atomic numbers and they tell their
    units; a time without unit is left out.

    Args:
        path: The file.

    Raises:
        ArgumentError: If h5py is missing.
        DataError: If it is no H5MD file, or says no elements or units known here.
    """

    def __init__(self, path: Path) -> None:
        require_h5py()
        import h5py

        self.path = path
        try:
            if journal_of(path).exists():
                # a run that was killed while it wrote a frame: see it as complete
                self._file = h5py.File(JournaledFile(path, "r"), "r")
            else:
                self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise DataError(f"cannot read {path} as an H5MD file: {error}") from error
        try:
            self._open()
        except (KeyError, AttributeError, TypeError) as error:
            self._file.close()
            raise DataError(
                f"{path} does not follow the H5MD specification ({error}); it needs "
                "particles/NAME with position, box and species"
            ) from error
        except DataError:
            self._file.close()
            raise

    def __enter__(self) -> H5MDFrames:
        """Give the frames."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    @property
    def notes(self) -> list[str]:
        """What to know before the numbers are believed."""
        creator = self._file.get("h5md/creator")
        name = "" if creator is None else _text(creator.attrs.get("name", ""))
        if name == CREATOR:
            return []
        formula = Atoms(numbers=self._numbers).get_chemical_formula()
        return [
            f"the file was written by {name or 'another program'}: its species are "
            f"taken for atomic numbers, {formula}"
        ]

    def __len__(self) -> int:
        """Return the number of complete frames."""
        return self._n_frames

    def __iter__(self) -> Iterator[Atoms]:
        """Go through all frames."""
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Atoms:
        """Return one frame, with step, time and results where the file has them.

        Args:
            number: From 0.
        """
        frame = Atoms(
            numbers=self._numbers,
            positions=self._read(self._group["position"], number),
            cell=self._edges(number),
            pbc=self._pbc,
        )
        if "mass" in self._group and not hasattr(self._group["mass"], "keys"):
            frame.set_masses(self._group["mass"][()])
        if "velocity" in self._group:
            frame.set_velocities(self._read(self._group["velocity"], number) / PS)
        if len(self._fixed):
            frame.set_constraint(FixAtoms(self._fixed))
        position = self._group["position"]
        frame.info["step"] = number
        if "step" in position:
            frame.info["step"] = int(_clock_at(position["step"], number))
        if "unit" in getattr(position.get("time"), "attrs", {}):
            scale = self._factor(position["time"])
            frame.info["time_ps"] = float(_clock_at(position["time"], number)) * scale
        results = {}
        if "force" in self._group:
            results["forces"] = self._read(self._group["force"], number)
        observables = self._file.get("observables", {})
        if "potential_energy" in observables:
            energy = self._read(observables["potential_energy"], number)
            results["energy"] = float(energy)
        if results:
            frame.calc = SinglePointCalculator(frame, **results)
        return frame

    def _open(self) -> None:
        groups = self._file["particles"]
        self._group = groups["all" if "all" in groups else next(iter(groups))]
        if "position" not in self._group or "species" not in self._group:
            raise DataError(
                f"{self.path} has no positions or no species in {self._group.name}; "
                "write species as atomic numbers"
            )
        species = self._group["species"]
        numbers = species["value"][0] if hasattr(species, "keys") else species[()]
        if len(numbers) == 0 or numbers.min() < 1 or numbers.max() > 118:
            raise DataError(
                f"the species in {self.path} are not atomic numbers (1 to 118), so the "
                "elements are unknown; write species as atomic numbers"
            )
        self._numbers = np.asarray(numbers, dtype=int)
        self._n_frames = len(self._group["position"]["value"])
        boundary = self._group["box"].attrs["boundary"]
        self._pbc = [_text(word) == "periodic" for word in np.atleast_1d(boundary)]
        fixed = self._file.get("parameters/fixed_atoms")
        self._fixed = np.zeros(0, dtype=int) if fixed is None else fixed[()]

    def _edges(self, number: int) -> np.ndarray:
        box = self._group["box"]
        if "edges" not in box:
            return np.zeros((3, 3))
        edges = box["edges"]
        is_series = hasattr(edges, "keys")
        value = self._read(edges, number) if is_series else edges[()]
        scale = 1.0 if is_series else self._factor(edges)
        return scale * (np.diag(value) if np.ndim(value) == 1 else value)

    def _read(self, element: Any, number: int) -> Any:
        value = element["value"]
        if len(value) != self._n_frames:
            raise DataError(
                f"{element.name} of {self.path} is stored at other steps than the "
                "positions; store both at the same steps"
            )
        return value[number] * self._factor(value)

    def _factor(self, dataset: Any) -> float:
        unit = _text(dataset.attrs.get("unit", ""))
        if unit not in UNITS:
            problem = f"is in {unit!r}" if unit else "does not tell its unit"
            raise DataError(
                f"{dataset.name} of {self.path} {problem}; its attribute 'unit' may be "
                f"{', '.join((*_LENGTHS, *_TIMES, *_ENERGIES))}, or one by another, "
                "such as 'nm ps-1'"
            )
        return UNITS[unit]


def _clock_at(dataset: Any, number: int) -> Any:
    if dataset.ndim == 1:
        return dataset[number]
    # the increment between frames that are equally far apart
    return dataset[()] * number + dataset.attrs.get("offset", 0)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
