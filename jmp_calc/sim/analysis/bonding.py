"""Collects frames for bond lengths, angles and stability."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from jmp_calc.sim.analysis.bonds import (
    ANGLE_BIN_DEGREES,
    LENGTH_BIN_A,
    LONGEST_A,
    BondFollower,
    KindHistogram,
)
from jmp_calc.sim.analysis.sections import Fact, Section
from jmp_calc.sim.analysis.settings import AnalysisSettings
from jmp_calc.sim.trajectories.frames import FrameFile


class Bonding:
    """Collector of bonds.

    Args:
        first: First frame, whose bonds are followed.
        settings: Of the analysis.
    """

    def __init__(self, first: Atoms, settings: AnalysisSettings) -> None:
        self._settings = settings
        self._bonds = BondFollower(first)
        self._notes: list[str] = []
        self._lengths = KindHistogram(self._bonds.kinds, LENGTH_BIN_A, LONGEST_A)
        self._angles = KindHistogram(self._bonds.angle_kinds, ANGLE_BIN_DEGREES, 180.0)
        self._equilibrium = self._bonds.first_lengths
        self._equilibrium_from = "first frame"
        self._reference: KindHistogram | None = None
        self._reference_angles: KindHistogram | None = None
        if settings.reference is not None and len(self._bonds.atoms):
            self._read_reference()
        self._stretches: list[float] = []
        self._times: list[float] = []
        self._largest = 0.0
        self._worst = ""
        self._broken: str | None = None

    def add(self, atoms: Atoms, when: float, unit: str, *, is_averaged: bool) -> None:
        """Take in one frame.

        Args:
            atoms: The frame.
            when: Its time, or its number if that is unknown.
            unit: ``ps`` or ``frame``.
            is_averaged: Whether averages use it; stability does anyway.
        """
        if len(self._bonds.atoms) == 0:
            return
        lengths = self._bonds.lengths(atoms)
        if is_averaged:
            self._lengths.add(lengths)
            self._angles.add(self._bonds.angles())
        stretch = lengths / self._equilibrium
        worst = int(np.argmax(stretch))
        self._stretches.append(float(stretch[worst]))
        self._times.append(when)
        label = (
            f"{self._bonds.labels[worst]}, {lengths[worst]:.2f} Å instead of "
            f"{self._equilibrium[worst]:.2f} Å"
        )
        place = f"{when:g} ps" if unit == "ps" else f"frame {when:g}"
        if stretch[worst] > self._largest:
            self._largest = float(stretch[worst])
            self._worst = f"{label}, at {place}"
        if self._broken is None and stretch[worst] > self._settings.max_bond_stretch:
            self._broken = f"{place} ({label})"

    def sections(self, unit: str) -> list[Section]:
        """Return bond lengths, angles and stability.

        Args:
            unit: Of the times given, ``ps`` or ``frame``.
        """
        if len(self._bonds.atoms) == 0:
            note = (
                "no two atoms of the first frame are closer than 1.2 times the sum of "
                "their covalent radii"
            )
            return [
                Section(key="bonds", title="Bonds", about=_ABOUT_BONDS, notes=(note,))
            ]
        found = [self._stability(unit), self._bond_section()]
        if len(self._angles.names):
            found.append(self._angle_section())
        return found

    def _stability(self, unit: str) -> Section:
        limit = self._settings.max_bond_stretch
        facts = [
            Fact(name="bonds followed", value=len(self._bonds.atoms)),
            Fact(name="stable to the end", value=self._broken is None),
            Fact(name="largest bond stretch", value=self._largest, unit="times"),
            Fact(name="where", value=self._worst),
        ]
        if self._broken is not None:
            facts.append(Fact(name=f"first above {limit:g} times", value=self._broken))
        return Section(
            key="stability",
            title="Stability of the bonds",
            about="The longest bond of each frame, as a multiple of its equilibrium "
            "length ("
            f"{self._equilibrium_from}). Above {limit:g} a bond counts as broken.",
            facts=tuple(facts),
            columns={
                f"time_{unit}" if unit == "ps" else "frame": np.array(self._times),
                "largest_stretch": np.array(self._stretches),
            },
            notes=tuple(self._notes),
            marks={"limit": limit},
        )

    def _bond_section(self) -> Section:
        return _section(
            "bonds",
            "Bond lengths",
            _ABOUT_BONDS,
            ("length_A", "A", "{mean:.4f} Å, spread {spread:.4f} Å"),
            (self._lengths, self._reference),
        )

    def _angle_section(self) -> Section:
        return _section(
            "angles",
            "Bond angles",
            _ABOUT_ANGLES,
            ("angle_degrees", "degree", "{mean:.2f}°, spread {spread:.2f}°"),
            (self._angles, self._reference_angles),
        )

    def _read_reference(self) -> None:
        """Follow the bonds that the reference itself starts with."""
        path = self._settings.reference
        assert path is not None
        follower: BondFollower | None = None
        n_frames = 0
        for _, frame in FrameFile(path=path):
            if follower is None:
                follower = BondFollower(frame)
                lengths = KindHistogram(follower.kinds, LENGTH_BIN_A, LONGEST_A)
                angles = KindHistogram(follower.angle_kinds, ANGLE_BIN_DEGREES, 180.0)
                total = np.zeros(len(follower.atoms))
            found = follower.lengths(frame)
            lengths.add(found)
            angles.add(follower.angles())
            total += found
            n_frames += 1
        assert follower is not None
        self._reference, self._reference_angles = lengths, angles
        # the same elements in the same order may still be bonded in another way
        if follower.labels == self._bonds.labels and np.array_equal(
            follower.atoms, self._bonds.atoms
        ):
            self._equilibrium = total / n_frames
            self._equilibrium_from = "mean of the reference"
        else:
            self._notes.append(
                "the atoms of the reference are numbered in another way, so "
                "equilibrium lengths are those of the first frame"
            )


def _section(
    key: str,
    title: str,
    about: str,
    words: tuple[str, str, str],
    histograms: tuple[KindHistogram, KindHistogram | None],
) -> Section:
    abscissa, unit, text = words
    mine, theirs = histograms
    columns = {abscissa: mine.middles}
    means = {}
    for prefix, histogram in (("", mine), ("reference_", theirs)):
        if histogram is not None:
            for kind, curve in histogram.densities().items():
                columns[f"{prefix}{kind}_per_{unit}"] = curve
    if theirs is not None:
        means = theirs.moments()
    facts = []
    for kind, (mean, spread) in mine.moments().items():
        value = text.format(mean=mean, spread=spread)
        if kind in means:
            other = text.format(mean=means[kind][0], spread=means[kind][1])
            value += f" (reference: {other})"
        facts.append(Fact(name=f"{kind}, mean", value=value))
    return Section(
        key=key, title=title, about=about, facts=tuple(facts), columns=_trimmed(columns)
    )


def _trimmed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leave out the empty bins before and after all curves, but for five."""
    _, *curves = columns.values()
    filled = np.flatnonzero(np.any(np.array(curves) > 0, axis=0))
    if len(filled) == 0:
        return columns
    kept = slice(max(0, int(filled[0]) - 5), int(filled[-1]) + 6)
    return {name: curve[kept] for name, curve in columns.items()}


_ABOUT_BONDS = (
    "Lengths of the bonds of the first frame (atoms closer than 1.2 times the sum of "
    "their covalent radii); the integral of each curve is 1."
)
_ABOUT_ANGLES = (
    "Angles between bonds that share an atom (in the middle); the integral of each "
    "curve is 1."
)
