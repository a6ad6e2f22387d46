"""``jmp-md elastic``: elastic constants and moduli of crystals."""

from __future__ import annotations

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
from jmp_calc.sim.elastic.moduli import VOIGT_AXES
from jmp_calc.sim.elastic.settings import ElasticSettings, elastic_files

if TYPE_CHECKING:
    from jmp_calc.sim.elastic.constants import ElasticResult


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model", defaults={"dtype": "float64"})
@settings_options(ElasticSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
@click.option(
    "--allow-direct-forces",
    is_flag=True,
    help="Go on although the forces are not the gradient of the energy.",
)
@click.option(
    "--allow-neighbor-cap",
    is_flag=True,
    help="Go on although published graph rules cut neighbours off.",
)
def elastic(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: ElasticSettings,
    output: OutputOptions,
    allow_direct_forces: bool,
    allow_neighbor_cap: bool,
) -> int:
    """Elastic constants of the crystals in INPUT..., from stresses under strains.

    INPUT is any file that ASE reads. Writes for each the constants (CSV, GPa; Voigt
    order xx yy zz yz xz xy), the stresses under each strain (CSV, GPa) and a YAML
    summary with moduli and stability. Directions are those of the cell in the file:
    use a conventional cell along x, y, z.

    Exit codes: 0 done, 1 bug, 2 usage or input, 3 a relaxation did not converge,
    130 interrupted.

    Example: jmp-md elastic crystal.cif --relax cell --plot
    """

    def work(structure: Structure, job: Job) -> int:
        job.require_conservative("elastic", is_allowed=allow_direct_forces)
        job.require_uncapped("elastic", structure.atoms, is_allowed=allow_neighbor_cap)
        return _one(structure, settings, output, job)

    return run_each(
        structures,
        model,
        output,
        topic="elastic",
        files=lambda folder, structure: elastic_files(folder, structure.name).values(),
        work=work,
    )


def _one(
    structure: Structure, settings: ElasticSettings, output: OutputOptions, job: Job
) -> int:
    # the optimizers of ASE bring scipy along, which --help must not wait for
    from jmp_calc.sim.elastic.constants import run_elastic
    from jmp_calc.sim.elastic.picture import plot_elastic

    print_facts({"structure": describe_structure(structure)})
    with ProgressBar("strain") as bar:
        result = run_elastic(
            structure.atoms,
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=lambda done, rounds: bar.show(
                done, 6 * settings.points, f"round {rounds} of the relaxation"
            ),
        )
    picture = picture_of(job.folder, structure, "elastic", output)
    if picture is not None:
        title = f"{structure.name}: {describe_model(job.about)}"
        plot_elastic(result, picture, title=title)
    _print_result(result)
    print_facts({**result.files, "picture": picture})
    return exit_code(structure, result, result.notes)


def _print_result(result: ElasticResult) -> None:
    moduli = result.moduli
    print("\n  elastic constants (GPa)")
    print("  " + " " * 4 + "".join(f"{axes:>9s}" for axes in VOIGT_AXES))
    for axes, row in zip(VOIGT_AXES, result.constants_GPa, strict=True):
        # what the symmetry makes zero would be printed as -0.00
        print(f"  {axes:4s}" + "".join(f"{value + 0.0:9.2f}" for value in row.round(2)))
    print()
    print_facts(
        {
            "symmetry": result.space_group or "not used",
            "averaging": f"changed constants by up to {result.asymmetry_GPa:.2g} GPa",
            "stability": "stable" if moduli.is_stable else "NOT stable",
            "bulk": _averages(
                moduli.bulk_voigt_GPa, moduli.bulk_reuss_GPa, moduli.bulk_hill_GPa
            ),
            "shear": _averages(
                moduli.shear_voigt_GPa, moduli.shear_reuss_GPa, moduli.shear_hill_GPa
            ),
            "Young": None
            if moduli.young_GPa is None
            else f"{moduli.young_GPa:.2f} GPa (from the Hill averages)",
            "Poisson": None if moduli.poisson is None else f"{moduli.poisson:.4f}",
            "anisotropy": None
            if moduli.anisotropy is None
            else f"{moduli.anisotropy:.3f} (universal; 0 is isotropic)",
        }
    )


def _averages(voigt: float, reuss: float | None, hill: float | None) -> str:
    if reuss is None or hill is None:
        return f"{voigt:.2f} GPa (Voigt)"
    return f"{hill:.2f} GPa (Hill; Voigt {voigt:.2f}, Reuss {reuss:.2f})"
