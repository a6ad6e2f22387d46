"""``jmp-train data sample`` and ``data label``: data of one's own."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from jmp_calc.cli import CONTEXT
from jmp_calc.cli.options import field_help
from jmp_train.data.sampling_settings import KINDS, SamplingSettings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_HELP = field_help(SamplingSettings)
_DEFAULT = SamplingSettings()
_FILE = click.Path(dir_okay=False, path_type=Path)


def _option(name: str, **settings: Any) -> Decorator:
    """Return an option with name, help and default of a field of the settings."""
    return click.option(
        "--" + name.replace("_", "-"),
        name,
        default=getattr(_DEFAULT, name),
        show_default=True,
        help=_HELP[name],
        **settings,
    )


def _calculator_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose a calculator."""
    command = click.option(
        "--option",
        "options",
        multiple=True,
        metavar="KEY=VALUE",
        help="Keyword of the calculator, such as method=GFN1-xTB; may be repeated.",
    )(command)
    return click.option(
        "--calculator",
        help="tblite, emt, module:function that returns an ASE calculator, or weights "
        "(such as jmp-nano).",
    )(command)


def _read(path: Path) -> list[Any]:
    from jmp_train.data.layouts.ase_files import read_frames

    return list(read_frames(path))


def check_extended_xyz(out: Path, source: Path) -> None:
    """Check that geometries can be written to a file.

    Args:
        out: The file.
        source: What is read, which must be another one.

    Raises:
        ArgumentError: If it is no extended XYZ, or the file that is read.
    """
    from jmp_calc.errors import ArgumentError

    if out.suffix not in (".xyz", ".extxyz"):
        raise ArgumentError(
            f"--out is {out}; give a name that ends in .xyz or .extxyz (extended XYZ)"
        )
    if out.exists() and source.exists() and out.samefile(source):
        raise ArgumentError(
            f"--out is {out}, the file that is read; choose another --out"
        )


def _keywords(words: tuple[str, ...]) -> dict[str, Any]:
    from jmp_calc.errors import ArgumentError

    found = {}
    for word in words:
        key, separator, text = word.partition("=")
        if not separator or not key.isidentifier():
            raise ArgumentError(
                f"--option is {word!r}; write KEY=VALUE, such as method=GFN1-xTB"
            )
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    return found


@click.command(context_settings=CONTEXT)
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="Extended XYZ file to write.")
@_option("kind", type=click.Choice(list(KINDS)))
@_option("n", type=click.IntRange(1))
@_option("seed", type=click.IntRange(0))
@_option("amplitude", type=float)
@_option("temperature_K", type=float, multiple=True)
@_option("timestep_fs", type=float)
@_option("spacing_fs", type=float)
@_option("strain", type=float)
@_option("min_distance", type=float)
@_option("force_tolerance", type=float)
@_option("steps", type=click.IntRange(1))
@_option("molecules", type=click.IntRange(2))
@_option("max_atoms", type=click.IntRange(2))
@_option("contact", type=float, nargs=2)
@_option("same", is_flag=True)
@_calculator_options
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Structures of FILE that are worked on at the same time; the geometries do "
    "not depend on it.",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def sample(
    *,
    file: Path,
    out: Path,
    calculator: str | None,
    options: tuple[str, ...],
    processes: int,
    overwrite: bool,
    **settings: Any,
) -> int:
    """Make new geometries from the structures in FILE.

    perturb moves every atom at random, md runs dynamics with --calculator, stretch
    scales a bond (with all that hangs on it) by 0.7 to 1.8, strain deforms the cell,
    relax and vibrate give the minimum and thermal displacements from it, torsion turns
    about single bonds, complex puts molecules of FILE beside each other, path breaks
    and makes bonds and gives images from the molecule to the product.

    What is made of a structure depends on its number and the seed only (complex: on the
    others as well). Structures that give too few are listed with the reason; the exit
    code is then 3.

    Example: jmp-train data sample molecules.xyz --kind stretch --n 20 --out new.xyz
    """
    from jmp_calc.calculator.named import CalculatorChoice
    from jmp_calc.cli import EXIT_DONE, EXIT_NOT_CONVERGED
    from jmp_calc.errors import DataError
    from jmp_calc.files import replacing
    from jmp_calc.sim.output import check_new, extxyz_text, writing
    from jmp_train.data.sampling import sample_geometries

    check_extended_xyz(out, file)
    check_new([out], overwrite=overwrite)
    chosen = SamplingSettings(**settings)
    choice = None
    if calculator is not None:
        choice = CalculatorChoice(name=calculator, options=_keywords(options))
    structures = _read(file)
    failed: list[str] = []
    n_made = 0
    bar = tqdm(
        sample_geometries(
            structures,
            chosen,
            calculator=choice,
            processes=processes,
            on_failure=lambda number, why: failed.append(f"structure {number}: {why}"),
        ),
        total=len(structures) * chosen.n,
        unit="geometry",
        disable=None,
    )
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as new, new.open("w", encoding="utf-8") as stream:
            for atoms in bar:
                stream.write(extxyz_text(atoms))
                n_made += 1
            if not n_made:
                raise DataError(f"no geometries were made; {failed[0]}")
    click.echo(
        f"{n_made} geometries ({chosen.kind}) of {len(structures)} structures in {out}"
    )
    for line in failed:
        click.echo(f"  {line}", err=True)
    return EXIT_NOT_CONVERGED if failed else EXIT_DONE


@click.command(context_settings=CONTEXT)
@click.argument("file", type=_FILE)
@click.option(
    "--out",
    type=_FILE,
    required=True,
    help="Extended XYZ file with REF_energy in eV, REF_forces in eV/Å and, for "
    "crystals, REF_stress in eV/Å³.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Structures that are labelled at the same time.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which a structure counts as failed; default: no limit.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Try those that failed before again."
)
@_calculator_options
def label(
    *,
    file: Path,
    out: Path,
    processes: int,
    timeout_s: float | None,
    retry_failed: bool,
    calculator: str | None,
    options: tuple[str, ...],
) -> int:
    """Label the structures in FILE with an ASE calculator.

    Each result is kept at once, so the same command goes on after an interruption. What
    failed is listed with its reason in OUT.failed.json; the exit code is then 3.

    Example: jmp-train data label new.xyz --calculator tblite --processes 2 --out
    labelled.xyz
    """
    from jmp_calc.cli import EXIT_DONE, EXIT_NOT_CONVERGED
    from jmp_calc.errors import ArgumentError
    from jmp_train.data.labelling import CalculatorChoice, label_structures

    if calculator is None:
        raise ArgumentError("say what labels the structures: --calculator tblite")
    check_extended_xyz(out, file)
    structures = _read(file)
    with tqdm(total=len(structures), unit="structure", disable=None) as bar:
        is_first = True

        def show(n_labelled: int, n_failed: int, total: int) -> None:
            nonlocal is_first
            if is_first:
                # what was known before says nothing about the time left
                bar.total, bar.initial, bar.n = total, *[n_labelled + n_failed] * 2
                is_first = False
            bar.set_postfix_str(f"{n_failed} failed", refresh=False)
            bar.update(n_labelled + n_failed - bar.n)

        report = label_structures(
            structures,
            CalculatorChoice(name=calculator, options=_keywords(options)),
            out,
            processes=processes,
            timeout_s=timeout_s,
            retry_failed=retry_failed,
            progress=show,
        )
    click.echo(
        f"{report.n_labelled} labelled ({report.n_known} known before), "
        f"{len(report.failed)} failed; {out}"
    )
    for number, reason in report.failed[:5]:
        click.echo(f"  structure {number}: {reason}", err=True)
    if report.failed:
        click.echo(f"  all failures: {out}.failed.json", err=True)
        return EXIT_NOT_CONVERGED
    return EXIT_DONE
