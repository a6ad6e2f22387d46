"""``--resume`` of verbs whose calculators are kept: which file, and what becomes of it.

Work that is stopped leaves ``NAME-VERB-evaluations.part`` beside its results; the next
start goes on with it if told so. See :mod:`jmp_calc.sim.kept`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from jmp_calc.cli import EXIT_DONE, EXIT_USAGE
from jmp_calc.cli.options import ModelOptions, OutputOptions, ResumableOptions
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.files import file_hash
from jmp_calc.sim.kept import Kept
from jmp_calc.sim.kept_file import Beginning, KeptFile, beginnings
from jmp_calc.sim.output import PACKAGES, check_new, writing
from jmp_calc.versions import installed_versions


class KeptWork:
    """What one call of a verb has computed, and whether it is still needed.

    Args:
        file: Where it is kept.
        now: What the call sets out to do.
        before: What calls did that it goes on with.
    """

    def __init__(
        self, file: KeptFile, now: Beginning, before: Sequence[Beginning]
    ) -> None:
        self.file = file
        self.is_done = False
        self.is_refused = False
        self.is_resumed = bool(before)
        self._identity = now.identity
        self._is_all = set(now.files) >= _files(before)
        file.begin(now)

    def calculator(self, calculator: Any) -> Kept:
        """Return a calculator that remembers.

        Args:
            calculator: The one that computes.
        """
        return Kept(calculator, self.file, self._identity)

    def end(self, code: int) -> None:
        """Take note of how the work ended.

        Args:
            code: Exit code; what was computed is needed no more after 0, unless an
                earlier call was to make more than this one.
        """
        self.is_done = code == EXIT_DONE and self._is_all
        self.is_refused = code == EXIT_USAGE


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
    begun: frozenset[str] = frozenset()
    if isinstance(output, ResumableOptions):
        path = kept_path(output.out, structures)
        if path.exists() and is_resumed:
            begun = _files(beginnings(path))
        elif path.exists() and not output.overwrite:
            raise ArgumentError(
                f"{path} holds what earlier work has computed that did not end well, "
                "or is not done yet; go on with it by --resume, or begin anew with "
                "--overwrite"
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
    identity: Mapping[str, Any],
) -> Iterator[KeptWork | None]:
    """Keep what is computed in the block until the work is done.

    Gives None for verbs that keep nothing.

    Args:
        files: What the verb will make.
        output: Whether to go on with what is there.
        structures: The input.
        folder: Of the results; exists.
        identity: What computes, from :func:`identity_of`.

    Raises:
        ArgumentError: If another process does this work in this folder.
        DataError: If the file cannot be read or written.
    """
    if not isinstance(output, ResumableOptions):
        yield None
        return
    path = kept_path(folder, structures)
    now = Beginning(files=sorted(p.name for p in files), identity=dict(identity))
    with _alone(path):
        is_known = output.resume and path.exists()
        before = beginnings(path) if is_known else []
        file = KeptFile(path, is_new=not is_known)
        if file.n_systems:
            _tell("resumed", f"{_counted(file)} known from {path}")
        _warn_of_changes(before, now)
        work = KeptWork(file, now, before)
        try:
            yield work
        except (ArgumentError, UnsupportedSystemError):
            work.end(EXIT_USAGE)
            raise
        finally:
            file.close()
            if work.is_done or not file.n_systems:
                path.unlink(missing_ok=True)
            else:
                what = (
                    "when what was refused is mended, the command"
                    if work.is_refused
                    else "the same command"
                )
                _tell(
                    "kept",
                    f"{_counted(file)} in {path}; {what} goes on with --out {folder} "
                    "--resume",
                )


def identity_of(options: ModelOptions, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on besides the structures, as plain data.

    Args:
        options: What computes, as asked for.
        about: What it says about itself.
    """
    packages = [*PACKAGES, "dftd3", "tblite"]
    found: dict[str, Any] = {
        "weights": about["weights_sha256"],
        "head": options.head,
        "forces": options.forces,
        "device": options.device.partition(":")[0],
        "dtype": options.dtype,
        "compile": options.compile,
        "approximate": options.approximate,
        "tags": options.tags,
        "d3": options.d3,
        "calculator": options.calculator,
    }
    if options.calculator is not None:
        # somebody's own function: as much of it as can be seen
        module = options.calculator.partition(":")[0]
        source = getattr(sys.modules.get(module), "__file__", None)
        if source is not None:
            found["source"] = file_hash(Path(source))
        packages.append(module.partition(".")[0])
    return {**found, "versions": installed_versions(packages)}


def computes_of(options: ModelOptions, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that numbers of a trajectory depend on, as plain data.

    Less than :func:`identity_of`: a long run may go on on another device or version,
    compiled or not. Weights are compared by themselves.

    Args:
        options: What computes, as asked for.
        about: What it says about itself; what it chose by default counts as chosen.
    """
    return {
        "head": about.get("head", options.head),
        "forces": about.get("forces", options.forces),
        "dtype": options.dtype,
        "approximate": options.approximate,
        "tags": options.tags,
        "d3": options.d3,
    }


def _files(calls: Iterable[Beginning]) -> frozenset[str]:
    return frozenset(name for call in calls for name in call.files)


def _warn_of_changes(before: Sequence[Beginning], now: Beginning) -> None:
    """Tell that nothing is known of what now computes, which may not be meant."""
    if not before or any(call.identity == now.identity for call in before):
        return
    earlier = before[-1].identity
    changes = [
        f"{name} was {earlier.get(name)} and is {value}"
        for name, value in now.identity.items()
        if value != earlier.get(name)
    ]
    print(
        f"jmp-md: warning: what computes has changed ({'; '.join(changes)}), so that "
        "nothing known from before is used",
        file=sys.stderr,
    )


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


def _counted(file: KeptFile) -> str:
    return f"{file.n_systems} evaluation{'' if file.n_systems == 1 else 's'}"


def _tell(label: str, text: str) -> None:
    print(f"{label:12s}{text}", flush=True)
