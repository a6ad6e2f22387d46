"""``jmp-md analyze``: structure, diffusion, vibrations and drift of trajectories."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, WORDS
from jmp_calc.cli.folder import result_folder
from jmp_calc.cli.job import (
    one_line_warnings,
    print_facts,
    terminated_like_ctrl_c,
)
from jmp_calc.cli.options import HintingCommand, OutputOptions, settings_options
from jmp_calc.cli.structures import Source
from jmp_calc.files import file_hash
from jmp_calc.sim.analysis.settings import ANALYSES, AnalysisSettings
from jmp_calc.sim.output import check_new

if TYPE_CHECKING:
    # numpy and ASE's readers are imported when the command runs, not for its help
    from jmp_calc.sim.analysis.analyze import AnalysisResult


@click.command(cls=HintingCommand)
@click.argument(
    "trajectories",
    metavar="TRAJ...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
)
@settings_options(OutputOptions, "output")
@settings_options(AnalysisSettings, "settings", choices={"only": ANALYSES})
def analyze(
    *,
    trajectories: tuple[Path, ...],
    output: OutputOptions,
    settings: AnalysisSettings,
) -> int:
    """Analyse trajectories: structure, diffusion, vibrations, drift, stability.

    TRAJ is ASE's .traj, extended XYZ, H5MD (.h5), an npz file of rMD17 or MD22, or any
    format of ASE with several frames. Each file is analysed on its own; all are in one
    HTML report, which needs no network. Each curve is also written as CSV, and as a
    picture with --plot. Units are in the names of options and columns.

    Frames need velocities for vibrations, times for diffusion, a cell for g(r).

    Exit codes: 0 done, 1 bug, 2 usage or input, 130 interrupted.

    Example: jmp-md analyze md-traj.traj --equilibration-ps 5 --reference rmd17.npz
    """
    names = _names(trajectories)
    stem = f"{names[0]}-analysis" if len(names) == 1 else "analysis"
    with one_line_warnings(), terminated_like_ctrl_c():
        from jmp_calc.sim.analysis.analyze import analysis_files, run_analysis

        if output.out is not None:
            files = analysis_files(output.out, names, output.picture_format)
            check_new(files, overwrite=output.overwrite)
        with (
            result_folder(output.out, stem) as folder,
            tqdm(unit="frame", disable=None, leave=False) as bar,
        ):

            def show(path: Path, done: int, total: int) -> None:
                if done == 1:
                    bar.reset(total or None)
                    bar.set_description(path.name, refresh=False)
                bar.update(done - bar.n)

            result = run_analysis(
                trajectories,
                settings,
                out=folder,
                names=names,
                overwrite=output.overwrite,
                picture_format=output.picture_format if output.plot else None,
                provenance={"inputs": _inputs(trajectories)},
                progress=show,
            )
    _print_result(result)
    return EXIT_DONE


def _names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file that no other has."""
    stems = [Source(path=path).stem.removesuffix("-traj") for path in paths]
    counts, seen = Counter(stems), Counter[str]()
    names = []
    for stem in stems:
        seen[stem] += 1
        names.append(f"{stem}-{seen[stem]}" if counts[stem] > 1 else stem)
    return names


def _inputs(paths: Sequence[Path]) -> dict[str, Any]:
    words = click.get_current_context().meta.get(WORDS, [])
    return {
        "files": [
            {"file": path, "sha256": file_hash(path)}
            for path in dict.fromkeys(paths)
            if path.is_file()
        ],
        "command": shlex.join(["jmp-md", *words]),
        "working_folder": Path.cwd(),
    }


def _print_result(result: AnalysisResult) -> None:
    from jmp_calc.sim.analysis.report import key_facts

    for trajectory in result.trajectories:
        about = {fact.name: fact.text for fact in trajectory.facts}
        words = [
            str(trajectory.path),
            about["formula"],
            f"{about['frames read']} frames",
        ]
        if "time" in about:
            words.append(about["time"])
        print_facts({"trajectory": ", ".join(words)})
        for fact in key_facts(trajectory.sections):
            print(f"{'':12s}{fact.name}: {fact.text} {fact.unit}".rstrip())
        notes = [
            f"{section.title}: {note}"
            for section in trajectory.sections
            for note in section.notes
        ]
        for note in (*trajectory.notes, *notes):
            print_facts({"note": note})
    pictures = f", {len(result.pictures)} pictures" if result.pictures else ""
    print_facts(
        {
            "written": f"{len(result.tables)} CSV files{pictures} in "
            f"{result.report.parent}",
            "summary": result.summary,
            "report": result.report,
        }
    )
