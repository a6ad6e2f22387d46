"""When frames were taken, and which of them averages use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.analysis.settings import AnalysisSettings

UNEVEN = 0.01
"""Frames are equally far apart if no interval differs by more than this fraction."""
CLOCK_NAMES = ("time_ps",)
"""Entries of ``Atoms.info`` that hold the time, ps."""


class Clock:
    """Reads the time of frames, and sees to it that it goes forward.

    Args:
        path: The trajectory.
        settings: Of the analysis.
        first: First frame.
        first_number: Its number in the file.

    Raises:
        ArgumentError: If a time is asked for and the file tells none.
    """

    def __init__(
        self, path: Path, settings: AnalysisSettings, first: Atoms, first_number: int
    ) -> None:
        self._path = path
        self._interval_ps: float | None = None
        if settings.frame_interval_fs is not None:
            self._interval_ps = settings.frame_interval_fs / 1000.0
        self.is_known = self._interval_ps is not None or _told(first) is not None
        if settings.equilibration_ps > 0 and not self.is_known:
            raise ArgumentError(
                f"equilibration_ps is {settings.equilibration_ps:g}, but the frames "
                "tell no time; give --frame-interval-fs, or --start in frames"
            )
        self._equilibration_ps = settings.equilibration_ps
        self._last: tuple[float, np.ndarray] = (-np.inf, first.positions)
        self._start_ps = self.time(first, first_number) or 0.0

    def time(self, frame: Atoms, number: int) -> float | None:
        """Return the time of a frame, ps; None: unknown.

        Args:
            frame: The frame.
            number: Its number in the file.
        """
        if self._interval_ps is not None:
            return number * self._interval_ps
        return _told(frame)

    def is_repeated(self, frame: Atoms, number: int) -> bool:
        """Return whether a frame is the one before once more, as resumed runs have it.

        Args:
            frame: The next frame.
            number: Its number in the file.

        Raises:
            DataError: If the file does not go forward in time.
        """
        time = self.time(frame, number)
        if time is None or self._interval_ps is not None:
            return False
        before, positions = self._last
        self._last = (time, frame.positions)
        if time > before:
            return False
        if time == before and np.array_equal(positions, frame.positions):
            return True
        raise DataError(
            f"frame {number} of {self._path} is at {time:g} ps, and the frame before "
            f"at {before:g} ps: it holds several runs, or pieces of one that overlap; "
            f"analyse them one by one with --stop {number} and --start {number}, or "
            "give --frame-interval-fs if these times mean nothing"
        )

    def is_equilibrated(self, time_ps: float | None) -> bool:
        """Return whether averages use a frame.

        Args:
            time_ps: Its time.
        """
        if time_ps is None:
            return True
        # times are sums of steps: forgive rounding
        return time_ps - self._start_ps >= self._equilibration_ps - 1e-9


def _told(frame: Atoms) -> float | None:
    for name in CLOCK_NAMES:
        if isinstance(frame.info.get(name), (int, float, np.number)):
            return float(frame.info[name])
    return None


def even_part(times: list[float]) -> tuple[int, float | None]:
    """Return how many frames from the first on are equally far apart, and how far.

    Args:
        times: Of all frames, ps.
    """
    if len(times) < 2:
        return len(times), None
    step = times[1] - times[0]
    if step <= 0:
        return 1, None
    gaps = np.diff(times)
    uneven = np.flatnonzero(np.abs(gaps - step) > UNEVEN * step)
    number = int(uneven[0]) + 1 if len(uneven) else len(times)
    # the mean is not rounded as single times are
    return number, float((times[number - 1] - times[0]) / (number - 1))
