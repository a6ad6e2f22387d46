"""``jmp-md phonons``: bands, density of states and thermal properties of crystals."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jmp_calc.cli import EXIT_UNSTABLE
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.each import exit_code, run_each
from jmp_calc.cli.job import (
    Allowed,
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
from jmp_calc.errors import ArgumentError
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.phonons.settings import ConvergenceSettings, PhononSettings

if TYPE_CHECKING:
    # phonopy is imported when the command runs, not for its help
    from jmp_calc.sim.phonons.calculation import PhononResult
    from jmp_calc.sim.phonons.convergence import ConvergenceRow


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@click.option(
    "--allow-direct-forces",
    is_flag=True,
    help="Compute with direct forces, which are not the gradient of an energy.",
)
@click.option(
    "--allow-neighbor-cap",
    is_flag=True,
    help="Go on although published graph rules cut neighbours off.",
)
@click.option(
    "--fail-if-imaginary",
    is_flag=True,
    help="Exit with 4 if there are imaginary modes; files are written all the same.",
)
@settings_options(ModelOptions, "model", defaults={"dtype": "float64"})
@settings_options(PhononSettings, "settings")
@settings_options(ConvergenceSettings, "limits")
@settings_options(CampaignOptions, "campaign")
def phonons(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: PhononSettings,
    limits: ConvergenceSettings,
    output: OutputOptions,
    allow_direct_forces: bool,
    allow_neighbor_cap: bool,
    fail_if_imaginary: bool,
    campaign: CampaignOptions,
) -> int:
    """Compute phonons of the crystals in INPUT... by finite displacements (phonopy).

    INPUT is any file that ASE reads; it should be relaxed with the same model. Writes
    for each crystal frequencies along the standard path, densities of states and
    thermal properties as CSV (THz, kJ/mol and J/K/mol per mole of primitive cells), a
    YAML summary, and a folder in which phonopy itself can go on (phonopy_params.yaml,
    FORCE_SETS, FORCE_CONSTANTS, band.yaml, ...). Imaginary modes are negative
    frequencies; if the mesh has any there are no thermal properties.

    A crystal that cannot be computed does not stop the others. Exit codes: 0 done, 1
    bug, 2 usage or input, 3 not converged (--converge), 4 imaginary modes
    (--fail-if-imaginary), 130 interrupted.

    Example: jmp-md phonons si.cif --relax both --supercell "3 3 3" --plot
    """
    if importlib.util.find_spec("phonopy") is None:
        raise ArgumentError(
            "phonons need phonopy, which is not installed; "
            "run: pip install 'jmp-calc[phonons]'"
        )
    allowed = Allowed(
        direct_forces=allow_direct_forces, neighbor_cap=allow_neighbor_cap
    )
    if campaign.is_asked:
        from jmp_calc.cli.campaigns.campaign import Campaign
        from jmp_calc.cli.campaigns.works import PhononWork

        if output.plot:
            require_matplotlib()
        return Campaign(
            verb="phonons",
            structures=structures,
            model=model,
            output=output,
            options=campaign,
            settings=[settings, limits],
            work=PhononWork(
                # workers have other working folders
                settings=replace(
                    settings, born=settings.born and settings.born.absolute()
                ),
                limits=limits,
                allowed=allowed,
                output=output,
                fail_if_imaginary=fail_if_imaginary,
            ),
        ).run()

    def work(structure: Structure, job: Job) -> int:
        allowed.check(job, "phonons", structure.atoms)
        _print_start(structure, settings)
        result = _compute(structure, settings, limits, job)
        pictures = draw(result, settings, structure, output, job)
        _print_end(result, pictures)
        imaginary = result.analysis.imaginary
        notes = [*result.notes, *([imaginary.text] if imaginary is not None else [])]
        code = exit_code(structure, result, notes)
        is_failure = fail_if_imaginary and imaginary is not None
        return EXIT_UNSTABLE if is_failure else code

    def files(folder: Path, structure: Structure) -> list[Path]:
        from jmp_calc.sim.phonons.files import PhononFiles

        found = PhononFiles.under(folder, structure.name).all()
        return [*found, *_pictures(folder, structure.name, output)]

    return run_each(structures, model, output, topic="phonons", files=files, work=work)


class _Bars:
    """Progress of one stage after the other."""

    def __init__(self) -> None:
        self._stage: tuple[str, int] | None = None
        self._bar: Any = None

    def show(self, what: str, done: int, total: int) -> None:
        """Show how far a stage is; a new one gets a new bar."""
        if self._stage != (what, total):
            self.close()
            self._stage = (what, total)
            self._bar = tqdm(total=total, desc=what, disable=None, leave=False)
        self._bar.update(max(done - self._bar.n, 0))
        if done == total:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._stage, self._bar = None, None


def _compute(
    structure: Structure,
    settings: PhononSettings,
    limits: ConvergenceSettings,
    job: Job,
) -> PhononResult:
    from jmp_calc.sim.phonons.calculation import run_phonons

    with contextlib.closing(_Bars()) as bars:
        return run_phonons(
            structure.atoms,
            settings,
            calculator=job.calculator,
            out=job.folder,
            stem=structure.name,
            limits=limits,
            overwrite=job.overwrite,
            provenance=job.provenance,
            progress=bars.show,
        )


def _pictures(folder: Path, name: str, output: OutputOptions) -> list[Path]:
    kinds = ("bands", "thermal") if output.plot else ()
    return [folder / f"{name}-{kind}.{output.picture_format}" for kind in kinds]


def draw(
    result: PhononResult,
    settings: PhononSettings,
    structure: Structure,
    output: OutputOptions,
    job: Job,
) -> list[Path]:
    """Draw bands and thermal properties if that was asked for.

    Args:
        result: What was computed.
        settings: With what.
        structure: Of which crystal.
        output: Whether to draw, and in which format.
        job: The call.

    Returns:
        The pictures.
    """
    if not output.plot:
        return []
    bands, thermal = _pictures(job.folder, structure.name, output)
    from jmp_calc.sim.phonons.picture import plot_bands, plot_thermal

    title = f"{structure.name}: {describe_model(job.about)}"
    tolerance = settings.imaginary_tolerance_THz
    plot_bands(result.analysis, bands, title=title, tolerance_THz=tolerance)
    if result.analysis.thermal is None:
        thermal.unlink(missing_ok=True)
        return [bands]
    n_atoms = len(result.phonon.primitive)
    plot_thermal(result.analysis.thermal, thermal, title=title, n_atoms=n_atoms)
    return [bands, thermal]


def _print_start(structure: Structure, settings: PhononSettings) -> None:
    print_facts(
        {
            "structure": describe_structure(structure),
            "displace": f"by {settings.displacement_A:g} Å",
            "note": "constraints of the file do not matter for phonons"
            if structure.atoms.constraints
            else None,
        }
    )


def _print_end(result: PhononResult, pictures: Sequence[Path]) -> None:
    from jmp_calc.sim.phonons.calculation import summary_of
    from jmp_calc.sim.phonons.crystal import shape_text

    summary, files = summary_of(result), result.files
    analysis = result.analysis
    # a rounding error is not to look like an imaginary mode: -0.00
    gamma = ", ".join(
        f"{round(x, 2) + 0.0:.2f}" for x in analysis.gamma_THz[:12].tolist()
    )
    more = ", ..." if len(analysis.gamma_THz) > 12 else ""
    plain = " (without correction)" if summary["has_nonanalytic_correction"] else ""
    _print_convergence(result.convergence)
    print_facts(
        {
            "crystal": f"{summary['space_group']}, "
            f"{summary['atoms_in_primitive_cell']} atoms in the primitive cell",
            "supercell": f"{shape_text(result.supercell)}, "
            f"{summary['atoms_in_supercell']} atoms, "
            f"{summary['displaced_supercells']} displacements "
            f"({result.wall_seconds:.1f} s)",
            "residual": _residual_text(result),
            "correction": "non-analytic, from Born charges"
            if summary["has_nonanalytic_correction"]
            else None,
            "bands": f"up to {summary['highest_frequency_THz']:.2f} THz; at Γ{plain} "
            f"{gamma}{more} THz",
            "mesh": " x ".join(map(str, analysis.mesh)),
            "thermal": _thermal_text(summary["thermal"]),
            "path": f"{files.bands} ({summary['band_path']})",
            "states": files.dos,
            "properties": files.thermal if analysis.thermal is not None else None,
            "phonopy": files.phonopy,
            "summary": files.summary,
            "pictures": ", ".join(map(str, pictures)) or None,
        }
    )


def _residual_text(result: PhononResult) -> str:
    residual = result.residual
    text = f"force {residual.max_force_eV_per_A:.2g} eV/Å"
    if residual.max_stress_GPa is not None:
        text += f", stress {residual.max_stress_GPa:.2g} GPa"
    return text


def _thermal_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return "none, because of imaginary modes"
    return (
        f"at {found['temperature_K']:g} K heat capacity "
        f"{found['heat_capacity_kB_per_atom']:.3f} kB, entropy "
        f"{found['entropy_kB_per_atom']:.3f} kB, free energy "
        f"{found['free_energy_meV_per_atom']:.1f} meV; zero-point energy "
        f"{found['zero_point_energy_meV_per_atom']:.1f} meV (per atom)"
    )


def _print_convergence(rows: Sequence[ConvergenceRow]) -> None:
    if not rows:
        return
    print(
        f"\n  {'':9s}  {'size':>13s} {'atoms or':>9s} {'bands change':>13s}"
        f" {'free energy':>12s} {'change':>8s}  converged"
        f"\n  {'':9s}  {'':>13s} {'q-points':>9s} {'THz':>13s}"
        f" {'meV/atom':>12s} {'':>8s}"
    )
    for row in rows:
        shift, change = row.frequency_change_THz, row.free_energy_change_meV
        print(
            f"  {row.kind:9s}  {row.size:>13s} {row.n_points:9d}"
            f" {'' if shift is None else f'{shift:.3f}':>13s}"
            f" {row.free_energy_meV:12.3f}"
            f" {'' if change is None else f'{change:+.3f}':>8s}"
            f"  {'yes' if row.is_converged else 'no'}"
        )
    print()
