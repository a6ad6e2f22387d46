"""One structure after another, so that a bad one does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_NOT_CONVERGED, EXIT_USAGE
from jmp_calc.cli.job import (
    Job,
    describe_forces,
    describe_model,
    open_job,
    print_facts,
)
from jmp_calc.cli.options import ModelOptions, OutputOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import DataError, JMPError
from jmp_calc.pictures import require_matplotlib


def each_structure(
    structures: Sequence[Structure], work: Callable[[Structure], int]
) -> int:
    """Work on structures in turn, and return the worst exit code.

    Args:
        structures: The input.
        work: Does one structure and returns its exit code.

    Raises:
        JMPError: If there is one structure only and it cannot be done; of several the
            error becomes a line, and the others are done, unless nothing can be
            written.
    """
    if len(structures) == 1:
        return work(structures[0])
    codes = []
    for structure in structures:
        try:
            codes.append(work(structure))
        except DataError:
            # what cannot be written for one cannot be for the others
            raise
        except JMPError as error:
            text = " ".join(str(error).split())
            print(f"jmp-md: {structure.name}: error: {text}", file=sys.stderr)
            codes.append(EXIT_USAGE)
    # an input error tells more than an iteration without success
    return EXIT_USAGE if EXIT_USAGE in codes else max(codes)


@runtime_checkable
class Outcome(Protocol):
    """What every verb of this kind ends with."""

    @property
    def status(self) -> str:
        """How the work ended."""

    @property
    def reason(self) -> str | None:
        """Why, if early."""

    @property
    def is_converged(self) -> bool:
        """Whether it reached its goal."""


def run_each(
    structures: Sequence[Structure],
    model: ModelOptions,
    output: OutputOptions,
    *,
    topic: str,
    files: Callable[[Path, Structure], Iterable[Path]],
    work: Callable[[Structure, Job], int],
) -> int:
    """Do the same work on each structure, and return the worst exit code.

    Args:
        structures: The input.
        model: What computes energies and forces.
        output: Where results go.
        topic: What the work is called in names of files.
        files: From folder and structure to the files that are made, pictures left out.
        work: Does one structure and returns its exit code.
    """
    if output.plot:
        require_matplotlib()

    def all_files(folder: Path) -> Iterator[Path]:
        for structure in structures:
            yield from files(folder, structure)
            if (picture := picture_of(folder, structure, topic, output)) is not None:
                yield picture

    name = f"{structures[0].name}-{topic}"
    with open_job(structures, model, output, name=name, files=all_files) as job:
        told: list[Mapping[str, Any]] = []

        def one(structure: Structure) -> int:
            own = job.of_structure(structure)
            if told[-1:] != [own.about]:
                told.append(own.about)
                print_job(own)
            return work(structure, own)

        return job.ended(each_structure(structures, one))


def picture_of(
    folder: Path, structure: Structure, topic: str, output: OutputOptions
) -> Path | None:
    """Return where the picture of a structure goes; None: there is to be none.

    Args:
        folder: Of the results.
        structure: One of the input.
        topic: What the work is called in names of files.
        output: Whether and how to draw.
    """
    if not output.plot:
        return None
    return folder / f"{structure.name}-{topic}.{output.picture_format}"


def exit_code(structure: Structure, result: Outcome, notes: Sequence[str] = ()) -> int:
    """Tell on stderr what to be aware of, and return the exit code of a result.

    Args:
        structure: What it is about.
        result: The result.
        notes: Warnings.
    """
    for note in notes:
        print(f"jmp-md: {structure.name}: warning: {note}", file=sys.stderr)
    if result.is_converged:
        return EXIT_DONE
    print(
        f"jmp-md: {structure.name}: {result.status}: {result.reason}", file=sys.stderr
    )
    return EXIT_NOT_CONVERGED


def print_job(job: Job) -> None:
    """Print what computes, and what the model has to say about it.

    Args:
        job: The call.
    """
    print_facts(
        {"model": describe_model(job.about), "forces": describe_forces(job.about)}
    )
    for note in job.about["notes"]:
        print_facts({"note": note})


class ProgressBar:
    """A bar of which the total may become known later.

    Args:
        unit: What is counted.
    """

    def __init__(self, unit: str) -> None:
        self._bar = tqdm(unit=unit, disable=None, leave=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, done: int, total: int, note: str = "") -> None:
        """Show how far the work is.

        Args:
            done: How many are done.
            total: How many there are.
            note: Text behind the bar.
        """
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
