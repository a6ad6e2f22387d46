"""What verbs do around their work: calculator, folder, provenance, signals."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from ase import Atoms

from jmp_calc.cli import WORDS, print_no_more
from jmp_calc.cli.folder import result_folder
from jmp_calc.cli.options import ModelOptions, OutputOptions
from jmp_calc.cli.resume import KeptWork, check_output, identity_of, kept_work
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.files import file_hash
from jmp_calc.heap import keep_freed_memory


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One call of a verb, ready to work."""

    calculator: Any
    """The ASE calculator that was asked for."""
    options: ModelOptions
    """How it was asked for."""
    about: Mapping[str, Any]
    """What the first structure is computed with; see ``JMPCalculator.describe``."""
    folder: Path
    """Where results go; exists."""
    provenance: Mapping[str, Any]
    """``inputs`` and ``model`` sections of the summary."""
    overwrite: bool = False
    """Whether existing files may be replaced, those of stopped work among them."""
    kept: KeptWork | None = None
    """What is kept for ``--resume``; None: nothing."""

    def ended(self, code: int) -> int:
        """Return an exit code; if all is done, what is kept for a resume goes.

        Args:
            code: How the work ended.
        """
        if self.kept is not None:
            self.kept.end(code)
        return code

    def of_structure(self, structure: Structure) -> Job:
        """Return the job with what one structure is computed with.

        Args:
            structure: One of the input.

        Raises:
            UnsupportedSystemError: If the model cannot be used for it.
        """
        about = describe(self.calculator, structure.atoms, self.options)
        model = {**self.provenance.get("model", {}), **about}
        provenance = {**self.provenance, "model": model}
        return replace(self, about=about, provenance=provenance)

    def common_provenance(self, structures: Iterable[Structure]) -> Mapping[str, Any]:
        """Return ``provenance`` with how structures differ from ``about``, by name.

        Args:
            structures: Those of one summary.
        """
        differing: dict[str, dict[str, Any]] = {}
        for structure in structures:
            try:
                about = describe(self.calculator, structure.atoms, self.options)
            except UnsupportedSystemError as error:
                about = {"problem": str(error)}
            other = {k: v for k, v in about.items() if v != self.about.get(k)}
            differing |= {structure.name: other} if other else {}
        model = self.provenance.get("model", {})
        model = {**model, "differing": differing} if differing else model
        return {**self.provenance, "model": model}

    def require_conservative(self, what: str, *, is_allowed: bool) -> None:
        """Refuse direct forces where they give wrong physics.

        Args:
            what: The work that needs gradient forces, for the message.
            is_allowed: Whether the user has allowed direct forces by name.

        Raises:
            ArgumentError: If forces are direct and that is not allowed.
        """
        if self.about["is_conservative"] or is_allowed:
            return
        raise ArgumentError(
            f"{what} needs forces that are the gradient of the energy, but head "
            f"{self.about['head']!r} of {self.about['model']} gives direct forces; use "
            "--forces gradient, another model, or --allow-direct-forces"
        )

    def require_uncapped(self, what: str, atoms: Atoms, *, is_allowed: bool) -> None:
        """Refuse a hard limit of neighbors where its jumps give wrong physics.

        Args:
            what: The work that needs an energy without jumps, for the message.
            atoms: The structure.
            is_allowed: Whether the user has allowed an active limit by name.

        Raises:
            ArgumentError: If a limit cuts edges of the structure and that is not
                allowed.
        """
        about = {} if is_allowed else describe(self.calculator, atoms, self.options)
        cap = about.get("neighbor_cap")
        if cap is None:
            return
        raise ArgumentError(
            f"{what} needs an energy without jumps, but the graph rules of head "
            f"{about['head']!r} of {about['model']} cap the neighbours of this "
            f"structure: {cap}; the energy jumps where neighbours change rank, and in "
            "a perfect crystal, whose neighbours tie at the cap, it changes by 10-22 % "
            "when the crystal is rotated; use a model with smooth rules (jmp-nano), or "
            "--allow-neighbor-cap"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """What the user has allowed by name."""

    direct_forces: bool
    """--allow-direct-forces."""
    neighbor_cap: bool
    """--allow-neighbor-cap."""

    def check(self, job: Job, what: str, atoms: Atoms) -> None:
        """Refuse what gives wrong physics and is not allowed.

        Args:
            job: The call.
            what: The work, for the message.
            atoms: The structure.

        Raises:
            ArgumentError: If forces are direct, or a hard limit of neighbors cuts
                edges of the structure, and that is not allowed.
        """
        job.require_conservative(what, is_allowed=self.direct_forces)
        job.require_uncapped(what, atoms, is_allowed=self.neighbor_cap)


@contextlib.contextmanager
def open_job(
    structures: Sequence[Structure],
    model: ModelOptions,
    output: OutputOptions,
    *,
    name: str,
    files: Callable[[Path], Iterable[Path]],
    samples: Iterable[Structure] | None = None,
) -> Iterator[Job]:
    """Make ready what a verb works with, and leave nothing behind if it cannot start.

    Existing results are found before the model is loaded. Inside of the block warnings
    are single lines, and SIGTERM and SIGHUP act like Ctrl-C.

    Args:
        structures: The input; at least one.
        model: What computes energies and forces.
        output: Where results go.
        name: What a new folder under ``runs`` is called if ``output`` names none.
        files: From the folder to the files that the verb will make.
        samples: Structures of which the model has to know one; None: the input.

    Raises:
        ArgumentError: If a file would be replaced, or the calculator is refused.
        UnsupportedSystemError: If the model cannot be used for any structure.
    """
    check_output(files, output, structures)
    with one_line_warnings() as told, terminated_like_ctrl_c():
        if not model.recompute:  # who is short of memory gives it back
            keep_freed_memory()
        calculator = build_calculator(model)
        about = describe_first(calculator, samples or structures, model)
        told.extend(about["notes"])
        provenance = {
            "inputs": describe_inputs(structures),
            "model": {**about, "device": model.device, "dtype": model.dtype},
        }
        with (
            result_folder(output.out, name) as folder,
            kept_work(
                files(folder), output, structures, folder, identity_of(model, about)
            ) as kept,
        ):
            yield Job(
                calculator=kept.calculator(calculator) if kept else calculator,
                options=model,
                about=about,
                folder=folder,
                provenance=provenance,
                overwrite=output.overwrite or bool(kept and kept.is_resumed),
                kept=kept,
            )


def build_calculator(options: ModelOptions) -> Any:
    """Return the calculator that the options ask for.

    Args:
        options: A model, or another calculator of ASE.
    """
    if options.calculator is not None:
        from jmp_calc.calculator.named import CalculatorChoice

        return CalculatorChoice(name=options.calculator, options={}).build()
    from jmp_calc.calculator import JMPCalculator

    members: list[Any] = [
        JMPCalculator(
            model,
            head=options.head,
            forces=options.forces,
            device=options.device,
            dtype=options.dtype,
            compile=options.compile,
            approximate=options.approximate,
            recompute=options.recompute,
            tags=options.tags,
            offline=options.offline,
        )
        for model in (options.model, *options.committee)
    ]
    if options.d3 is not None:
        from jmp_calc.calculator.dispersion import Dispersed

        members = [Dispersed(member, options.d3) for member in members]
    if len(members) == 1:
        return members[0]
    from jmp_calc.calculator.committee import Committee

    return Committee(members)


def describe(calculator: Any, atoms: Atoms, options: ModelOptions) -> dict[str, Any]:
    """Return what a structure is computed with, for any calculator.

    Args:
        calculator: From :func:`build_calculator`.
        atoms: The structure.
        options: What was asked for.
    """
    if hasattr(calculator, "describe"):
        about: dict[str, Any] = calculator.describe(atoms)
        return about
    from jmp_calc.calculator.named import CalculatorChoice

    return CalculatorChoice(name=str(options.calculator), options={}).describe(atoms)


def describe_first(
    calculator: Any, structures: Iterable[Structure], options: ModelOptions
) -> dict[str, Any]:
    """Return what the first structure is computed with that can be computed.

    Args:
        calculator: From :func:`build_calculator`.
        structures: At least one.
        options: What was asked for.

    Raises:
        UnsupportedSystemError: If the model cannot be used for any.
    """
    problems: list[UnsupportedSystemError] = []
    for structure in structures:
        try:
            return describe(calculator, structure.atoms, options)
        except UnsupportedSystemError as error:
            problems.append(error)
    raise problems[0]


def describe_inputs(structures: Sequence[Structure]) -> dict[str, Any]:
    """Return where the input came from, for the summary.

    Args:
        structures: The input.
    """
    words = click.get_current_context().meta.get(WORDS, [])
    paths = dict.fromkeys(structure.path for structure in structures)
    return {
        "files": [{"file": path, "sha256": file_hash(path)} for path in paths],
        "frames": [structure.frame for structure in structures],
        "command": shlex.join(["jmp-md", *words]),
        "working_folder": Path.cwd(),
    }


@contextlib.contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM (a queue's time limit) and SIGHUP end work with valid files."""

    def interrupt(number: int, _: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    # one that is ignored (nohup) stays ignored
    changed = [n for n in numbers if signal.getsignal(n) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def one_line_warnings() -> Iterator[list[str]]:
    """Show a warning as a line for people, without the place in the source.

    Gives a list for what has been told already: a warning that starts like an entry is
    not shown.
    """
    show = warnings.showwarning
    told: list[str] = []

    def tell(message: Warning | str, *_: Any, **__: Any) -> None:
        if not str(message).startswith(tuple(told)):
            print(f"jmp-md: warning: {message}", file=sys.stderr)

    warnings.showwarning = tell
    try:
        yield told
    finally:
        warnings.showwarning = show


def print_facts(facts: Mapping[str, object]) -> None:
    """Print lines of a label and what it stands for, in two columns.

    Args:
        facts: Label -> text; None leaves a line out.
    """
    lines = [f"{label:12s}{text}" for label, text in facts.items() if text is not None]
    try:
        # before a progress bar, which goes to stderr
        print(*lines, sep="\n", end="\n" * bool(lines), flush=True)
    except OSError:
        print_no_more()


def describe_structure(structure: Structure) -> str:
    """Return a structure in a few words: file, formula, size, periodicity.

    Args:
        structure: One of the input.
    """
    atoms = structure.atoms
    periodic = "".join(
        axis for axis, is_on in zip("xyz", atoms.pbc, strict=True) if is_on
    )
    boundary = f"periodic in {periodic}" if periodic else "not periodic"
    return (
        f"{structure.path}: {atoms.get_chemical_formula()}, {len(atoms)} atoms, "
        f"{boundary}"
    )


def describe_model(about: Mapping[str, Any]) -> str:
    """Return what computes, in a few words.

    Args:
        about: From :func:`describe`.
    """
    if about["head"] is None:
        return str(about["model"])
    name = Path(about["model"]).name
    return f"{name}, head {about['head']} ({about['level_of_theory']})"


def describe_forces(about: Mapping[str, Any]) -> str:
    """Return how forces are made, in a few words.

    Args:
        about: From :func:`describe`.
    """
    kind = "conservative" if about["is_conservative"] else "not conservative"
    return f"{about['forces']}, {kind}"
