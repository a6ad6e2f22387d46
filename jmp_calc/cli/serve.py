"""``jmp-md serve``: energies and forces for another program, over an i-PI socket."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click
from tqdm import tqdm

from jmp_calc.cli import EXIT_DONE, EXIT_INTERRUPTED
from jmp_calc.cli.each import print_job
from jmp_calc.cli.job import describe_structure, open_job, print_facts
from jmp_calc.cli.options import (
    HintingCommand,
    ModelOptions,
    OutputOptions,
    settings_options,
)
from jmp_calc.cli.structures import Structure, structures_argument
from jmp_calc.errors import ArgumentError
from jmp_calc.sim.serving.serving import (
    CLOSED,
    INTERRUPTED,
    Server,
    ServeResult,
    run_serve,
)
from jmp_calc.sim.serving.settings import ServeSettings, serve_files


@click.command(cls=HintingCommand)
@structures_argument()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the summary; by default a new one, runs/INPUT-serve-1, -2, ...",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing summary in --out.")
@settings_options(ServeSettings, "settings")
@settings_options(ModelOptions, "model")
def serve(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: ServeSettings,
    out: Path | None,
    overwrite: bool,
) -> int:
    """Compute for another program that listens at an i-PI socket.

    INPUT has the atoms in the order of the other program, which sends positions and
    cell only: elements and periodicity are those of INPUT, and head and tags are
    decided for it. The other program (i-PI, ASE's SocketIOCalculator, ...) gets energy,
    forces and, if INPUT is periodic in three directions, the virial, in atomic units.
    The spread of a committee goes into i-PI's extras. Ends when the other program does.
    Writes a YAML summary.

    Exit codes: 0 done, 1 bug, 2 usage or input, nobody listens, or the connection
    breaks, 130 interrupted.

    In i-PI's input (never pbc='True' for a molecule):

    \b
      <ffsocket name='jmp' mode='unix' pbc='False'>
        <address>jmp</address>
      </ffsocket>

    Example: jmp-md serve water.xyz --unix-socket jmp
    """  # noqa: D301 - \b is for click
    if len(structures) != 1:
        raise ArgumentError(
            f"serve computes one system and was given {len(structures)}; start one "
            "'jmp-md serve' for each"
        )
    (structure,) = structures
    name = structure.name
    with open_job(
        structures,
        model,
        OutputOptions(out=out, overwrite=overwrite),
        name=f"{name}-serve",
        files=lambda folder: serve_files(folder, name).values(),
    ) as job:
        print_facts({"structure": describe_structure(structure)})
        print_job(job)
        print_facts({"waiting": f"for {settings.address}, up to {settings.wait_s:g} s"})
        with tqdm(unit="structure", disable=None, leave=False) as bar:
            result = run_serve(
                structure.atoms,
                settings,
                calculator=job.calculator,
                out=job.folder,
                stem=name,
                overwrite=job.overwrite,
                provenance=job.provenance,
                connected=lambda server: _print_connected(server, settings),
                progress=bar.update,
            )
        _print_end(result)
        return EXIT_INTERRUPTED if result.status == INTERRUPTED else EXIT_DONE


def _print_connected(server: Server, settings: ServeSettings) -> None:
    print_facts(
        {
            "serving": settings.address,
            "virial": "sent"
            if server.has_virial
            else "none (zeros are sent), so keep the cell of the other program fixed",
        }
    )


def _print_end(result: ServeResult) -> None:
    print_facts({"served": f"{result.n_structures} structures", **result.files})
    if result.status == CLOSED:
        print_facts({"note": result.reason})
    elif result.reason is not None:
        print(f"jmp-md: interrupted: {result.reason}", file=sys.stderr)
