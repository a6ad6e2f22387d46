"""``jmp-md check``: is a model safe for dynamics?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from ase import Atoms
from click.core import ParameterSource
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_NOT_CONVERGED
from jmp_calc.cli.job import (
    build_calculator,
    describe,
    describe_forces,
    describe_inputs,
    describe_model,
    one_line_warnings,
    print_facts,
    terminated_like_ctrl_c,
)
from jmp_calc.cli.options import HintingCommand, ModelOptions, settings_options
from jmp_calc.cli.structures import Structure, read_structures
from jmp_calc.errors import ArgumentError, UnsupportedSystemError
from jmp_calc.pretrained.loading import OUR_SUFFIX, PUBLISHED_SUFFIXES
from jmp_calc.sim.check.measurement import Measurement, failed
from jmp_calc.sim.check.settings import TEST_NAMES, CheckSettings
from jmp_calc.sim.output import check_new, save_summary, save_text, versions, writing

if TYPE_CHECKING:
    from jmp_calc.sim.check.check import CheckResult

REPORTS = (".yml", ".yaml", ".json")
"""Endings of reports."""
ENOUGH_TO_TELL = 10
"""Evaluations after which it is told how long it will take."""
LONG_SECONDS = 120.0
"""What is told."""
BEYOND_A = 0.5
"""How far beyond the longest cutoff atoms are pulled, angstrom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One structure with what computes it."""

    name: str
    """What it is called."""
    atoms: Atoms
    """The structure."""
    calculator: Any
    """Its calculator; None if there is none."""
    about: dict[str, Any]
    """What the calculator says of itself; empty if there is none."""
    reach_A: float | None = None
    """Beyond the cutoff, angstrom; None if it is not known."""
    refusal: str | None = None
    """Why the structure is not covered; None if it is."""


@click.command(cls=HintingCommand)
@click.argument("words", metavar="[MODEL] [FILE]...", nargs=-1)
@click.option(
    "--frame",
    default="-1",
    show_default=True,
    help="Structure to take from each file: 0 is the first, -1 the last, ':' all.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a report: .yml or .json.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@settings_options(CheckSettings, "settings", choices={"only": TEST_NAMES})
@settings_options(ModelOptions, "model", defaults={"dtype": "float64"})
def check(
    *,
    words: Sequence[str],
    frame: str,
    out: Path | None,
    overwrite: bool,
    settings: CheckSettings,
    model: ModelOptions,
) -> int:
    """Test whether MODEL is safe for dynamics: a table of values, limits and verdicts.

    MODEL is a name from 'jmp-md models' or a weights file; with --model or --calculator
    it is left out. FILE is any file that ASE reads; without one, small systems that the
    model covers are tested (molecule, water, surface, crystal). Tests: are forces and
    stress (eV/Å, GPa) derivatives of the energy, has the force field a curl, does
    anything change when the system is moved, turned, renumbered or doubled, are there
    jumps of energy or force when atoms cross the cutoff, change their order by distance
    or come in line, and does NVE keep its energy (meV/atom/ps). Limits are wider where
    the energy is noisy, as in float32.

    Exit codes: 0 all tests pass, 1 bug, 2 usage or input, 3 a test fails, 130
    interrupted.

    Example: jmp-md check jmp-nano --quick

    Longer: jmp-md check jmp-nano molecule.xyz --out report.yml
    """
    model, paths = _split(words, model)
    if out is not None:
        _check_report(out, overwrite=overwrite)
    structures = read_structures(paths, frame)
    with one_line_warnings() as told, terminated_like_ctrl_c():
        subjects = _subjects(structures, model, is_quick=settings.quick)
        for subject in subjects:
            told.extend(subject.about.get("notes", []))
        found = {}
        for subject in subjects:
            _print_subject(subject)
            found[subject.name] = _test(subject, settings)
    bad = {name: result.failed for name, result in found.items()}
    if out is not None:
        _save(out, structures, model, settings, subjects, found)
    for name, result in found.items():
        if result.hidden:
            print(
                f"{name}: noise hides what these look for: {', '.join(result.hidden)}"
            )
    return _print_verdict(bad, out)


def _check_report(out: Path, *, overwrite: bool) -> None:
    """See to it before the work that the report can be written."""
    if out.suffix.lower() not in REPORTS:
        raise ArgumentError(f"--out is {out}; a report ends in {', '.join(REPORTS)}")
    check_new([out], overwrite=overwrite)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def _split(
    words: Sequence[str], model: ModelOptions
) -> tuple[ModelOptions, list[Path]]:
    """Take the model from the words unless an option tells it."""
    source = click.get_current_context().get_parameter_source("model")
    if model.calculator is None and source == ParameterSource.DEFAULT:
        if not words:
            raise ArgumentError(
                "give the MODEL to check, a name from 'jmp-md models' or a weights "
                "file, or another calculator with --calculator"
            )
        first = Path(words[0])
        if first.is_file() and first.suffix not in (OUR_SUFFIX, *PUBLISHED_SUFFIXES):
            raise ArgumentError(
                f"{first} is no model by its name; give the MODEL first: jmp-md check "
                f"jmp-nano {first}"
            )
        return replace(model, model=words[0]), [Path(word) for word in words[1:]]
    return model, [Path(word) for word in words]


def _subjects(
    structures: Sequence[Structure], model: ModelOptions, *, is_quick: bool
) -> list[Subject]:
    if model.committee or model.d3 is not None:
        raise ArgumentError(
            "check looks into one model and was given a sum or mean; check each model "
            "on its own, without --committee and --d3"
        )
    calculator = build_calculator(model)
    given = {structure.name: structure.atoms for structure in structures}
    if not given:
        given = _built_in(calculator, model, is_quick=is_quick)
    made: dict[str | None, Any] = {}
    subjects = []
    for name, atoms in given.items():
        try:
            subjects.append(_subject(name, atoms, calculator, model, made))
        except UnsupportedSystemError as error:
            subjects.append(
                Subject(
                    name=name,
                    atoms=atoms,
                    calculator=None,
                    about={},
                    refusal=" ".join(str(error).split()),
                )
            )
    return subjects


def _subject(
    name: str,
    atoms: Atoms,
    calculator: Any,
    model: ModelOptions,
    made: dict[str | None, Any],
) -> Subject:
    about = describe(calculator, atoms, model)
    reach_A = None
    if model.calculator is None:
        # an atom that is far away must not change what computes the others: head and
        # tags are those of the structure at the start
        head = about["head"]
        rules = calculator.model.heads[head].graph
        atoms = _tagged(atoms, calculator, head)
        if head not in made:
            made[head] = _with_head(calculator, model, head)
        calculator = made[head]
        reach_A = max(rules.cutoffs.values()) + BEYOND_A
    return Subject(
        name=name, atoms=atoms, calculator=calculator, about=about, reach_A=reach_A
    )


def _with_head(calculator: Any, model: ModelOptions, head: str) -> Any:
    """Return a calculator of the same model that keeps to a head and given tags."""
    from jmp_calc.calculator import JMPCalculator

    has_tags = calculator.model.heads[head].graph.quadruplet_tags is not None
    if model.head == head and not has_tags:
        return calculator
    return JMPCalculator(
        calculator.engine.trained,
        head=head,
        forces=model.forces,
        tags="atoms" if has_tags else model.tags,
        device=model.device,
        dtype=model.dtype,
        compile=model.compile,
        approximate=model.approximate,
        recompute=model.recompute,
    )


def _tagged(atoms: Atoms, calculator: Any, head: str) -> Atoms:
    """Return the structure with the tags that a published head needs."""
    from jmp_calc.calculator.domains import classify, find_bonds
    from jmp_calc.calculator.tags import guess_tags

    rules = calculator.model.heads[head].graph
    if rules.quadruplet_tags is None or calculator.parameters["tags"] != "auto":
        return atoms
    bonds = find_bonds(atoms)
    tagged: Atoms = atoms.copy()
    tagged.set_tags(guess_tags(atoms, bonds, classify(atoms, bonds)))
    return tagged


def _built_in(
    calculator: Any, model: ModelOptions, *, is_quick: bool
) -> dict[str, Atoms]:
    """Return systems for a calculator that is given no file."""
    from jmp_calc.sim.check.systems import FOREIGN, SYSTEMS, BuiltIn, choose_systems

    if model.calculator is not None:
        names = FOREIGN.get(model.calculator)
        if names is None:
            raise ArgumentError(
                f"nobody knows what --calculator {model.calculator} covers; give a "
                "FILE with a structure"
            )
        return {s.name: s.build() for s in SYSTEMS if s.name in names}

    def covers(system: BuiltIn, atoms: Atoms) -> bool:
        try:
            head = calculator.describe(atoms)["head"]
        except UnsupportedSystemError:
            return False
        return bool(calculator.model.heads[head].domain == system.domain)

    found = choose_systems(covers, is_quick=is_quick)
    if not found:
        raise ArgumentError(
            f"{model.model} covers none of the built-in systems "
            f"({', '.join(s.name for s in SYSTEMS)}); give a FILE with a structure"
        )
    return found


def _test(subject: Subject, settings: CheckSettings) -> CheckResult:
    """Do the tests, and print each row as soon as it is known."""
    from jmp_calc.sim.check.check import CheckResult, run_check

    print(f"\n  {'test':12s} {'quantity':21s} {'value':>9s} {'limit':>8s}  verdict")
    if subject.refusal is not None:
        rows = [failed("covered", subject.refusal)]
        _print_rows("elements", rows)
        return CheckResult(measurements={"elements": rows})
    began = time.monotonic()
    is_told = False
    with tqdm(unit="structure", disable=None, leave=False) as bar:

        def show(name: str, n_evaluated: int, expected: int) -> None:
            nonlocal is_told
            bar.total = expected
            bar.set_postfix_str(name, refresh=False)
            bar.update(n_evaluated - bar.n)
            if n_evaluated >= ENOUGH_TO_TELL and not is_told:
                is_told = True
                seconds = (time.monotonic() - began) / n_evaluated * expected
                _print_duration(seconds, expected, is_quick=settings.quick)

        result = run_check(
            subject.atoms,
            settings,
            calculator=subject.calculator,
            reach_A=subject.reach_A,
            progress=show,
            report=_print_rows,
        )
    print()
    return result


def _print_duration(seconds: float, expected: int, *, is_quick: bool) -> None:
    """Tell those who will wait for long; without a terminal there is no bar."""
    if seconds < LONG_SECONDS:
        return
    less = "" if is_quick else "--quick, "
    with tqdm.external_write_mode():
        print(
            f"  (about {seconds / 60:.0f} min for {expected} evaluations; {less}--only "
            "and smaller structures take less)",
            flush=True,
        )


def _print_subject(subject: Subject) -> None:
    atoms = subject.atoms
    print_facts(
        {
            "system": f"{subject.name}: {atoms.get_chemical_formula()}, "
            f"{len(atoms)} atoms",
            "model": describe_model(subject.about) if subject.about else None,
            "forces": describe_forces(subject.about) if subject.about else None,
            "cap": subject.about.get("neighbor_cap"),
        }
    )
    for note in subject.about.get("notes", []):
        print_facts({"note": note})


def _print_rows(test: str, found: Sequence[Measurement]) -> None:
    # a bar of progress moves out of the way
    with tqdm.external_write_mode():
        for number, m in enumerate(found):
            value = "" if m.value is None else f"{m.value:.2g}"
            limit = "" if m.limit is None else f"{m.limit:.1g}"
            print(
                f"  {test if number == 0 else '':12s} {m.quantity:21s} {value:>9s} "
                f"{limit:>8s}  {m.status}{_remark(m)}",
                flush=True,
            )


def _remark(m: Measurement) -> str:
    """Return unit and note; the note of what passes would only distract."""
    note = m.note if m.status != "pass" or m.value is None else ""
    text = "; ".join(part for part in (m.unit, note) if part)
    return f"  ({text})" if text else ""


def _print_verdict(bad: dict[str, list[str]], out: Path | None) -> int:
    names = {name: tests for name, tests in bad.items() if tests}
    for name, tests in names.items():
        print(f"{name}: NOT safe: {', '.join(tests)} failed")
    if not names:
        print(f"all tests pass ({', '.join(bad)})")
    if out is not None:
        print_facts({"report": out})
    return EXIT_NOT_CONVERGED if names else EXIT_DONE


def _save(
    out: Path,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: CheckSettings,
    subjects: Sequence[Subject],
    found: dict[str, CheckResult],
) -> None:
    """Write the report."""
    bad = {name: result.failed for name, result in found.items()}
    report = {
        "status": "fail" if any(bad.values()) else "pass",
        "inputs": describe_inputs(structures),
        "settings": {**asdict(settings), "model": asdict(model)},
        "versions": versions(),
        "systems": [
            {
                "name": subject.name,
                "formula": subject.atoms.get_chemical_formula(),
                "n_atoms": len(subject.atoms),
                "model": subject.about,
                "failed": bad[subject.name],
                "tests": found[subject.name].table(),
            }
            for subject in subjects
        ],
    }
    if out.suffix.lower() == ".json":
        save_text(out, json.dumps(report, indent=2, default=_plain) + "\n")
    else:
        save_summary(report, out)


def _plain(value: Any) -> Any:
    convert: Callable[[], Any] | None = getattr(value, "tolist", None)
    return str(value) if convert is None else convert()
