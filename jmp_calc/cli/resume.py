"""``--resume`` of verbs whose calculators are kept: which file, and what becomes of it.

Work that is stopped leaves ``NAME-VERB-evaluations.part`` beside its results; the next
start goes on with it if told so. See :mod:`jmp_calc.sim.kept`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from jmp_calc.cli import EXIT_DONE
from jmp_calc.cli.options import ModelOptions, OutputOptions, ResumableOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError
from jmp_calc.files import file_hash
from jmp_calc.sim.kept import Kept
from jmp_calc.sim.kept_file import KeptFile, begun_files
from jmp_calc.sim.output import PACKAGES, check_new, writing
from jmp_calc.versions import installed_versions


class KeptWork:
    """What one call of a verb has computed, and whether it is still needed.

    Args:
        file: Where it is kept.
        files: What the call makes.
        begun: Names of what earlier calls were to make that did not finish.
    """

    def __init__(self, file: KeptFile, files: Iterable[Path], begun: Set[str]) -> None:
        self.file = file
        self.is_done = False
        self.is_resumed = bool(begun)
        names = {path.name for path in files}
        self._is_all = names >= begun
        file.begin(names)

    def end(self, code: int) -> None:
        """Take note of how the work ended.

        Args:
            code: Exit code; what was computed is needed no more after 0, unless an
                earlier call was to make more than this one.
        """
        self.is_done = code == EXIT_DONE and self._is_all


def kept_path(folder: Path, structures: Sequence[Structure]) -> Path:
    """Return where the verb that is called keeps what it computes.

    Args:
        folder: Of the results.
        structures: The input.
    """
    verb = click.get_current_context().info_name
    return folder / f"{structures[0].name}-{verb}-evaluations.part"


def check_output(
    files: Callable[[Path], Iterable[Path]],
    output: OutputOptions,
    structures: Sequence[Structure],
) -> None:
    """See to it that no file is replaced unasked, and no stopped work forgotten.

    Files of the stopped work itself are replaced when it goes on.

    Args:
        files: From the folder to what the verb will make.
        output: Where, and what is allowed.
        structures: The input.

    Raises:
        ArgumentError: If something is there and not allowed for, or there is no folder
            to go on in.
        DataError: If what is kept of the work cannot be read.
    """
    is_resumed = isinstance(output, ResumableOptions) and output.resume
    if output.out is None:
        if is_resumed:
            raise ArgumentError("--resume needs the --out of the work that is to go on")
        return
    begun: set[str] = set()
    if isinstance(output, ResumableOptions):
        path = kept_path(output.out, structures)
        if path.exists() and is_resumed:
            begun = begun_files(path)
        elif path.exists() and not output.overwrite:
            raise ArgumentError(
                f"{path} is what work has left that did not finish, or is not done "
                "yet; go on with it by --resume, or begin anew with --overwrite"
            )
    try:
        check_new(
            [path for path in files(output.out) if path.name not in begun],
            overwrite=output.overwrite,
        )
    except ArgumentError as error:
        if is_resumed and not begun:
            error.add_note("--resume finds nothing there that is not finished")
        raise


@contextlib.contextmanager
def kept_work(
    files: Iterable[Path],
    output: OutputOptions,
    structures: Sequence[Structure],
    folder: Path,
) -> Iterator[KeptWork | None]:
    """Keep what is computed in the block until the work is done.

    Gives None for verbs that keep nothing.

    Args:
        files: What the verb will make.
        output: Whether to go on with what is there.
        structures: The input.
        folder: Of the results; exists.

    Raises:
        ArgumentError: If another process does this work in this folder.
        DataError: If the file cannot be read or written.
    """
    if not isinstance(output, ResumableOptions):
        yield None
        return
    path = kept_path(folder, structures)
    with _alone(path):
        is_known = output.resume and path.exists()
        begun = begun_files(path) if is_known else frozenset()
        file = KeptFile(path, is_new=not is_known)
        if file.n_systems:
            _tell("resumed", f"{file.n_systems} evaluations are known from {path}")
        work = KeptWork(file, files, begun)
        try:
            yield work
        finally:
            file.close()
            if work.is_done or not file.n_systems:
                path.unlink(missing_ok=True)
            else:
                _tell(
                    "kept",
                    f"{file.n_systems} evaluations in {path}; the same command goes on "
                    f"with --out {folder} --resume",
                )


def kept_calculator(
    calculator: Any,
    work: KeptWork | None,
    options: ModelOptions,
    about: Mapping[str, Any],
) -> Any:
    """Return a calculator that remembers, or the same one if nothing is to be kept.

    Args:
        calculator: What the options ask for.
        work: Where to keep.
        options: How it was asked for.
        about: What it says about itself.
    """
    if work is None:
        return calculator
    return Kept(calculator, work.file, _identity(options, about))


def _identity(options: ModelOptions, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on besides the structures, as plain data."""
    packages = [*PACKAGES, "dftd3", "tblite"]
    found: dict[str, Any] = {
        "weights": about["weights_sha256"],
        "head": options.head,
        "forces": options.forces,
        "device": options.device.partition(":")[0],
        "dtype": options.dtype,
        "tags": options.tags,
        "d3": options.d3,
        "calculator": options.calculator,
    }
    if options.calculator is not None:
        # somebody's own function: as much of it as can be seen
        module = options.calculator.partition(":")[0]
        source = getattr(sys.modules.get(module), "__file__", None)
        found["source"] = None if source is None else file_hash(Path(source))
        packages.append(module.partition(".")[0])
    return {**found, "versions": installed_versions(packages)}


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock_path = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_path)
    with writing(lock_path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ArgumentError(
                f"another jmp-md works with {path}; wait for it, or choose another "
                "--out"
            ) from None
    try:
        yield
    finally:
        # before the release: nobody else may hold what is removed
        with contextlib.suppress(OSError):
            lock_path.unlink()
        lock.release()


def _tell(label: str, text: str) -> None:
    print(f"{label:12s}{text}", flush=True)
