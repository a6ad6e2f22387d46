"""Collects frames for g(r) or h(r), and compares with a reference."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.analysis.distances import (
    DistanceCounts,
    cell_heights,
    choose_r_max,
    distance_between,
    first_shell,
    is_same_system,
)
from jmp_calc.sim.analysis.sections import Fact, Section
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.trajectories.frames import FrameFile

BEYOND = 1e-6
"""Share of distances beyond the range that is told."""


class Structure:
    """Collector of distances.

    Args:
        first: First frame.
        settings: Of the analysis.
    """

    def __init__(self, first: Atoms, settings: AnalysisSettings) -> None:
        self._first = first
        self._settings = settings
        self._counts = DistanceCounts(first, choose_r_max(first, settings), settings)
        self._half_A = np.inf

    def add(self, atoms: Atoms) -> None:
        """Take in one frame.

        Args:
            atoms: The frame.
        """
        self._counts.add(atoms)
        if atoms.pbc.any():
            self._half_A = min(self._half_A, 0.5 * float(cell_heights(atoms).min()))

    def sections(self) -> list[Section]:
        """Return the curve, and what the reference says to it."""
        counts = self._counts
        symbol = "g" if counts.is_rdf else "h"
        unit = "" if counts.is_rdf else "_per_A"
        columns = {"r_A": counts.r}
        for pair, curve in counts.curves().items():
            columns[f"{symbol}_{pair}{unit}"] = curve
        for pair, error in counts.errors().items():
            columns[f"error_{pair}{unit}"] = error
        if counts.is_rdf:
            for name, _, number in counts.neighbors():
                columns[f"neighbors_{name.replace(' ', '_')}"] = number
        facts = [
            Fact(name="frames averaged", value=counts.n_frames),
            Fact(name="bin width", value=counts.bin_width, unit="Å"),
            *self._first_peaks(),
            *self._first_shells(),
        ]
        notes = self._notes()
        if self._settings.reference is not None:
            reference = self._read_reference()
            for pair, curve in reference.curves().items():
                columns[f"reference_{pair}{unit}"] = curve
            facts += self._compared(reference)
        return [
            Section(
                key="rdf" if counts.is_rdf else "distances",
                title="Radial distribution function g(r)"
                if counts.is_rdf
                else "Distribution of interatomic distances h(r)",
                about=_ABOUT_RDF if counts.is_rdf else _ABOUT_DISTANCES,
                facts=tuple(facts),
                columns=columns,
                notes=tuple(notes),
            )
        ]

    def _first_peaks(self) -> list[Fact]:
        counts, facts = self._counts, []
        for pair, curve in counts.curves().items():
            place = int(np.argmax(curve))
            if curve[place] > 0:
                facts.append(
                    Fact(
                        name=f"highest peak, {pair}",
                        value=f"{curve[place]:.3g} at {counts.r[place]:.2f} Å",
                    )
                )
        return facts

    def _first_shells(self) -> list[Fact]:
        counts, facts = self._counts, []
        if not counts.is_rdf:
            return []
        curves = counts.curves()
        for name, pair, number in counts.neighbors():
            end = first_shell(curves[pair])
            if end is not None:
                # up to the middle of that bin
                inside = 0.5 * (number[end - 1] + number[end])
                facts.append(
                    Fact(
                        name=f"neighbours in the first shell, {name}",
                        value=f"{inside:.2f} up to {counts.r[end]:.2f} Å",
                    )
                )
        return facts

    def _notes(self) -> list[str]:
        first, r_max, half = self._first, self._counts.r_max, self._half_A
        if not first.pbc.any():
            inside = float(
                self._counts.curves()["total"].sum() * self._counts.bin_width
            )
            if len(first) > 1 and inside < 1.0 - BEYOND:
                return [
                    f"{100 * (1 - inside):.2g} % of the distances are beyond "
                    f"{r_max:g} Å and not shown: give a larger --r-max-A"
                ]
            return []
        notes = []
        if r_max > half:
            notes.append(
                f"beyond {half:.2f} Å, half the cell, the distances are also those to "
                "periodic images of the same atoms, which do not move on their own"
            )
        if not self._counts.is_rdf:
            notes.append(
                "the system is not periodic in all directions and has no density, so "
                f"distances up to {r_max:g} Å are shown as they are"
            )
        return notes

    def _read_reference(self) -> DistanceCounts:
        path = self._settings.reference
        assert path is not None
        counts = DistanceCounts(self._first, self._counts.r_max, self._settings)
        for number, frame in FrameFile(path=path):
            if number == 0 and not is_same_system(frame, self._first):
                raise ArgumentError(
                    f"--reference {path} is of {frame.get_chemical_formula()} "
                    f"(periodic: {list(map(bool, frame.pbc))}) and the trajectory of "
                    f"{self._first.get_chemical_formula()} (periodic: "
                    f"{list(map(bool, self._first.pbc))}); give one of the same system"
                )
            # elements are told apart by place
            order = np.argsort(frame.numbers, kind="stable")
            mine = np.argsort(self._first.numbers, kind="stable")
            sorted_frame = frame.copy()
            sorted_frame.positions[mine] = frame.positions[order]
            sorted_frame.numbers = self._first.numbers
            counts.add(sorted_frame)
        return counts

    def _compared(self, reference: DistanceCounts) -> list[Fact]:
        counts, width = self._counts, self._counts.bin_width
        symbol, unit = ("g(r)", "Å") if counts.is_rdf else ("h(r)", "")
        mine, theirs = counts.curves(), reference.curves()
        facts = [
            Fact(
                name=f"MAE of {symbol} against the reference, {pair}",
                value=distance_between(mine[pair], theirs[pair], width),
                unit=unit,
            )
            for pair in mine
        ]
        for name, source in (("the reference", reference), ("this trajectory", counts)):
            if (halves := source.halves()) is not None:
                facts.append(
                    Fact(
                        name=f"the same between the halves of {name}, total",
                        value=distance_between(
                            halves[0]["total"], halves[1]["total"], width
                        ),
                        unit=unit,
                    )
                )
        facts.append(Fact(name="frames of the reference", value=reference.n_frames))
        return facts


_ABOUT_RDF = (
    "Density of neighbours at distance r over the mean density; 1 without correlation. "
    "Shaded: standard error from blocks of frames. MAE: integral of |g - g_reference|. "
    "First shell: up to the first minimum behind the highest peak."
)
_ABOUT_DISTANCES = (
    "Distribution of the distances between all pairs of atoms; its integral is 1. "
    "Shaded: standard error from blocks of frames. MAE: integral of |h - h_reference| "
    "over r, from 0 (the same) to 2 (no overlap), as in Fu et al., arXiv:2210.07237."
)
