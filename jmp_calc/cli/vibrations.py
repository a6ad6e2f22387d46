"""``jmp-md vibrations``: modes and thermochemistry of molecules and adsorbates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
from jmp_calc.sim.vibrations.settings import VibrationsSettings, vibrations_files
from jmp_calc.units import PER_CM

if TYPE_CHECKING:
    from jmp_calc.sim.vibrations.calculation import VibrationsResult

ROWS_SHOWN = 60
"""Vibrations on the screen; the table has all."""


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model", defaults={"dtype": "float64"})
@settings_options(VibrationsSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
def vibrations(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: VibrationsSettings,
    output: OutputOptions,
) -> int:
    """Vibrations and thermochemistry of the molecules in INPUT...

    INPUT is any file that ASE reads. Fixed atoms do not vibrate: fix the slab below an
    adsorbate. Writes for each a CSV table (cm^-1, imaginary ones negative; meV), the
    Hessian and modes as JSON of ASE (VibrationsData), the structure, and a YAML summary
    with the thermochemistry (eV).

    Exit codes: 0 done, 1 bug, 2 usage or input, 3 the relaxation did not converge,
    130 interrupted.

    Example: jmp-md vibrations water.xyz --relax --plot
    """

    def work(structure: Structure, job: Job) -> int:
        if not job.about["is_conservative"]:
            print_facts(
                {
                    "note": "direct forces are not the gradient of an energy, and "
                    "frequencies from them may be wrong; --forces gradient is safer"
                }
            )
        return _one(structure, settings, output, job)

    return run_each(
        structures,
        model,
        output,
        topic="vibrations",
        files=lambda folder, structure: vibrations_files(
            folder, structure.name, structure.atoms
        ).values(),
        work=work,
    )


def _one(
    structure: Structure, settings: VibrationsSettings, output: OutputOptions, job: Job
) -> int:
    # ase.vibrations brings matplotlib along, which --help must not wait for
    from jmp_calc.sim.vibrations.calculation import run_vibrations
    from jmp_calc.sim.vibrations.picture import plot_vibrations

    print_facts({"structure": describe_structure(structure)})
    with ProgressBar("displacement") as bar:
        result = run_vibrations(
            structure.atoms,
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=bar.show,
        )
    picture = picture_of(job.folder, structure, "vibrations", output)
    if picture is not None:
        plot_vibrations(
            result,
            picture,
            broadening_per_cm=settings.broadening_per_cm,
            title=f"{structure.name}: {describe_model(job.about)}",
        )
    _print_modes(result)
    _print_thermochemistry(result)
    _print_files(result, picture)
    return exit_code(structure, result, result.notes)


def _print_modes(result: VibrationsResult) -> None:
    waves = result.modes.frequencies_per_cm
    numbers = [n for n in range(len(waves)) if not result.modes.is_rigid[n]]
    print("\n  mode    cm^-1        meV")
    for number in numbers[:ROWS_SHOWN]:
        wave = waves[number]
        energy = wave * 1e3 * PER_CM
        mark = "i" if wave < 0 else " "
        print(f"  {number + 1:4d} {abs(wave):8.1f}{mark} {abs(energy):9.2f}{mark}")
    if len(numbers) > ROWS_SHOWN:
        print(f"  ... and {len(numbers) - ROWS_SHOWN} more, see the table")
    print()


def _print_thermochemistry(result: VibrationsResult) -> None:
    rigid = abs(result.modes.rigid_per_cm)
    lines: dict[str, object] = {
        "max. force": f"{result.max_force_eV_per_A:.3g} eV/Å",
        "whole body": f"{len(rigid)} modes taken out (up to {rigid.max():.2g} cm^-1)"
        if rigid.size
        else None,
        "E": f"{result.energy_eV:.6f} eV",
    }
    thermo = result.thermochemistry
    if thermo is not None:
        is_gas = thermo.enthalpy_eV is not None
        conditions = f"at {thermo.temperature_K:g} K"
        if is_gas:
            conditions += f" and {thermo.pressure_Pa:g} Pa"
        shape = ""
        if is_gas:
            shape = (
                f", {thermo.geometry}, symmetry number {thermo.symmetry_number}, spin "
                f"{thermo.spin:g}"
            )
        lines |= {
            "thermo": f"{thermo.model}{shape}, {conditions}",
            "zero point": f"{thermo.zero_point_energy_eV:.6f} eV",
            "U": f"{thermo.internal_energy_eV:.6f} eV",
            "H": f"{thermo.enthalpy_eV:.6f} eV" if is_gas else None,
            "S": f"{1e3 * thermo.entropy_eV_per_K:.6f} meV/K",
            "G" if is_gas else "F": f"{thermo.free_energy_eV:.6f} eV",
        }
    print_facts(lines)


def _print_files(result: VibrationsResult, picture: Path | None) -> None:
    files = dict(result.files)
    modes = [files.pop(name) for name in list(files) if name.startswith("mode_")]
    first_and_last = f"{modes[0]} to {modes[-1].name}" if modes else None
    print_facts({**files, "modes": first_and_last, "picture": picture})
