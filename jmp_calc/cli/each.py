"""One structure after another, so that a bad one does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tqdm import tqdm

from jmp_calc.cli import EXIT_USAGE
from jmp_calc.cli.job import Job, describe_forces, describe_model, print_facts
from jmp_calc.cli.options import Structure
from jmp_calc.errors import JMPError


def each_structure(
    structures: Sequence[Structure], work: Callable[[Structure], int]
) -> int:
    """Work on structures in turn, and return the worst exit code.

    Args:
        structures: The input.
        work: Does one structure and returns its exit code.

    Raises:
        JMPError: If there is one structure only and it cannot be done; of several the
            error becomes a line, and the others are done.
    """
    if len(structures) == 1:
        return work(structures[0])
    codes = []
    for structure in structures:
        try:
            codes.append(work(structure))
        except JMPError as error:
            text = " ".join(str(error).split())
            print(f"jmp-md: {structure.name}: error: {text}", file=sys.stderr)
            codes.append(EXIT_USAGE)
    # an input error tells more than an iteration without success
    return EXIT_USAGE if EXIT_USAGE in codes else max(codes)


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
