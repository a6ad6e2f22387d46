"""Energies, forces and stresses of many structures as they are, in bounded memory."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from jmp_calc.errors import ArgumentError, DataError, UnsupportedSystemError
from jmp_calc.sim.energy.files import EnergyFiles, EnergyWriter, frame_with
from jmp_calc.sim.energy.labels import (
    QUANTITIES,
    ErrorBook,
    ErrorStatistics,
    Labels,
    labels_of,
)
from jmp_calc.sim.evaluation import Results, evaluate_each, evaluator_of
from jmp_calc.sim.output import check_new, save_summary, versions, writing
from jmp_calc.sim.spread import spread_of
from jmp_calc.units import GPA

COMPLETED = "completed"
"""All structures were looked at."""
INTERRUPTED = "interrupted"
"""The user or the system stopped the work (Ctrl-C, SIGTERM)."""
FAILED = "failed"
"""An error ended the work; it was raised."""

Outcome = Results | UnsupportedSystemError


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergySettings:
    """What to compute, and what to compare it with."""

    energies_only: bool = False
    """Leave out forces and stresses."""
    skip_stress: bool = False
    """Leave out the stress of crystals."""
    energy_key: str | None = None
    """Name of the reference energy, eV; by default REF_energy, then the energy that the
    file gives as its own."""
    forces_key: str | None = None
    """Name of the reference forces, eV/angstrom; likewise."""
    stress_key: str | None = None
    """Name of the reference stress, eV/angstrom^3; likewise."""
    chunk: int = 64
    """Structures in memory at a time."""

    def __post_init__(self) -> None:
        """Check every setting.

        Raises:
            ArgumentError: If one is out of its range.
        """
        if self.chunk < 1:
            raise ArgumentError(f"chunk is {self.chunk}; give 1 or more")

    @property
    def keys(self) -> dict[str, str | None]:
        """Name of each label; None: the usual ones."""
        return {name: getattr(self, f"{name}_key") for name in QUANTITIES}


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyResult:
    """Outcome of :func:`run_energy`."""

    status: str
    """``completed`` or ``interrupted``."""
    reason: str | None
    """What stopped the work; None if nothing did."""
    n_structures: int
    """Structures looked at."""
    n_failed: int
    """Those that could not be computed; the table says why."""
    first_problem: str | None
    """Why the first of them could not."""
    errors: Mapping[str, ErrorStatistics]
    """Errors by quantity and unit, for what has labels."""
    max_force_std_eV_per_A: float | None
    """Largest spread of a committee about the force on an atom, eV/angstrom."""
    wall_seconds: float
    """Duration, s."""
    files: EnergyFiles
    """Where everything is."""


def run_energy(
    sources: Mapping[str, Iterable[tuple[int, Atoms]]],
    settings: EnergySettings,
    *,
    calculator: Any,
    out: str | Path,
    stem: str = "all",
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> EnergyResult:
    """Compute structures as they are; write them with results, a table, a summary.

    Structures are read, computed and written some at a time, so files may be of any
    length. One that cannot be computed has its reason in the table, and the others go
    on. What was done is kept however the work ends.

    Args:
        sources: Name -> numbers and structures of a file, which may be a generator.
        settings: What to do.
        calculator: An ASE calculator, or anything with ``evaluate``.
        out: Folder for the files; made if missing.
        stem: First part of the names of table and summary.
        overwrite: Whether existing files may be replaced.
        provenance: Sections for the summary: inputs, model and so on. Plain data.
        progress: Called with the number of structures done since the last call.

    Returns:
        Counts, errors against the labels, and where everything is.

    Raises:
        ArgumentError: If a file would be replaced.
        UnsupportedSystemError: If not one of the first structures can be computed;
            short files beside others do not count.
        DataError: If a file cannot be read or written, or none of the first structures
            has a label that was asked for by name.
    """
    files = EnergyFiles.under(Path(out), stem, list(sources))
    check_new(files.paths(), overwrite=overwrite)
    work = _Work(settings, calculator, files)
    status, reason = COMPLETED, None
    try:
        for name, frames in sources.items():
            for chunk in _chunks(frames, settings.chunk):
                work.do(name, chunk)
                if progress is not None:
                    progress(len(chunk))
    except KeyboardInterrupt as error:
        status = INTERRUPTED
        reason = f"{str(error) or 'Ctrl-C'} after {work.n_structures} structures"
    except BaseException as error:
        if work.n_structures:
            work.save(FAILED, f"{type(error).__name__}: {error}", provenance or {})
            error.add_note(
                f"the first {work.n_structures} structures are in {files.table.parent}"
            )
        raise
    finally:
        work.close()
    work.save(status, reason, provenance or {})
    return EnergyResult(
        status=status,
        reason=reason,
        n_structures=work.n_structures,
        n_failed=work.n_failed,
        first_problem=work.first_problem,
        errors=work.errors.statistics(),
        max_force_std_eV_per_A=work.spread,
        wall_seconds=work.wall_seconds,
        files=files,
    )


class _Work:
    """One call: what was done so far."""

    def __init__(
        self, settings: EnergySettings, calculator: Any, files: EnergyFiles
    ) -> None:
        self.n_structures = 0
        self.n_failed = 0
        self.first_problem: str | None = None
        self.errors = ErrorBook()
        self.heads: Counter[str] = Counter()
        self.spread: float | None = None
        self._settings = settings
        self._evaluator = evaluator_of(calculator)
        self._files = files
        self._writer = EnergyWriter(files)
        self._has_stress = not (settings.energies_only or settings.skip_stress)
        self._started = datetime.now(UTC)
        self._start_time = time.perf_counter()

    @property
    def wall_seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._start_time

    def do(self, name: str, chunk: Sequence[tuple[int, Atoms]]) -> None:
        """Compute and write some structures."""
        frames = [atoms for _, atoms in chunk]
        labels = [labels_of(atoms, self._settings.keys) for atoms in frames]
        if self.n_structures == 0:
            self._check_keys(frames, labels)
        outcomes = self._compute(frames)
        if self.n_structures == 0:
            self._check_some(outcomes, name)
            with writing(self._files.table.parent):
                self._files.table.parent.mkdir(parents=True, exist_ok=True)
        for (number, atoms), known, outcome in zip(
            chunk, labels, outcomes, strict=True
        ):
            row = {"source": name, "frame": number, **_facts(atoms, known)}
            if isinstance(outcome, UnsupportedSystemError):
                row["problem"] = " ".join(str(outcome).split())
                self.n_failed += 1
                self.first_problem = self.first_problem or (
                    f"{name}, frame {number}: {row['problem']}"
                )
            else:
                row |= _values(outcome, len(atoms))
                self.heads.update(filter(None, [row["head"]]))
                if (spread := row.get("max_force_std_eV_per_A")) is not None:
                    self.spread = max(spread, self.spread or 0.0)
                row |= self.errors.add(known, outcome, len(atoms))
            self._writer.write(row, frame_with(atoms, known, outcome))
            self.n_structures += 1

    def save(
        self, status: str, reason: str | None, provenance: Mapping[str, Any]
    ) -> None:
        """Write the summary."""
        if self.n_structures == 0:
            return
        summary = {
            "status": status,
            "reason": reason,
            **provenance,
            "settings": asdict(self._settings),
            "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "results": {
                "structures": self.n_structures,
                "failed": self.n_failed,
                "heads": dict(self.heads),
                "max_force_std_eV_per_A": self.spread,
                "first_problem": self.first_problem,
                "wall_seconds": self.wall_seconds,
                "errors": {
                    name: asdict(found)
                    for name, found in self.errors.statistics().items()
                },
            },
            "files": asdict(self._files),
        }
        save_summary(summary, self._files.summary)

    def close(self) -> None:
        """Close the files."""
        self._writer.close()

    def _compute(self, frames: Sequence[Atoms]) -> list[Outcome]:
        plain = ["energy"] if self._settings.energies_only else ["energy", "forces"]
        found: dict[int, Outcome] = {}
        crystals = [n for n, atoms in enumerate(frames) if self._wants_stress(atoms)]
        with_stress = self._evaluate(frames, crystals, [*plain, "stress"])
        found |= {n: o for n, o in with_stress.items() if not _has_no_stress(o)}
        rest = [n for n in range(len(frames)) if n not in found]
        found |= self._evaluate(frames, rest, plain)
        return [found[n] for n in range(len(frames))]

    def _evaluate(
        self, frames: Sequence[Atoms], numbers: Sequence[int], properties: Sequence[str]
    ) -> dict[int, Outcome]:
        chosen = [frames[n] for n in numbers]
        found = evaluate_each(self._evaluator, chosen, properties)
        return dict(zip(numbers, found, strict=True))

    def _wants_stress(self, atoms: Atoms) -> bool:
        return self._has_stress and bool(atoms.pbc.all() and atoms.cell.rank == 3)

    def _check_keys(self, frames: Sequence[Atoms], labels: Sequence[Labels]) -> None:
        for name, key in self._settings.keys.items():
            if key is None or any(getattr(known, name) is not None for known in labels):
                continue
            first = frames[0]
            own = getattr(first.calc, "results", {})
            entries = [*first.info, *first.arrays, *own]
            raise DataError(
                f"none of the first {len(frames)} structures has {name} called "
                f"{key!r} (--{name}-key); the first one has {', '.join(entries)}"
            )

    def _check_some(self, outcomes: Sequence[Outcome], name: str) -> None:
        problems = [o for o in outcomes if isinstance(o, UnsupportedSystemError)]
        is_short = len(self._files.structures) > 1 and (
            len(outcomes) < self._settings.chunk
        )
        if len(problems) < len(outcomes) or is_short:
            return
        if len(outcomes) > 1:
            problems[0].add_note(f"so it is with the first {len(outcomes)} of {name}")
        raise problems[0]


def _chunks(
    frames: Iterable[tuple[int, Atoms]], size: int
) -> Iterator[list[tuple[int, Atoms]]]:
    rest = iter(frames)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def _facts(atoms: Atoms, labels: Labels) -> dict[str, Any]:
    return {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "ref_energy_eV": labels.energy,
    }


def _values(results: Results, n_atoms: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "head": results.get("head"),
        "energy_eV": results["energy"],
        "energy_eV_per_atom": results["energy"] / n_atoms,
    }
    if "forces" in results:
        longest = np.linalg.norm(results["forces"], axis=1).max()
        row["max_force_eV_per_A"] = float(longest)
    if "stress" in results:
        row["pressure_GPa"] = float(-results["stress"][:3].mean() / GPA)
    return row | spread_of(results)


def _has_no_stress(outcome: Outcome) -> bool:
    return isinstance(outcome, UnsupportedSystemError) and isinstance(
        outcome.__cause__, PropertyNotImplementedError
    )
