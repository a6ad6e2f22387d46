"""Relaxes many structures side by side, so that the calculator gets them at once.

Each structure has an optimizer of ASE of its own. In a round every structure that is
still on its way is computed, all in one call of the calculator; then every optimizer
makes one step. A structure that is done makes room for the next one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ase import Atoms

from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.sim.evaluation import evaluate_each, evaluator_of
from jmp_calc.sim.output import (
    check_new,
    extxyz_text,
    save_summary,
    save_text,
    versions,
    writing,
)
from jmp_calc.sim.relax.files import (
    CommonFiles,
    GrowingTable,
    RelaxFiles,
    StepWriter,
    all_files,
    csv_row,
)
from jmp_calc.sim.relax.outcome import (
    RelaxOutcome,
    outcome_of,
    outcome_without_steps,
)
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.status import (
    CONVERGED,
    INTERRUPTED,
    NOT_CONVERGED,
    NOT_STARTED,
    REFUSED,
    UNSTABLE,
)
from jmp_calc.sim.relax.walker import Walker, require_spglib


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxRound:
    """How far the work is, for progress bars."""

    n_rounds: int
    """Calls of the calculator."""
    n_active: int
    """Structures on their way."""
    n_done: int
    """Structures done, well or not."""
    n_steps: int
    """Steps of the structure that is farthest, among those on their way."""
    max_force_eV_per_A: float | None
    """Largest force on any atom on its way, eV/angstrom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxResult:
    """Outcome of :func:`run_relax`."""

    outcomes: tuple[RelaxOutcome, ...]
    """One per structure, in the order of the input."""
    interruption: str | None
    """What stopped the work; None if nothing did."""
    n_rounds: int
    """Calls of the calculator."""
    wall_seconds: float
    """Duration, s."""
    files: CommonFiles
    """Where the table and the summary are."""

    @property
    def counts(self) -> dict[str, int]:
        """How many structures ended in each status that occurs."""
        return dict(Counter(outcome.status for outcome in self.outcomes))


def run_relax(
    systems: Mapping[str, Atoms],
    settings: RelaxSettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "all",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[RelaxRound], None] | None = None,
) -> RelaxResult:
    """Relax structures and write their steps, last geometries, a table and a summary.

    No geometry is computed twice. A structure that cannot be computed, or that leaves
    the physical range, ends alone. What was done is kept however the work ends: Ctrl-C
    is told by ``interruption``, other errors are raised after the files are closed.

    Args:
        systems: Name -> start; not changed. Constraints are kept.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of the names of table and summary.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called after every round.

    Returns:
        How each structure ended, and where everything is.

    Raises:
        ArgumentError: If a file would be replaced, or there is no structure.
        UnsupportedSystemError: If not one structure can be computed at its start.
        DataError: If a file cannot be written.

    Source:
        Optimizers: FIRE: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006); L-BFGS:
        Liu and Nocedal, Math. Program. 45, 503 (1989); as in ASE. Cells: logarithm of
        the deformation as coordinate, ASE's ``FrechetCellFilter``.
    """
    if not systems:
        raise ArgumentError("there is nothing to relax; give at least one structure")
    if settings.keep_symmetry:
        require_spglib()
    out = Path(out)
    names = list(systems)
    check_new(
        all_files(out, stem, names, settings.trajectory_format), overwrite=overwrite
    )
    work = _Work(systems, settings, calculator, out, stem)
    interruption = None
    try:
        work.run(progress)
    except KeyboardInterrupt as error:
        interruption = f"{str(error) or 'Ctrl-C'} in round {work.n_rounds + 1}"
        work.stop(interruption)
    except BaseException as error:
        if work.n_rounds:
            error.add_note(f"what was done until then is in {out}")
        raise
    finally:
        work.close()
    outcomes = tuple(work.outcomes[name] for name in names)
    if all(outcome.status == REFUSED for outcome in outcomes):
        raise work.refusals[names[0]]
    result = RelaxResult(
        outcomes=outcomes,
        interruption=interruption,
        n_rounds=work.n_rounds,
        wall_seconds=time.perf_counter() - work.start_time,
        files=CommonFiles.under(out, stem, is_one=len(names) == 1),
    )
    _save(result, settings, work.started, provenance or {})
    return result


class _Work:
    """The structures of one call: waiting, on their way, and done."""

    def __init__(
        self,
        systems: Mapping[str, Atoms],
        settings: RelaxSettings,
        calculator: Any,
        folder: Path,
        stem: str,
    ) -> None:
        self.outcomes: dict[str, RelaxOutcome] = {}
        self.refusals: dict[str, UnsupportedSystemError] = {}
        self.n_rounds = 0
        self.started = datetime.now(UTC)
        self.start_time = time.perf_counter()
        self._systems = systems
        self._settings = settings
        self._evaluator = evaluator_of(calculator)
        self._folder = folder
        self._waiting = iter(systems)
        self._active: list[Walker] = []
        self._writers: dict[str, StepWriter] = {}
        common = CommonFiles.under(folder, stem, is_one=len(systems) == 1)
        self._table = GrowingTable(common.table)

    def run(self, progress: Callable[[RelaxRound], None] | None) -> None:
        """Do rounds until every structure is done."""
        self._fill()
        while self._active:
            found = evaluate_each(
                self._evaluator,
                [walker.system for walker in self._active],
                self._settings.properties,
            )
            self.n_rounds += 1
            for walker, results in zip(tuple(self._active), found, strict=True):
                try:
                    if isinstance(results, UnsupportedSystemError):
                        raise results
                    self._step(walker, results)
                except UnsupportedSystemError as error:
                    self._give_up(walker, error)
            self._fill()
            if progress is not None:
                progress(self._round())

    def stop(self, reason: str) -> None:
        """End what is on its way and what is waiting."""
        for walker in tuple(self._active):
            if walker.steps and walker.name not in self.outcomes:
                self._finish(walker, INTERRUPTED, reason)
        for name, atoms in self._systems.items():
            if name not in self.outcomes:
                self.outcomes[name] = outcome_without_steps(
                    name, atoms, NOT_STARTED, reason
                )

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            writer.close(None)
        self._table.close()

    def _fill(self) -> None:
        while len(self._active) < self._settings.together:
            name = next(self._waiting, None)
            if name is None:
                return
            try:
                walker = Walker(name, self._systems[name], self._settings)
            except UnsupportedSystemError as error:
                self._refuse(name, error)
            else:
                self._active.append(walker)

    def _step(self, walker: Walker, results: dict[str, Any]) -> None:
        step = walker.take(results)
        assert walker.last is not None
        self._writer(walker.name).write(step, walker.last)
        if walker.is_converged:
            self._finish(walker, CONVERGED, None)
        elif step.step == self._settings.steps:
            self._finish(walker, NOT_CONVERGED, f"{step.step} steps were not enough")
        else:
            walker.advance()

    def _writer(self, name: str) -> StepWriter:
        if name not in self._writers:
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            self._writers[name] = StepWriter(self._files(name))
        return self._writers[name]

    def _files(self, name: str) -> RelaxFiles:
        return RelaxFiles.under(self._folder, name, self._settings.trajectory_format)

    def _finish(self, walker: Walker, status: str, reason: str | None) -> None:
        # an interrupt may come anywhere in here; stop() then does it again
        name = walker.name
        outcome = outcome_of(walker, status, reason, self._files(name))
        self._writer(name).close(outcome.atoms)
        self._table.append(outcome.row())
        self.outcomes[name] = outcome
        self._active.remove(walker)
        del self._writers[name]

    def _give_up(self, walker: Walker, error: UnsupportedSystemError) -> None:
        if walker.steps:
            reason = f"after step {walker.steps[-1].step}: {error}"
            self._finish(walker, UNSTABLE, reason)
        else:
            self._active.remove(walker)
            self._refuse(walker.name, error)

    def _refuse(self, name: str, error: UnsupportedSystemError) -> None:
        self.refusals[name] = error
        self.outcomes[name] = outcome_without_steps(
            name, self._systems[name], REFUSED, str(error)
        )

    def _round(self) -> RelaxRound:
        steps = [walker.steps[-1] for walker in self._active if walker.steps]
        return RelaxRound(
            n_rounds=self.n_rounds,
            n_active=len(self._active),
            n_done=len(self.outcomes),
            n_steps=max((step.step for step in steps), default=0),
            max_force_eV_per_A=max(
                (step.max_force_eV_per_A for step in steps), default=None
            ),
        )


def _save(
    result: RelaxResult,
    settings: RelaxSettings,
    started: datetime,
    provenance: Mapping[str, Any],
) -> None:
    """Write the table in the order of the input, all last structures, the summary."""
    files = result.files
    rows = [outcome.row() for outcome in result.outcomes]
    with writing(files.table.parent):
        files.table.parent.mkdir(parents=True, exist_ok=True)
    save_text(
        files.table, csv_row(rows[0]) + "".join(csv_row(row.values()) for row in rows)
    )
    if files.finals is not None:
        finals = [outcome for outcome in result.outcomes if outcome.atoms is not None]
        for outcome in finals:
            assert outcome.atoms is not None
            outcome.atoms.info["relax_name"] = outcome.name
        save_text(
            files.finals,
            "".join(extxyz_text(o.atoms) for o in finals if o.atoms is not None),
        )
    summary = {
        "status": "completed" if result.interruption is None else "interrupted",
        "reason": result.interruption,
        **provenance,
        "settings": asdict(settings),
        "versions": versions(),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "results": {
            "counts": result.counts,
            "evaluation_rounds": result.n_rounds,
            "wall_seconds": result.wall_seconds,
            "structures": [
                {key: value for key, value in row.items() if value is not None}
                for row in rows
            ],
        },
        "files": {
            **{k: path for k, path in asdict(files).items() if path is not None},
            "of_structures": [
                {k: path for k, path in asdict(o.files).items() if path is not None}
                for o in result.outcomes
                if o.files is not None
            ],
        },
    }
    save_summary(summary, files.summary)
