"""What does a part: a process that keeps the model loaded."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jmp_calc.cli import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE
from jmp_calc.cli.campaigns.parts import Done, Ended, Failed, Lost, Outcome, Part
from jmp_calc.cli.job import Job, build_calculator, describe_first
from jmp_calc.cli.options import ModelOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import CheckpointError, DataError, JMPError
from jmp_calc.sim.output import versions


@runtime_checkable
class Work(Protocol):
    """What a verb does with some structures."""

    @property
    def can_go_on(self) -> bool:
        """Whether it goes on with the files of an attempt that was cut off."""

    def do(
        self, structures: Sequence[Structure], job: Job, stem: str
    ) -> Sequence[Ended]:
        """Do them and leave the files in the folder of the job.

        Args:
            structures: At least one.
            job: Calculator, empty folder, provenance.
            stem: First part of the names of common files.
        """

    def common(
        self, structures: Sequence[Structure], folder: Path, stem: str
    ) -> dict[str, list[Path]]:
        """Return what the common results of the campaign are joined from.

        Args:
            structures: Those of a part.
            folder: Where its files are.
            stem: As for :meth:`do`.

        Returns:
            Name of a common file -> files of the part, in order.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPlan:
    """What every worker of a campaign needs; travels to other machines."""

    model: ModelOptions
    """What computes."""
    weights_sha256: str | None
    """Hash of its weights; None: another calculator."""
    work: Work
    """What is done with it."""
    seen: Path
    """A file that only machines with the folder of the results have."""
    provenance: Mapping[str, Any]
    """Sections of the summaries that are the same for all."""


class Worker:
    """Loads the model once and does parts with it.

    Args:
        plan: What to do.
    """

    def __init__(self, plan: WorkerPlan) -> None:
        self._plan = plan
        self._calculator: Any = None
        self._versions = versions()
        self._name = f"{socket.gethostname()}, process {os.getpid()}"

    def prepare(self) -> None:
        """Load the model.

        Raises:
            DataError: If this machine does not see the folder of the results.
            JMPError: If the model cannot be loaded.
        """
        if not self._plan.seen.exists():
            raise DataError(
                f"{self._name}: cannot see {self._plan.seen.parent}; choose an --out "
                "on a file system that all machines share"
            )
        self._calculator = build_calculator(self._plan.model)

    def do(self, part: Part, folder: Path) -> Outcome:
        """Do a part; errors are outcomes, so that the worker lives on.

        Args:
            part: What to do.
            folder: Where its files go.
        """
        started = time.perf_counter()
        try:
            ended = self._ended(part, folder)
        except JMPError as error:
            text = "; ".join([str(error), *getattr(error, "__notes__", [])])
            return Failed(reason=" ".join(text.split()), exit_code=EXIT_USAGE)
        except Exception as error:  # noqa: BLE001 (a bug in one part of thousands)
            return Failed(
                reason=f"{type(error).__name__}: {error}",
                exit_code=EXIT_BUG,
                traceback=traceback.format_exc(),
            )
        if any(one.exit_code == EXIT_INTERRUPTED for one in ended):
            return Lost(reason=f"{self._name} was interrupted")
        seconds = time.perf_counter() - started
        return Done(
            ended=ended, worker=self._name, versions=self._versions, seconds=seconds
        )

    def _ended(self, part: Part, folder: Path) -> tuple[Ended, ...]:
        model = self._plan.model
        about = describe_first(self._calculator, part.structures, model)
        if about["weights_sha256"] != self._plan.weights_sha256:
            raise CheckpointError(
                f"{self._name}: the weights of {model.model} are not those of the "
                "machine where the campaign was started"
            )
        common = self._plan.provenance["inputs"]
        paths = {structure.path for structure in part.structures}
        inputs = {
            **common,
            "files": [entry for entry in common["files"] if entry["file"] in paths],
            "frames": [structure.frame for structure in part.structures],
        }
        device = {"device": model.device, "dtype": model.dtype}
        provenance = {"inputs": inputs, "model": {**about, **device}}
        job = Job(
            calculator=self._calculator,
            options=model,
            about=about,
            folder=folder,
            provenance=provenance,
        )
        ended = tuple(self._plan.work.do(part.structures, job, part.name))
        # summaries name their files, which are about to move
        for summary in folder.glob("*-summary.yml"):
            text = summary.read_text(encoding="utf-8")
            text = text.replace(f".work/{folder.name}", f"parts/{part.name}")
            summary.write_text(text, encoding="utf-8")
        return ended
