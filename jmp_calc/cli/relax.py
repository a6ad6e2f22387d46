"""``jmp-md relax``: relax the atoms and cells of structures, many at once."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from ase import Atoms
from tqdm import tqdm

from jmp_calc.cli import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_NOT_CONVERGED,
    EXIT_UNSTABLE,
    EXIT_USAGE,
)
from jmp_calc.cli.campaigns.options import CampaignOptions
from jmp_calc.cli.job import (
    Job,
    describe_forces,
    describe_model,
    describe_structure,
    open_job,
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
from jmp_calc.pictures import require_matplotlib
from jmp_calc.sim.relax.settings import RelaxSettings
from jmp_calc.sim.relax.status import (
    CONVERGED,
    INTERRUPTED,
    NOT_CONVERGED,
    NOT_STARTED,
    REFUSED,
    UNSTABLE,
)

if TYPE_CHECKING:
    from jmp_calc.sim.relax.outcome import RelaxOutcome
    from jmp_calc.sim.relax.relaxation import RelaxResult, RelaxRound

EXIT_OF_STATUS = {
    CONVERGED: EXIT_DONE,
    NOT_CONVERGED: EXIT_NOT_CONVERGED,
    UNSTABLE: EXIT_UNSTABLE,
    REFUSED: EXIT_USAGE,
    INTERRUPTED: EXIT_INTERRUPTED,
    NOT_STARTED: EXIT_INTERRUPTED,
}
"""Exit code by the status of a structure; of several the last in this order counts."""

MANY = "all"
"""First part of the names of table and summary for several structures."""

XYZ_CONSTRAINTS = {"FixAtoms", "FixCartesian"}
"""Constraints that extended XYZ can hold."""

VACUUM_A = 8.0
"""Empty space along the third vector that is taken for a vacuum, angstrom."""

ROWS_SHOWN = 30
"""Structures in the table on the screen; the file has all."""


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ResumableOptions, "output")
@settings_options(ModelOptions, "model")
@settings_options(RelaxSettings, "settings", aliases={"fmax_eV_per_A": "--fmax"})
@settings_options(CampaignOptions, "campaign")
def relax(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: RelaxSettings,
    output: OutputOptions,
    campaign: CampaignOptions,
) -> int:
    """Relax the structures in INPUT..., side by side.

    INPUT is any file that ASE reads; --frame ':' takes all structures of a file. Their
    constraints are kept. Writes for each the steps (trajectory and CSV) and the last
    structure, and for all a CSV table and a YAML summary. Ctrl-C ends the work early
    with valid files. A structure that cannot be computed does not stop the others.

    Exit codes: 0 all converged, 1 bug, 2 usage or input, 3 not converged, 4 unstable,
    130 interrupted.

    Example: jmp-md relax crystal.cif --move both --fmax 0.001 --plot

    Thousands: jmp-md relax *.cif --workers 16 --out relaxed
    """
    if campaign.is_asked:
        from jmp_calc.cli.campaigns.campaign import Campaign
        from jmp_calc.cli.campaigns.works import RelaxWork

        return Campaign(
            verb="relax",
            structures=structures,
            model=model,
            output=output,
            options=campaign,
            settings=[settings],
            work=RelaxWork(settings=settings, output=output),
        ).run()
    # the optimizers of ASE bring scipy along, which --help must not wait for
    from jmp_calc.sim.relax.files import all_files
    from jmp_calc.sim.relax.relaxation import run_relax

    if output.plot:
        require_matplotlib()
    stem = structures[0].name if len(structures) == 1 else MANY
    names = [structure.name for structure in structures]
    systems = {structure.name: structure.atoms for structure in structures}

    def files(folder: Path) -> list[Path]:
        found = all_files(folder, stem, names, settings.trajectory_format)
        pictures = [_picture(folder, name, output) for name in names]
        return found + (pictures if output.plot else [])

    with open_job(structures, model, output, name=stem, files=files) as job:
        _print_start(structures, settings, job)
        with _Bar(len(structures), settings) as bar:
            result = run_relax(
                systems,
                settings,
                calculator=job.calculator,
                out=job.folder,
                stem=stem,
                overwrite=job.overwrite,
                provenance=job.common_provenance(structures),
                progress=bar.show,
            )
        if output.plot:
            _draw(result, settings, output, job)
        _print_end(result, output, job)
        return job.ended(exit_code(outcome.status for outcome in result.outcomes))


class _Bar:
    """Progress: steps of a single structure, else structures done."""

    def __init__(self, n_structures: int, settings: RelaxSettings) -> None:
        self._is_one = n_structures == 1
        self._bar = tqdm(
            total=settings.steps if self._is_one else n_structures,
            unit="step" if self._is_one else "structure",
            disable=None,
            leave=False,
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, state: RelaxRound) -> None:
        """Show how far the work is."""
        notes = []
        if not self._is_one:
            notes.append(f"{state.n_active} on their way, round {state.n_rounds}")
        if state.max_force_eV_per_A is not None:
            notes.append(f"largest force {state.max_force_eV_per_A:.3g} eV/Å")
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        done = state.n_steps if self._is_one else state.n_done
        self._bar.update(max(done - self._bar.n, 0))


def exit_code(statuses: Iterable[str]) -> int:
    """Return the exit code for structures that ended so.

    Args:
        statuses: One per structure.
    """
    order = list(EXIT_OF_STATUS)
    worst = max(statuses, key=order.index)
    return EXIT_OF_STATUS[worst]


def _picture(folder: Path, name: str, output: OutputOptions) -> Path:
    return folder / f"{name}-relax.{output.picture_format}"


def _draw(
    result: RelaxResult, settings: RelaxSettings, output: OutputOptions, job: Job
) -> None:
    from jmp_calc.sim.relax.picture import plot_relax

    drawn = [outcome for outcome in result.outcomes if outcome.steps]
    for outcome in tqdm(drawn, unit="picture", disable=None, leave=False):
        plot_relax(
            outcome.steps,
            settings,
            _picture(job.folder, outcome.name, output),
            title=f"{outcome.name}: {describe_model(job.about)}",
        )


def _print_start(
    structures: Sequence[Structure], settings: RelaxSettings, job: Job
) -> None:
    more = len(structures) - 1
    what = settings.move if settings.move != "both" else "positions and cell"
    limits = [f"forces to {settings.fmax_eV_per_A:g} eV/Å"] * settings.has_positions
    if settings.has_cell:
        limits.append(f"stress to {settings.stress_tolerance_GPa:g} GPa")
    outer = f" at {settings.pressure_GPa:g} GPa" if settings.pressure_GPa else ""
    print_facts(
        {
            "structure": describe_structure(structures[0])
            + (f", and {more} more" if more else ""),
            "model": describe_model(job.about),
            "forces": describe_forces(job.about),
            "relax": f"{what}{outer} by {settings.optimizer}, {', '.join(limits)}, "
            f"at most {settings.steps} steps",
        }
    )
    for note in [*job.about["notes"], *_notes(structures, settings, job)]:
        print_facts({"note": note})


def _notes(
    structures: Sequence[Structure], settings: RelaxSettings, job: Job
) -> list[str]:
    notes = []
    if not job.about["is_conservative"]:
        notes.append(
            "direct forces need not vanish where the energy is lowest, and a "
            "relaxation may not converge; --forces gradient is safer"
        )
    kinds = {type(c).__name__ for s in structures for c in s.atoms.constraints}
    lost = kinds - XYZ_CONSTRAINTS
    if lost:
        notes.append(
            f"extended XYZ cannot hold {', '.join(sorted(lost))}; the .traj files can"
        )
    if kinds and settings.has_cell:
        notes.append(
            "a cell that changes carries fixed atoms along; they stay in place in "
            "units of its vectors"
        )
    flat = [s.name for s in structures if _is_slab(s.atoms)]
    if settings.has_cell and not settings.fixed_axes and flat:
        notes.append(
            f"{flat[0]} seems to have a vacuum along z, which a relaxed cell may "
            "close; --fixed-axes z keeps it"
        )
    return notes


def _is_slab(atoms: Atoms) -> bool:
    """Whether more than 8 angstrom along the third vector are empty."""
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        return False
    height = np.sort(atoms.get_scaled_positions()[:, 2])
    gaps = np.diff(np.append(height, height[0] + 1))
    spacing = atoms.cell.volume / np.linalg.norm(np.cross(*atoms.cell[:2]))
    return bool(gaps.max() * spacing > VACUUM_A)


def _print_end(result: RelaxResult, output: OutputOptions, job: Job) -> None:
    _print_table(result.outcomes)
    counts = ", ".join(f"{n} {status}" for status, n in result.counts.items())
    is_one = len(result.outcomes) == 1
    first = result.outcomes[0]
    written = next((o.files for o in result.outcomes if o.files is not None), None)
    lines: dict[str, object] = {
        "done": f"{counts} (calls of the calculator: {result.n_rounds}, "
        f"{result.wall_seconds:.1f} s)",
        "folder": None if is_one else job.folder,
    }
    if is_one and written is not None:
        lines["steps"] = written.trajectory or written.steps
        lines["final"] = written.final
        if output.plot:
            lines["picture"] = _picture(job.folder, first.name, output)
    lines["spread"] = _spread_text(result.outcomes)
    lines["final"] = lines.get("final") or result.files.finals
    lines["table"] = result.files.table
    lines["summary"] = result.files.summary
    print_facts(lines)
    if result.interruption is not None:
        print(f"jmp-md: interrupted: {result.interruption}", file=sys.stderr)
    for outcome in list(filter(_is_bad, result.outcomes))[:ROWS_SHOWN]:
        print(
            f"jmp-md: {outcome.name}: {outcome.status}: {outcome.reason}",
            file=sys.stderr,
        )


def _spread_text(outcomes: Sequence[RelaxOutcome]) -> str | None:
    """Return how far the models of a committee are apart at the end."""
    spreads = {
        outcome.name: outcome.steps[-1].max_force_std_eV_per_A or 0.0
        for outcome in outcomes
        if outcome.steps and outcome.steps[-1].max_force_std_eV_per_A is not None
    }
    if not spreads:
        return None
    worst = max(spreads, key=lambda name: spreads[name])
    return f"of the models up to {spreads[worst]:.3g} eV/Å on an atom ({worst})"


def _is_bad(outcome: RelaxOutcome) -> bool:
    """Whether a structure has a reason of its own for not being relaxed."""
    return outcome.status not in (CONVERGED, INTERRUPTED, NOT_STARTED)


def _print_table(outcomes: Sequence[RelaxOutcome]) -> None:
    """Print how each structure ended; of many some, first those that need a look."""
    shown = list(outcomes)
    if len(shown) > ROWS_SHOWN:
        shown = sorted(shown, key=_is_bad, reverse=True)[:ROWS_SHOWN]
    width = max(9, *(len(outcome.name) for outcome in shown))
    has_cell = any(o.steps and o.steps[0].volume_A3 is not None for o in shown)
    head = f"\n  {'structure':{width}s}  {'status':13s} {'steps':>5s}"
    head += f" {'energy change':>16s} {'max. force':>11s}"
    units = f"\n  {'':{width}s}  {'':13s} {'':5s} {'eV':>16s} {'eV/Å':>11s}"
    if has_cell:
        head += f" {'max. stress':>12s} {'volume':>8s}"
        units += f" {'GPa':>12s} {'%':>8s}"
    print(head + units)
    for outcome in shown:
        text = f"  {outcome.name:{width}s}  {outcome.status:13s} {outcome.n_steps:5d}"
        if outcome.steps:
            last = outcome.steps[-1]
            text += f" {outcome.energy_change:16.6f} {last.max_force_eV_per_A:11.4g}"
            if has_cell:
                text += f" {last.max_stress_GPa:12.4g}"
                text += f" {outcome.volume_change_percent:+8.2f}"
        print(text)
    if len(outcomes) > len(shown):
        print(f"  ... and {len(outcomes) - len(shown)} more, see the table")
    print()
