"""``jmp-md eos``: equation of state and bulk modulus of crystals."""

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
from jmp_calc.sim.eos.settings import EosSettings, eos_files

if TYPE_CHECKING:
    from jmp_calc.sim.eos.calculation import EosResult


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model")
@settings_options(EosSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
def eos(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: EosSettings,
    output: OutputOptions,
) -> int:
    """Equation of state of the crystals in INPUT...: volume, energy, bulk modulus.

    INPUT is any file that ASE reads, best relaxed before (jmp-md relax --move both).
    Computes it at several volumes and fits an equation of state to the energies.
    Writes for each a CSV table (Å^3, eV), the structures as extended XYZ, and a YAML
    summary (bulk modulus in GPa).

    Exit codes: 0 done, 1 bug, 2 usage or input, 3 not converged (a relaxation, or the
    minimum is outside of the volumes), 130 interrupted.

    Example: jmp-md eos crystal.cif --range-percent 8 --points 15 --plot
    """
    return run_each(
        structures,
        model,
        output,
        topic="eos",
        files=lambda folder, structure: eos_files(folder, structure.name).values(),
        work=lambda structure, job: _one(structure, settings, output, job),
    )


def _one(
    structure: Structure, settings: EosSettings, output: OutputOptions, job: Job
) -> int:
    # they bring scipy along, which --help must not wait for
    from jmp_calc.sim.eos.calculation import run_eos
    from jmp_calc.sim.eos.picture import plot_eos

    print_facts({"structure": describe_structure(structure)})
    with ProgressBar("volume") as bar:
        result = run_eos(
            structure.atoms,
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=lambda done, rounds: bar.show(
                done, settings.points, f"round {rounds} of the relaxation"
            ),
        )
    picture = picture_of(job.folder, structure, "eos", output)
    if picture is not None:
        title = f"{structure.name}: {describe_model(job.about)}"
        plot_eos(result, picture, title=title)
    _print_result(result, picture)
    return exit_code(structure, result, result.notes)


def _print_result(result: EosResult, picture: Path | None) -> None:
    fit, n_atoms = result.fit, result.n_atoms
    if fit is not None:
        print_facts(
            {
                "equation": fit.equation,
                "V0": f"{fit.volume_A3:.4f} Å^3 ({fit.volume_A3 / n_atoms:.4f} per "
                "atom)",
                "E0": f"{fit.energy_eV:.6f} eV ({fit.energy_eV / n_atoms:.6f} per "
                "atom)",
                "B0": f"{fit.bulk_modulus_GPa:.2f} GPa",
                "B0'": f"{fit.bulk_modulus_derivative:.2f}",
                "fit error": f"{fit.rms_meV_per_atom:.3g} meV/atom (root mean square)",
            }
        )
    print_facts({**result.files, "picture": picture})
