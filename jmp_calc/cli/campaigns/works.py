"""What each verb does with the structures of one part of a campaign."""

from __future__ import annotations

import csv
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ase import Atoms

from jmp_calc.cli import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    EXIT_UNSTABLE,
    EXIT_USAGE,
)
from jmp_calc.cli.campaigns.parts import Ended
from jmp_calc.cli.job import Allowed, Job, describe_model
from jmp_calc.cli.options import OutputOptions
from jmp_calc.cli.phonons import draw
from jmp_calc.cli.relax import exit_code
from jmp_calc.cli.run import EXIT_OF_STATUS, Asked
from jmp_calc.cli.structures import Structure
from jmp_calc.files import copy_file
from jmp_calc.sim.dynamics.ensembles import find_ensemble
from jmp_calc.sim.dynamics.md import run_md
from jmp_calc.sim.dynamics.picture import plot_md
from jmp_calc.sim.energy import EnergySettings, run_energy
from jmp_calc.sim.energy.single_points import INTERRUPTED
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings
from jmp_calc.sim.relax.picture import plot_relax
from jmp_calc.sim.relax.relaxation import run_relax
from jmp_calc.sim.relax.settings import RelaxSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxWork:
    """Relax structures side by side."""

    settings: RelaxSettings
    """What to do."""
    output: OutputOptions
    """Whether to draw."""

    @property
    def can_go_on(self) -> bool:
        """Whether it goes on with an attempt that was cut off."""
        return False

    def do(self, structures: Sequence[Structure], job: Job, stem: str) -> list[Ended]:
        """Relax structures; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        result = run_relax(
            {structure.name: structure.atoms for structure in structures},
            self.settings,
            calculator=job.calculator,
            out=job.folder,
            stem=stem,
            provenance=job.common_provenance(structures),
        )
        if self.output.plot:
            for outcome in result.outcomes:
                if outcome.steps:
                    plot_relax(
                        outcome.steps,
                        self.settings,
                        _picture(job, f"{outcome.name}-relax", self.output),
                        title=f"{outcome.name}: {describe_model(job.about)}",
                    )
        return [
            Ended(
                name=outcome.name,
                status=outcome.status,
                exit_code=exit_code([outcome.status]),
                reason=outcome.reason,
            )
            for outcome in result.outcomes
        ]

    def common(
        self, structures: Sequence[Structure], folder: Path, stem: str
    ) -> dict[str, list[Path]]:
        """Return files to join; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        return {
            "all-table.csv": [folder / f"{stem}-table.csv"],
            "all-relaxed.xyz": [folder / f"{s.name}-final.xyz" for s in structures],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyWork:
    """Single points."""

    settings: EnergySettings
    """What to do."""
    sources: Mapping[Path, str]
    """What files are called."""

    @property
    def can_go_on(self) -> bool:
        """Whether it goes on with an attempt that was cut off."""
        return False

    def do(self, structures: Sequence[Structure], job: Job, stem: str) -> list[Ended]:
        """Compute structures; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        frames: dict[str, list[tuple[int, Atoms]]] = {}
        names: dict[tuple[str, int], str] = {}
        for structure in structures:
            source = self.sources[structure.path]
            frames.setdefault(source, []).append((structure.frame, structure.atoms))
            names[source, structure.frame] = structure.name
        # all at once: a part whose first structures are refused is not given up
        chunk = max(self.settings.chunk, len(structures))
        result = run_energy(
            frames,
            replace(self.settings, chunk=chunk),
            calculator=job.calculator,
            out=job.folder,
            stem=stem,
            provenance=job.common_provenance(structures),
        )
        is_cut = result.status == INTERRUPTED
        with result.files.table.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [
            Ended(
                name=names[row["source"], int(row["frame"])],
                status="refused" if row["problem"] else "done",
                exit_code=EXIT_INTERRUPTED
                if is_cut
                else EXIT_USAGE
                if row["problem"]
                else EXIT_DONE,
                reason=row["problem"] or None,
            )
            for row in rows
        ]

    def common(
        self, structures: Sequence[Structure], folder: Path, stem: str
    ) -> dict[str, list[Path]]:
        """Return files to join; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        sources = dict.fromkeys(self.sources[s.path] for s in structures)
        return {
            "all-energy.csv": [folder / f"{stem}-energy.csv"],
            "all-energy.xyz": [folder / f"{name}-energy.xyz" for name in sources],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RunWork:
    """Molecular dynamics, one structure after the other."""

    asked: Asked
    """Physics, what to write, when to stop."""
    allowed: Allowed
    """What the user has allowed by name."""
    output: OutputOptions
    """Whether to draw."""

    @property
    def can_go_on(self) -> bool:
        """Whether it goes on with an attempt that was cut off."""
        return True

    def do(self, structures: Sequence[Structure], job: Job, stem: str) -> list[Ended]:  # noqa: ARG002 (files have the names of structures)
        """Run structures; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        return [self._one(structure, job) for structure in structures]

    def common(
        self,
        structures: Sequence[Structure],  # noqa: ARG002 (there is nothing to join)
        folder: Path,  # noqa: ARG002
        stem: str,  # noqa: ARG002
    ) -> dict[str, list[Path]]:
        """Return files to join, none."""
        return {}

    def _one(self, structure: Structure, job: Job) -> Ended:
        job = job.of_structure(structure)
        settings = self.asked.for_input(structure).settings
        if not find_ensemble(settings).has_thermostat:
            self.allowed.check(job, settings.ensemble, structure.atoms)
        atoms = structure.atoms.copy()
        atoms.calc = job.calculator
        files = self.asked.files(job.folder, structure)
        earlier = _take_over(job.folder, files.checkpoint.name)
        result = run_md(
            atoms,
            settings,
            record=self.asked.record,
            watch=self.asked.watch,
            out=job.folder,
            stem=structure.name,
            resume=earlier,
            provenance=job.provenance,
        )
        if self.output.plot:
            plot_md(
                result.files.observables,
                _picture(job, f"{structure.name}-md", self.output),
                title=f"{structure.name}: {describe_model(job.about)}",
                settings=settings,
            )
        return Ended(
            name=structure.name,
            status=result.status,
            exit_code=EXIT_OF_STATUS[result.status],
            reason=result.reason,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PhononWork:
    """Phonons, one crystal after the other."""

    settings: PhononSettings
    """What to do."""
    limits: ConvergenceSettings
    """How far to converge."""
    allowed: Allowed
    """What the user has allowed by name."""
    output: OutputOptions
    """Whether to draw."""
    fail_if_imaginary: bool
    """Whether imaginary modes are an exit code of their own."""

    @property
    def can_go_on(self) -> bool:
        """Whether it goes on with an attempt that was cut off."""
        return False

    def do(self, structures: Sequence[Structure], job: Job, stem: str) -> list[Ended]:  # noqa: ARG002 (files have the names of structures)
        """Compute crystals; see :class:`jmp_calc.cli.campaigns.worker.Work`."""
        return [self._one(structure, job) for structure in structures]

    def common(
        self,
        structures: Sequence[Structure],  # noqa: ARG002 (there is nothing to join)
        folder: Path,  # noqa: ARG002
        stem: str,  # noqa: ARG002
    ) -> dict[str, list[Path]]:
        """Return files to join, none."""
        return {}

    def _one(self, structure: Structure, job: Job) -> Ended:
        from jmp_calc.sim.phonons.calculation import run_phonons

        job = job.of_structure(structure)
        self.allowed.check(job, "phonons", structure.atoms)
        result = run_phonons(
            structure.atoms,
            self.settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            limits=self.limits,
            provenance=job.provenance,
        )
        draw(result, self.settings, structure, self.output, job)
        imaginary = result.analysis.imaginary
        reason = None if imaginary is None else imaginary.text
        status, code = "done", EXIT_DONE
        if not result.is_converged:
            status, code = "not converged", EXIT_NOT_CONVERGED
        if imaginary is not None:
            status = "imaginary modes"
            code = EXIT_UNSTABLE if self.fail_if_imaginary else code
        return Ended(name=structure.name, status=status, exit_code=code, reason=reason)


def _take_over(folder: Path, checkpoint: str) -> bool:
    """Copy the files of the last attempt that was cut off; return whether there is one.

    Attempts lie side by side, PART.HASH.NUMBER. Should the worker of the earlier one
    still be alive, its files only grow beyond what the checkpoint counts on, so the
    checkpoint is copied first.
    """
    others = folder.parent.glob(f"{glob.escape(folder.stem)}.*")
    earlier = [other for other in others if other != folder]
    for attempt in sorted(earlier, key=lambda other: other.suffix, reverse=True):
        if not (attempt / checkpoint).is_file():
            continue
        copy_file(attempt / checkpoint, folder / checkpoint)
        for path in attempt.iterdir():
            if path.name != checkpoint and not path.name.startswith("."):
                copy_file(path, folder / path.name)
        return True
    return False


def _picture(job: Job, name: str, output: OutputOptions) -> Path:
    return job.folder / f"{name}.{output.picture_format}"
