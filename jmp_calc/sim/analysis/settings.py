"""What of a trajectory is analysed, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ase.data import atomic_numbers

from jmp_calc.errors import ArgumentError, did_you_mean
from jmp_calc.sim.requirements import require

ANALYSES = ("structure", "msd", "vdos", "energy", "bonds")
"""Groups of results: rdf or h(r); diffusion; velocity autocorrelation and vibrational
density of states; temperature and drift; bonds, angles and stability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnalysisSettings:
    """Frames, ranges and limits of an analysis."""

    only: tuple[str, ...] = ()
    """Only this (may be repeated): structure (rdf; h(r) of molecules), msd (diffusion),
    vdos (vibrations), energy (temperature, drift) or bonds (also angles, stability)."""
    reference: Path | None = None
    """Trajectory to compare structure and bonds with; also rMD17 or MD22 npz."""
    log: Path | None = None
    """CSV of the run, for temperature and energies; by default NAME-md.csv beside
    NAME-traj.*, if it belongs to it, else the frames."""
    start: int = 0
    """First frame that is read (frames, from 0)."""
    stop: int | None = None
    """First frame that is not read any more (frames)."""
    stride: int = 1
    """Read every n-th frame (frames)."""
    equilibration_ps: float = 0.0
    """Time after the first frame read that averages leave out, ps; drift and stability
    see all."""
    frame_interval_fs: float | None = None
    """Time between frames of the file, fs, for files that do not tell it."""
    r_max_A: float | None = None
    """Range of distances, angstrom; by default half the cell (5 to 10), and for
    molecules all distances."""
    bin_width_A: float = 0.05
    """Width of the bins of distances, angstrom."""
    pairs: tuple[str, ...] = ()
    """Pair of elements to show, such as O-H (may be repeated); by default all."""
    fit_start_ps: float | None = None
    """Shortest time of the fit of the diffusion coefficient, ps; by default 2 % of the
    time analysed."""
    fit_stop_ps: float | None = None
    """Longest time of that fit, ps; by default 10 % of the time analysed."""
    vdos_resolution_THz: float = 0.3
    """Width of a sharp line in the vibrational density of states, THz (0.3 THz is
    10 cm^-1)."""
    max_bond_stretch: float = 1.5
    """A bond longer than this factor times its equilibrium length is broken; that is
    the mean of --reference, else the length in the first frame."""

    def __post_init__(self) -> None:
        """Check every number and name once."""
        require("stride", self.stride, lambda x: x >= 1, "1 or more")
        for name in ("start", "equilibration_ps", "fit_start_ps"):
            require(name, getattr(self, name), lambda x: x >= 0, "0 or more")
        for name in (
            "stop",
            "frame_interval_fs",
            "r_max_A",
            "bin_width_A",
            "fit_stop_ps",
            "vdos_resolution_THz",
        ):
            require(name, getattr(self, name), lambda x: x > 0, "above 0")
        require("max_bond_stretch", self.max_bond_stretch, lambda x: x > 1, "above 1")
        if self.stop is not None and self.stop <= self.start:
            raise ArgumentError(
                f"stop is {self.stop} and start {self.start} (frames); stop must be "
                "larger"
            )
        if (
            self.fit_start_ps is not None
            and self.fit_stop_ps is not None
            and self.fit_start_ps >= self.fit_stop_ps
        ):
            raise ArgumentError(
                f"fit_start_ps is {self.fit_start_ps:g} and fit_stop_ps "
                f"{self.fit_stop_ps:g}; the fit must end after it starts"
            )
        for name in self.only:
            if name not in ANALYSES:
                raise ArgumentError(
                    f"unknown analysis {name!r}; choose of {', '.join(ANALYSES)}"
                    f"{did_you_mean(name, ANALYSES)}"
                )
        for pair in self.pairs:
            parse_pair(pair)

    def wants(self, name: str) -> bool:
        """Return whether a group of results is asked for.

        Args:
            name: One of ``ANALYSES``.
        """
        return not self.only or name in self.only


def parse_pair(text: str) -> tuple[str, str]:
    """Return the two elements of a pair.

    Args:
        text: Such as ``O-H``.

    Raises:
        ArgumentError: If it is no pair of elements.
    """
    parts = text.split("-")
    if len(parts) != 2 or not all(part in atomic_numbers for part in parts):
        raise ArgumentError(
            f"{text!r} is no pair of elements; give two symbols with a hyphen, such "
            "as --pairs O-H"
        )
    return parts[0], parts[1]
