"""``jmp-md scan``: energy along a bond, an angle or a dihedral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from jmp_calc.cli.each import ProgressBar, exit_code, picture_of, run_each
from jmp_calc.cli.job import (
    Job,
    describe_model,
    describe_structure,
    print_facts,
)
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    OutputOptions,
    ResumableOptions,
    settings_options,
)
from jmp_calc.cli.structures import Structure, structures_argument
from jmp_calc.sim.scan.settings import ScanSettings, scan_files
from jmp_calc.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from jmp_calc.sim.scan.calculation import ScanResult

ROWS_SHOWN = 60
"""Points on the screen; the table has all."""


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model")
@settings_options(ScanSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
def scan(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: ScanSettings,
    output: OutputOptions,
) -> int:
    """Energy of the molecules in INPUT... along a bond, an angle or a dihedral.

    INPUT is any file that ASE reads. The half of the molecule beyond the bond moves as
    one; with --relax all else is relaxed at each value. Every point starts from the
    input, so that the direction does not matter. Writes for each a CSV table (Å or
    degrees, eV), the structures as extended XYZ, and a YAML summary. Dihedrals have the
    sign of IUPAC: clockwise is positive, seen from the first atom.

    Exit codes: 0 done, 1 bug, 2 usage or input, 3 a point could not be computed or did
    not converge (files are written), 130 interrupted.

    Example: jmp-md scan butane.xyz --atoms 0,1,2,3 --points 37 --relax --plot
    """
    return run_each(
        structures,
        model,
        output,
        topic="scan",
        files=lambda folder, structure: scan_files(folder, structure.name).values(),
        work=lambda structure, job: _one(structure, settings, output, job),
    )


def _one(
    structure: Structure, settings: ScanSettings, output: OutputOptions, job: Job
) -> int:
    # scipy's graphs take a while to import, which --help must not wait for
    from jmp_calc.sim.scan.calculation import run_scan
    from jmp_calc.sim.scan.picture import plot_scan

    print_facts({"structure": describe_structure(structure)})
    with ProgressBar("point") as bar:
        result = run_scan(
            structure.atoms,
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=lambda done, rounds: bar.show(
                done,
                settings.points,
                f"round {rounds} of the relaxation" if settings.relax else "",
            ),
        )
    picture = picture_of(job.folder, structure, "scan", output)
    if picture is not None:
        title = f"{structure.name}: {describe_model(job.about)}"
        plot_scan(result, picture, title=title)
    _print_result(structure, result)
    print_facts({**result.files, "picture": picture})
    return exit_code(structure, result)


def _print_result(structure: Structure, result: ScanResult) -> None:
    settings, unit = result.settings, result.settings.unit
    names = "-".join(f"{structure.atoms.symbols[i]}{i}" for i in settings.indices)
    print_facts(
        {
            "scan": f"{settings.kind} {names}, now {result.present:.4g} {unit}",
            "moved": f"atoms {_listed(result.moved)}",
        }
    )
    title = f"{settings.kind} ({unit})"
    print(f"\n  {title:>18s}  energy (eV)   kcal/mol")
    rows = zip(
        result.values, result.relative_eV, result.is_point_converged, strict=True
    )
    for value, energy, is_done in list(rows)[:ROWS_SHOWN]:
        if math.isnan(energy):
            print(f"  {value:18.3f}  {'not computed':>11s}")
            continue
        mark = "" if is_done else "  not converged"
        print(f"  {value:18.3f}  {energy:11.5f}  {energy / KCAL_PER_MOL:9.3f}{mark}")
    if len(result.values) > ROWS_SHOWN:
        print(f"  ... and {len(result.values) - ROWS_SHOWN} more, see the table")
    lowest, highest = result.values[result.lowest], result.values[result.highest]
    print()
    print_facts(
        {
            "lowest": f"{result.energies_eV[result.lowest]:.6f} eV at {lowest:.4g} "
            f"{unit}",
            "highest": f"{result.relative_eV[result.highest]:.5f} eV above it at "
            f"{highest:.4g} {unit}",
        }
    )


def _listed(atoms: Sequence[int]) -> str:
    shown = ", ".join(str(atom) for atom in atoms[:12])
    return shown + (", ..." if len(atoms) > 12 else "")
