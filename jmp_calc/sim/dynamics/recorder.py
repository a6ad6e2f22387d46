"""Writes a run while it goes, and completes its files however it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from ase import Atoms

from jmp_calc.errors import DataError
from jmp_calc.sim.dynamics.checkpoint import Checkpoint, save_checkpoint
from jmp_calc.sim.dynamics.files import (
    Kept,
    MDFiles,
    ObservableLog,
    frame_from,
    read_observables,
)
from jmp_calc.sim.dynamics.observables import (
    Observables,
    Snapshot,
    Statistics,
    summarize,
)
from jmp_calc.sim.dynamics.settings import MDSettings, RecordSettings, WatchSettings
from jmp_calc.sim.output import save_structure, save_summary, sync_file, writing
from jmp_calc.sim.trajectories.writers import open_trajectory

COMPLETED = "completed"
"""All steps were done."""
INTERRUPTED = "interrupted"
"""The user or the system stopped the run (Ctrl-C, SIGTERM)."""
STOPPED = "stopped"
"""The time that the user allowed is over; to be resumed."""
UNSTABLE = "unstable"
"""Energy, forces or temperature exploded, or the structure became impossible."""
FAILED = "failed"
"""An error ended the run; it was raised."""


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Put off signals that end a run until the block is done.

    So Ctrl-C never cuts off what is being written. Only the main thread of a process
    gets signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pending: list[int] = []
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    # what is ignored stays ignored, and what kills still kills
    caught = {n: handler for n, handler in handlers.items() if callable(handler)}
    for number in caught:
        signal.signal(number, lambda number, _: pending.append(number))
    try:
        yield
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
        if pending:
            signal.raise_signal(pending[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What is known of a run when it begins."""

    template: Atoms
    """The system with the constraints that the user gave it."""
    start: Atoms
    """The input."""
    settings: MDSettings
    """Physics."""
    record: RecordSettings
    """What to write, and how often."""
    watch: WatchSettings
    """When to stop early."""
    identity: Mapping[str, Any]
    """What a resumed run must have in common with this one."""
    degrees_of_freedom: int
    """Number that temperatures refer to."""
    weights: str | None
    """Hash of the model's weights, if it has one."""
    initial_energy_eV: float
    """Potential energy at the start."""
    initial_K: float
    """Temperature at the start."""
    has_new_velocities: bool
    """Whether the velocities at the start were drawn."""
    head: Mapping[str, Any]
    """Sections of the summary that are known from the start."""


class Recorder:
    """Writes the files of one run while it goes, and completes them however it ends.

    A frame is written while the next step is computed. It is on its way for that long
    at most: whatever is recorded next waits for it, and an error in writing it is
    raised there, where the step of the frame is still the last one. What kills the
    process loses it; a resumed run computes it again.
    """

    def __init__(
        self,
        files: MDFiles,
        facts: RunFacts,
        *,
        overwrite: bool = False,
        resumed: Checkpoint | None = None,
    ) -> None:
        """Take what is to be written; nothing is until the block is entered.

        Args:
            files: Where to.
            facts: The run.
            overwrite: Whether existing files may be replaced.
            resumed: Go on with the files of an earlier part of the run.
        """
        self.facts = facts
        self.rows: list[Observables] = []
        self.last: Snapshot
        self.largest_stretch = 1.0 if resumed is None else resumed.largest_stretch
        self.closest_contact = None if resumed is None else resumed.closest_contact
        self._files = files
        self._overwrite = overwrite
        self._resumed = resumed
        self._framed_step = -1
        self._frames = ThreadPoolExecutor(max_workers=1)
        self._frame_under_way: tuple[int, Future[None]] | None = None
        self._is_finished = False
        self._started = datetime.now(UTC)
        self._start_time = time.perf_counter()
        self._earlier_seconds = 0.0 if resumed is None else resumed.wall_seconds
        self.wall_seconds = self._earlier_seconds

    def __enter__(self) -> Recorder:
        """Make the folder and open the files."""
        folder = self._files.summary.parent
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        kept = None
        if (resumed := self._resumed) is not None:
            kept = Kept(
                n_frames=resumed.n_frames,
                trajectory_bytes=resumed.trajectory_bytes,
                log_bytes=resumed.log_bytes,
            )
        with contextlib.ExitStack() as opened:
            self._log = opened.enter_context(
                contextlib.closing(
                    ObservableLog(
                        self._files.observables, overwrite=self._overwrite, kept=kept
                    )
                )
            )
            self._trajectory = opened.enter_context(
                contextlib.closing(
                    open_trajectory(
                        self._files.trajectory,
                        overwrite=self._overwrite,
                        keep_frames=None if kept is None else kept.n_frames,
                        keep_bytes=None if kept is None else kept.trajectory_bytes,
                    )
                )
            )
            if kept is not None:
                self.rows = read_observables(self._files.observables)
            self._save_summary("running", None)
            # closed before the files are
            opened.enter_context(self._frames)
            self._open_files = opened.pop_all()
        return self

    @property
    def n_frames(self) -> int:
        """Complete frames in the trajectory."""
        return self._trajectory.n_frames

    def statistics(self) -> Statistics:
        """Return the averages over what has been logged so far."""
        return summarize(
            self.rows,
            n_atoms=len(self.facts.template),
            degrees_of_freedom=self.facts.degrees_of_freedom,
            settings=self.facts.settings,
        )

    def go_on(self, shot: Snapshot) -> None:
        """Take in the step that a resumed run goes on from; mostly it is written."""
        self.last = shot
        assert self._resumed is not None
        self._framed_step = self._resumed.framed_step
        step, record = shot.observables.step, self.facts.record
        # what a full disk or a signal kept from being written at the end
        is_logged = bool(self.rows) and self.rows[-1].step == step
        if step % record.log_stride == 0 and not is_logged:
            self._write_row()
        if step % record.trajectory_stride == 0 and self._framed_step != step:
            self._write_frame()

    def write(self, shot: Snapshot) -> None:
        """Take in one good step; files get it if it is their turn."""
        self._end_frame()
        self.last = shot
        step = shot.observables.step
        record = self.facts.record
        if step % record.log_stride == 0:
            self._write_row()
        if step % record.trajectory_stride == 0:
            self._write_frame()
        if step % record.checkpoint_stride == 0:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write the checkpoint of the last good step."""
        self._end_frame()
        shot, facts = self.last, self.facts
        self._take_time()
        for path in (self._files.observables, self._files.trajectory):
            sync_file(path)
        checkpoint = Checkpoint(
            settings=asdict(facts.settings),
            record=asdict(facts.record),
            watch=asdict(facts.watch),
            identity=facts.identity,
            weights=facts.weights,
            observables=shot.observables,
            initial_energy_eV=facts.initial_energy_eV,
            initial_K=facts.initial_K,
            has_new_velocities=facts.has_new_velocities,
            wall_seconds=self.wall_seconds,
            n_frames=self._trajectory.n_frames,
            framed_step=self._framed_step,
            trajectory_bytes=self._trajectory.n_bytes,
            log_bytes=self._log.n_bytes,
            largest_stretch=self.largest_stretch,
            closest_contact=self.closest_contact,
            random=shot.random,
            positions=shot.positions,
            momenta=shot.momenta,
            masses=facts.template.get_masses(),
            cell=shot.cell,
            start=facts.start.positions,
            numbers=facts.start.numbers,
            integrator=shot.integrator,
            computed=shot.computed,
        )
        with shielded():
            save_checkpoint(checkpoint, self._files.checkpoint)

    def finish(self, status: str, reason: str | None) -> None:
        """Add the last step to log and trajectory, write final structure and summary.

        Args:
            status: How the run ended.
            reason: Why, if early.
        """
        with shielded():
            # before the last parts: a resumed run drops those that are off its strides
            self.save_checkpoint()
            for write in self._last_parts():
                write()
            self._save_summary(status, reason)
            self._is_finished = True

    def _last_parts(self) -> list[Callable[[], None]]:
        step = self.last.observables.step
        parts: list[Callable[[], None]] = []
        if not self.rows or self.rows[-1].step != step:
            parts.append(self._write_row)
        if self._framed_step != step:
            parts += [self._write_frame, self._end_frame]
        return [*parts, self._write_final]

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """After an error complete the files as far as possible; close them."""
        if error is not None and hasattr(self, "last"):
            if not self._is_finished:
                self._save_what_can_be(error)
            error.add_note(
                f"stopped after step {self.last.observables.step}; what was done until "
                f"then is in {self._files.summary.parent}"
            )
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._open_files.close()

    def _save_what_can_be(self, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}"
        # what ended the run is raised; a full disk may refuse any of these, too, and
        # whoever writes frames may raise anything, now and when they are tried again
        with shielded():
            for write in (self._end_frame, self.save_checkpoint):
                _noting(error, write)
            for write in self._last_parts():
                _noting(error, write)
            _noting(error, lambda: self._save_summary(FAILED, reason))

    def _write_final(self) -> None:
        save_structure(frame_from(self.facts.template, self.last), self._files.final)

    def _write_row(self) -> None:
        with shielded():
            # first what cannot fail: the averages need a row even if the disk is full
            self.rows.append(self.last.observables)
            self._log.write(self.last.observables)

    def _write_frame(self) -> None:
        """Have the last step written as a frame, until :meth:`_end_frame`."""
        shot = self.last

        def write() -> None:
            self._trajectory.write(frame_from(self.facts.template, shot))

        self._end_frame()
        # signals reach the main thread only, so that none cuts off what is written
        with shielded():
            task = self._frames.submit(write)
            self._frame_under_way = shot.observables.step, task

    def _end_frame(self) -> None:
        """Wait for the frame that is on its way, if there is one.

        Raises:
            DataError: If it could not be written.
        """
        if self._frame_under_way is None:
            return
        step, task = self._frame_under_way
        with shielded():
            self._frame_under_way = None
            task.result()
            self._framed_step = step

    def _take_time(self) -> None:
        here = time.perf_counter() - self._start_time
        self.wall_seconds = self._earlier_seconds + here

    def _save_summary(self, status: str, reason: str | None) -> None:
        self._take_time()
        summary = {"status": status, "reason": reason, **self.facts.head}
        summary["started"] = self._started.isoformat(timespec="seconds")
        if self._resumed is not None:
            summary["resumed_from_step"] = self._resumed.observables.step
        if status != "running":
            steps = self.last.observables.step
            summary["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
            summary["results"] = {
                "steps": steps,
                "time_ps": self.last.observables.time_ps,
                "frames": self.n_frames,
                "wall_seconds": self.wall_seconds,
                "steps_per_second": steps / self.wall_seconds,
                **asdict(self.statistics()),
                "largest_bond_stretch": self.largest_stretch,
                "closest_new_contact": self.closest_contact,
                "final_potential_energy_eV": self.last.energy,
            }
        summary["files"] = asdict(self._files)
        save_summary(summary, self._files.summary)


def _noting(error: BaseException, write: Callable[[], None]) -> None:
    """Do what may fail beside an error that counts; others become notes on it."""
    try:
        write()
    except DataError:
        pass
    except Exception as problem:  # noqa: BLE001 (what ended the run is raised)
        error.add_note(
            f"part of the results is missing ({type(problem).__name__}: {problem})"
        )
