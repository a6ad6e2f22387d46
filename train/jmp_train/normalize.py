"""Scales and reference values of a task: fitted in one pass, merged, written, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from jmp_calc.errors import DataError
from jmp_train.data.sample import Sample
from jmp_train.factor import MAX_ELEMENT, N_FIXED, Factor

ENERGY = "energy"
"""Name of the total energy among the labels that are fitted; no target has it."""

_RANK_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetStatistics:
    """What the labels of one target look like, in its unit."""

    n: int
    """Systems that have the label."""
    mean: float
    """Mean."""
    std: float
    """Standard deviation."""
    references: dict[int, float]
    """Least-squares reference by atomic number."""
    referenced_mean: float
    """Mean of what is left without the references."""
    referenced_std: float
    """Standard deviation of what is left without the references."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return {
            "n": self.n,
            "mean": self.mean,
            "std": self.std,
            "references": _references_to_json(self.references),
            "referenced_mean": self.referenced_mean,
            "referenced_std": self.referenced_std,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TargetStatistics:
        """Return the statistics that :meth:`to_json` wrote.

        Raises:
            DataError: If a field is missing.
        """
        try:
            return cls(
                n=int(data["n"]),
                references=_references_from_json(data["references"]),
                **{
                    name: float(data[name])
                    for name in ("mean", "std", "referenced_mean", "referenced_std")
                },
            )
        except KeyError as error:
            raise _missing(error) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskStatistics:
    """What the labels of a task look like; measured on its training part."""

    references: dict[int, float]
    """Reference energy by atomic number, eV; empty without energies."""
    energy_std: float
    """Standard deviation of the referenced energy (sigma_E), eV; 0 without energies."""
    force_rms: float
    """Root mean square of the force components (sigma_F), eV/Å; 0 without forces."""
    stress_rms: float = 0.0
    """Root mean square of the nine stress components, eV/Å³; 0 without stress."""
    mean_atoms: float
    """Mean number of atoms of a system."""
    n_systems: int
    """Systems counted."""
    n_atoms: int
    """Atoms counted."""
    n_energies: int = 0
    """Systems with an energy."""
    n_forces: int = 0
    """Systems with forces."""
    elements: tuple[int, ...]
    """Atomic numbers that occur, ascending."""
    targets: dict[str, TargetStatistics] = field(default_factory=dict)
    """Statistics of the other labels, by name."""

    @property
    def energy_scale(self) -> float:
        """The one scale of a head with gradient forces, eV per network unit.

        It is sigma_F (times one Å), because the loss is dominated by forces and both
        labels must share a scale for forces to be the derivative of the energy; a
        task without forces falls back to sigma_E.

        Source:
            Training specification, section 2.2, consistency warning.
        """
        return self.force_rms or self.energy_std or 1.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        return {
            "references": _references_to_json(self.references),
            "energy_std": self.energy_std,
            "force_rms": self.force_rms,
            "stress_rms": self.stress_rms,
            "mean_atoms": self.mean_atoms,
            "n_systems": self.n_systems,
            "n_atoms": self.n_atoms,
            "n_energies": self.n_energies,
            "n_forces": self.n_forces,
            "elements": list(self.elements),
            "targets": {name: t.to_json() for name, t in self.targets.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TaskStatistics:
        """Return the statistics that :meth:`to_json` wrote.

        Raises:
            DataError: If a field is missing.
        """
        try:
            return cls(
                references=_references_from_json(data["references"]),
                energy_std=float(data["energy_std"]),
                force_rms=float(data["force_rms"]),
                stress_rms=float(data["stress_rms"]),
                mean_atoms=float(data["mean_atoms"]),
                n_systems=int(data["n_systems"]),
                n_atoms=int(data["n_atoms"]),
                n_energies=int(data["n_energies"]),
                n_forces=int(data["n_forces"]),
                elements=tuple(int(z) for z in data["elements"]),
                targets={
                    name: TargetStatistics.from_json(target)
                    for name, target in data["targets"].items()
                },
            )
        except KeyError as error:
            raise _missing(error) from None


def _missing(error: KeyError) -> DataError:
    return DataError(f"statistics lack the field {error}; prepare the store again")


def _references_to_json(references: Mapping[int, float]) -> dict[str, float]:
    return {str(z): value for z, value in references.items()}


def _references_from_json(data: Mapping[str, Any]) -> dict[int, float]:
    return {int(z): float(value) for z, value in data.items()}


class StatisticsAccumulator:
    """Statistics of a stream of labelled systems, in one pass and constant memory.

    Systems with the same labels share one triangular factor of the matrix
    [1 | counts of atoms | labels]. Its first row holds the means and the others what
    deviates from them, so that neither a mean nor a spread is a difference of large
    sums; a total energy is about 1e5 times its spread. Factors of parts of a stream
    are joined by another factorization, so parts may be counted at the same time.

    Source:
        Linear reference: training specification, section 1.2. Row-updated QR: Golub
        and Van Loan, Matrix Computations, section 6.5.
    """

    def __init__(self) -> None:
        self._factors: dict[tuple[str, ...], Factor] = {}
        self._atoms = np.zeros(MAX_ELEMENT + 1, dtype=np.int64)
        self._systems = np.zeros(MAX_ELEMENT + 1, dtype=np.int64)
        self._n_systems = 0
        self._squares = {"forces": 0.0, "stress": 0.0}
        self._components = {"forces": 0, "stress": 0}
        self._labelled = {"forces": 0, "stress": 0}

    @property
    def n_systems(self) -> int:
        """Systems counted so far."""
        return self._n_systems

    @property
    def labels(self) -> dict[str, int]:
        """Systems that have each label: energy, forces, stress, then targets."""
        counts = {ENERGY: 0, **self._labelled}
        for names, factor in self._factors.items():
            for name in names:
                counts[name] = counts.get(name, 0) + factor.n_rows
        return counts

    @property
    def element_systems(self) -> dict[int, int]:
        """Systems that hold each element, by atomic number."""
        return {int(z): int(self._systems[z]) for z in np.flatnonzero(self._systems)}

    def add(self, sample: Sample) -> None:
        """Count one system.

        Args:
            sample: Structure and labels; absent labels are not counted.

        Raises:
            DataError: If a target is called ``energy``.
        """
        counts = np.bincount(sample.numbers, minlength=MAX_ELEMENT + 1)
        self._atoms += counts
        self._systems += counts > 0
        self._n_systems += 1
        self._add_values(sample, counts)
        for name, value in (("forces", sample.forces), ("stress", sample.stress)):
            if value is not None:
                self._squares[name] += float(np.square(value).sum())
                self._components[name] += value.size
                self._labelled[name] += 1

    def _add_values(self, sample: Sample, counts: Int[np.ndarray, " elements"]) -> None:
        if ENERGY in sample.targets:
            raise DataError(
                f"sample {sample.name or sample.group!r} has a target called "
                f"{ENERGY!r}; give it as the energy, or by another name"
            )
        values = dict(sorted(sample.targets.items()))
        if sample.energy is not None:
            values = {ENERGY: sample.energy, **values}
        if values:
            factor = self._factors.setdefault(tuple(values), Factor(len(values)))
            factor.add(counts, list(values.values()))

    def merge(self, other: StatisticsAccumulator) -> None:
        """Count everything that another accumulator has counted.

        Args:
            other: Of other systems; it is not changed.
        """
        self._atoms += other._atoms
        self._systems += other._systems
        self._n_systems += other._n_systems
        for name in self._squares:
            self._squares[name] += other._squares[name]
            self._components[name] += other._components[name]
            self._labelled[name] += other._labelled[name]
        for names, factor in other._factors.items():
            mine = self._factors.setdefault(names, Factor(len(names)))
            mine.merge(factor)

    def to_json(self) -> dict[str, Any]:
        """Return the whole state as plain data, to go on with in another process."""
        elements = np.flatnonzero(self._atoms)
        return {
            "elements": elements.tolist(),
            "atoms": self._atoms[elements].tolist(),
            "systems": self._systems[elements].tolist(),
            "n_systems": self._n_systems,
            "squares": self._squares,
            "components": self._components,
            "labelled": self._labelled,
            "factors": [
                {"labels": list(names), **factor.to_json(elements)}
                for names, factor in self._factors.items()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StatisticsAccumulator:
        """Return the accumulator whose state :meth:`to_json` returned.

        Raises:
            DataError: If a field is missing.
        """
        found = cls()
        try:
            elements = np.array(data["elements"], dtype=np.int64)
            found._atoms[elements] = data["atoms"]
            found._systems[elements] = data["systems"]
            found._n_systems = int(data["n_systems"])
            for name in found._squares:
                found._squares[name] = float(data["squares"][name])
                found._components[name] = int(data["components"][name])
                found._labelled[name] = int(data["labelled"][name])
            found._factors = {
                tuple(factor["labels"]): Factor.from_json(factor, elements)
                for factor in data["factors"]
            }
        except KeyError as error:
            raise _missing(error) from None
        return found

    def finish(self) -> TaskStatistics:
        """Return the statistics of everything added so far.

        Raises:
            DataError: If nothing was added.
        """
        if self._n_systems == 0:
            raise DataError(
                "there are no systems to take statistics of; check that the data set "
                "is present and that not all of it is excluded or held out"
            )
        names = dict.fromkeys(name for key in self._factors for name in key)
        fits = {name: self._fit(name) for name in names}
        energy = fits.pop(ENERGY, None)
        n_atoms = int(self._atoms.sum())
        return TaskStatistics(
            references={} if energy is None else energy.references,
            energy_std=0.0 if energy is None else energy.referenced_std,
            force_rms=self._rms("forces"),
            stress_rms=self._rms("stress"),
            mean_atoms=n_atoms / self._n_systems,
            n_systems=self._n_systems,
            n_atoms=n_atoms,
            n_energies=0 if energy is None else energy.n,
            n_forces=self._labelled["forces"],
            elements=tuple(int(z) for z in np.flatnonzero(self._atoms)),
            targets=fits,
        )

    def _rms(self, name: str) -> float:
        return float(np.sqrt(self._squares[name] / max(self._components[name], 1)))

    def _fit(self, name: str) -> TargetStatistics:
        """Fit one label to the systems that have it."""
        columns = range(N_FIXED)
        having = {k: f for k, f in self._factors.items() if name in k}
        rows = [
            f.triangle()[:, [*columns, N_FIXED + names.index(name)]]
            for names, f in having.items()
        ]
        factor = np.asarray(np.linalg.qr(np.vstack(rows), mode="r"))
        counts, label = factor[:, 1:N_FIXED], factor[:, -1]
        coefficient = np.linalg.lstsq(counts, label, rcond=_RANK_TOLERANCE)[0]
        rest = label - counts @ coefficient
        n = sum(f.n_rows for f in having.values())
        present = np.flatnonzero(np.abs(counts).sum(axis=0))
        return TargetStatistics(
            n=n,
            mean=float(label[0] / factor[0, 0]),
            std=float(np.linalg.norm(label[1:]) / np.sqrt(n)),
            references={int(z): float(coefficient[z]) for z in present},
            referenced_mean=float(rest[0] / factor[0, 0]),
            referenced_std=float(np.linalg.norm(rest[1:]) / np.sqrt(n)),
        )
