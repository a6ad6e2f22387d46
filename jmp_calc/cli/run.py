"""``jmp-md run``: molecular dynamics from structure files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from tqdm import tqdm

from jmp_calc.cli import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    EXIT_UNSTABLE,
)
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.job import (
    Allowed,
    Job,
    describe_model,
    open_job,
)
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    OutputOptions,
    settings_options,
)
from jmp_calc.cli.resume import computes_of
from jmp_calc.cli.run_report import print_end, print_start
from jmp_calc.cli.structures import Structure, structures_argument
from jmp_calc.errors import ArgumentError
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.dynamics.checkpoint import Checkpoint, load_checkpoint
from jmp_calc.sim.dynamics.ensembles import ENSEMBLES, find_ensemble
from jmp_calc.sim.dynamics.files import MDFiles, is_running
from jmp_calc.sim.dynamics.observables import Observables
from jmp_calc.sim.dynamics.picture import plot_md
from jmp_calc.sim.dynamics.settings import (
    TRAJECTORY_FORMATS,
    MDSettings,
    RecordSettings,
    WatchSettings,
    seed_of_input,
)

if TYPE_CHECKING:
    from jmp_calc.sim.dynamics.md import MDResult

EXIT_OF_STATUS = {
    "completed": EXIT_DONE,
    "stopped": EXIT_NOT_CONVERGED,
    "interrupted": EXIT_INTERRUPTED,
    "unstable": EXIT_UNSTABLE,
}
"""Exit code by the status of a run."""

S = TypeVar("S", MDSettings, RecordSettings, WatchSettings)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the command line asks for."""

    settings: MDSettings
    """Physics."""
    record: RecordSettings
    """What to write, and how often."""
    watch: WatchSettings
    """When to stop early."""
    names: tuple[str, ...]
    """Names of all inputs, in order."""

    def for_input(self, structure: Structure) -> Asked:
        """Return the same with the seed of one input.

        Args:
            structure: One of the input.
        """
        seed = seed_of_input(self.settings.seed, self.names.index(structure.name))
        return replace(self, settings=replace(self.settings, seed=seed))

    def files(self, folder: Path, structure: Structure) -> MDFiles:
        """Return where the run of a structure writes.

        Args:
            folder: Folder of the results.
            structure: One of the input.
        """
        return MDFiles.under(folder, structure.name, self.record.trajectory_format)

    def has_checkpoint(self, folder: Path, structure: Structure) -> bool:
        """Return whether there is something to go on with.

        Args:
            folder: Folder of the results.
            structure: One of the input.
        """
        return self.files(folder, structure).checkpoint.exists()

    def of_first_checkpoint(
        self, folder: Path, structures: Sequence[Structure]
    ) -> Asked:
        """Return the same with the settings of the first run that has a checkpoint.

        Args:
            folder: Folder of the results.
            structures: The input.
        """
        for structure in structures:
            if self.has_checkpoint(folder, structure):
                path = self.files(folder, structure).checkpoint
                return self.filled_from(load_checkpoint(path))
        return self

    def filled_from(self, before: Checkpoint) -> Asked:
        """Return the same with the settings of a run where the user gives none.

        Args:
            before: Where the run stands.
        """
        return replace(
            self,
            settings=_filled(self.settings, before.settings),
            record=_filled(self.record, before.record),
            # the time that a run may take is that of each call
            watch=_filled(self.watch, {**before.watch, "max_minutes": None}),
        )


def _filled(now: S, before: Mapping[str, Any]) -> S:
    """Take a setting of the earlier run where the command line gives none."""
    source = click.get_current_context().get_parameter_source
    chosen = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    given = {field.name for field in fields(now) if source(field.name) in chosen}
    if given & {"steps", "time_ps"}:
        # one length replaces the other
        given |= {"steps", "time_ps"}
    kept = {
        field.name: before[field.name]
        for field in fields(now)
        if field.name not in given and field.name in before
    }
    return replace(now, **kept)


def _refuse_without_effect(settings: MDSettings) -> None:
    """Refuse time constants that the ensemble does not have."""
    ensemble = settings.ensemble
    has = {
        "friction_per_fs": ensemble == "nvt",
        "thermostat_time_fs": ensemble not in ("nve", "nvt", "nph", "nph-full"),
        "barostat_time_fs": ensemble.startswith(("npt", "nph")),
    }
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if not has.get(name, True) and source == ParameterSource.COMMANDLINE:
            raise ArgumentError(
                f"{parameter.opts[-1]} has no effect on --ensemble {ensemble}; leave "
                "it out, or choose another ensemble"
            )


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(OutputOptions, "output")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run in --out from its last checkpoint, with its settings; "
    "--steps and --time-ps are totals. Begins the run if there is none.",
)
@click.option(
    "--allow-direct-forces",
    is_flag=True,
    help="Let nve and nph run with direct forces, which do not conserve energy.",
)
@click.option(
    "--allow-neighbor-cap",
    is_flag=True,
    help="Let nve and nph run although published graph rules cut neighbours off.",
)
@settings_options(ModelOptions, "model")
@settings_options(
    MDSettings,
    "settings",
    choices={"ensemble": list(ENSEMBLES)},
    aliases={"friction_per_fs": "--friction"},
)
@settings_options(
    RecordSettings, "record", choices={"trajectory_format": list(TRAJECTORY_FORMATS)}
)
@settings_options(
    WatchSettings,
    "watch",
    aliases={"max_force_spread_eV_per_A": "--max-force-spread"},
)
@settings_options(CampaignOptions, "campaign")
def run(
    *,
    structures: list[Structure],
    output: OutputOptions,
    resume: bool,
    allow_direct_forces: bool,
    allow_neighbor_cap: bool,
    model: ModelOptions,
    settings: MDSettings,
    record: RecordSettings,
    watch: WatchSettings,
    campaign: CampaignOptions,
) -> int:
    """Run molecular dynamics of the structures in INPUT.

    INPUT is any file that ASE reads; several are run one after the other. Velocities in
    it are used; otherwise they are drawn at --temperature-K. Writes a trajectory, a CSV
    of energies and temperatures, the last structure, a checkpoint and a YAML summary.
    Ctrl-C ends the run early with valid files; --resume goes on.

    Example: jmp-md run water_box.xyz --ensemble npt --time-ps 10 --out water

    Longer: jmp-md run water_box.xyz --out water --resume --time-ps 20

    Exit codes: 0 done, 1 bug, 2 usage or input, 3 out of time, 4 unstable or the
    calculator failed on the way, 130 interrupted.
    """
    if output.plot:
        require_matplotlib()
    if resume and output.out is None and not campaign.is_asked:
        raise ArgumentError("--resume needs the --out of the run that is to go on")
    find_ensemble(settings)
    _refuse_without_effect(settings)
    asked = Asked(
        settings=settings,
        record=record,
        watch=watch,
        names=tuple(structure.name for structure in structures),
    )
    allowed = Allowed(
        direct_forces=allow_direct_forces, neighbor_cap=allow_neighbor_cap
    )
    codes = []
    if campaign.is_asked:
        from jmp_calc.cli.campaigns.campaign import Campaign
        from jmp_calc.cli.campaigns.works import RunWork

        campaign.refuse_resume(resume)
        if watch.max_minutes is not None:
            raise ArgumentError(
                f"--max-minutes {watch.max_minutes:g} is for runs in one process, "
                "which --resume finishes; leave it out: a campaign that is stopped "
                "(Ctrl-C, SIGTERM) goes on when the same command is given again"
            )
        return Campaign(
            verb="run",
            structures=structures,
            model=model,
            output=output,
            options=campaign,
            settings=[settings, record, watch],
            work=RunWork(asked=asked, allowed=allowed, output=output),
        ).run()
    with open_job(
        structures,
        model,
        # what a resumed run goes on with is there already
        replace(output, overwrite=output.overwrite or resume),
        name=structures[0].name,
        files=lambda folder: [
            path
            for structure in structures
            for path in astuple(asked.files(folder, structure))
        ],
    ) as job:
        # a call that was stopped had not begun all; those begin with its settings
        begun = asked.of_first_checkpoint(job.folder, structures) if resume else asked
        for structure in structures:
            status = _run_one(
                structure,
                begun if not asked.has_checkpoint(job.folder, structure) else asked,
                output,
                job,
                resume=resume,
                allowed=allowed,
            )
            codes.append(EXIT_OF_STATUS[status])
            if status == "interrupted":
                break
    return max(codes)


def _run_one(
    structure: Structure,
    asked: Asked,
    output: OutputOptions,
    job: Job,
    *,
    resume: bool,
    allowed: Allowed,
) -> str:
    """Run one structure; return the status."""
    # the integrators of ASE bring scipy along, which --help must not wait for
    from jmp_calc.sim.dynamics.md import run_md

    job, atoms = job.of_structure(structure), structure.atoms
    atoms.calc = job.calculator
    asked = asked.for_input(structure)
    files = asked.files(job.folder, structure)
    checkpoint = files.checkpoint
    is_resumed = resume and checkpoint.exists()
    # killed before its first checkpoint: nothing to go on with, and nothing to keep
    is_stillborn = resume and not is_resumed and is_running(files.summary)
    done = 0
    if is_resumed:
        before = load_checkpoint(checkpoint)
        asked, done = asked.filled_from(before), before.observables.step
    settings = asked.settings
    if not find_ensemble(settings).has_thermostat:
        allowed.check(job, settings.ensemble, atoms)
    print_start(structure, settings, job.about, done if is_resumed else None)
    with tqdm(
        total=settings.n_steps, initial=done, unit="step", disable=None, leave=False
    ) as bar:

        def show(row: Observables) -> None:
            bar.set_postfix_str(f"{row.temperature_K:.0f} K", refresh=False)
            bar.update(row.step - bar.n)

        result = run_md(
            atoms,
            settings,
            record=asked.record,
            watch=asked.watch,
            out=job.folder,
            stem=structure.name,
            overwrite=output.overwrite or is_stillborn,
            resume=is_resumed,
            provenance=job.provenance,
            computes=computes_of(job.options, job.about),
            progress=show,
        )
    picture = _draw(result, settings, structure, output, job) if output.plot else None
    print_end(result, settings, picture, done)
    return result.status


def _draw(
    result: MDResult,
    settings: MDSettings,
    structure: Structure,
    output: OutputOptions,
    job: Job,
) -> Path:
    observables = result.files.observables
    picture = observables.with_suffix(f".{output.picture_format}")
    plot_md(
        observables,
        picture,
        title=f"{structure.name}: {describe_model(job.about)}",
        settings=settings,
    )
    return picture
