"""``jmp-md serve``: energies and forces for another program, over an i-PI socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from jmp_calc.cli.job import (
    build_calculator,
    describe,
    describe_forces,
    describe_model,
    describe_structure,
    one_line_warnings,
    print_facts,
    terminated_like_ctrl_c,
)
from jmp_calc.cli.options import HintingCommand, ModelOptions, settings_options
from jmp_calc.cli.structures import Structure, structures_argument
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.sim.requirements import require


@dataclass(frozen=True, kw_only=True, slots=True)
class SocketSettings:
    """Where the other program listens."""

    host: str = "localhost"
    """Machine where the other program listens."""
    port: int = 31415
    """Port where it listens."""
    unix_socket: str | None = None
    """Name of a UNIX socket in place of host and port; i-PI adds /tmp/ipi_ to it."""
    timeout_s: float | None = None
    """Stop if the other program says nothing for this time, s; by default never."""

    def __post_init__(self) -> None:
        """Check every number once."""
        require("port", self.port, lambda x: 1 <= x <= 65535, "1 to 65535")
        require("timeout_s", self.timeout_s, lambda x: x > 0, "above 0")

    @property
    def address(self) -> str:
        """Where that is, for people."""
        if self.unix_socket is not None:
            return f"the UNIX socket /tmp/ipi_{self.unix_socket}"
        return f"{self.host}:{self.port}"


@click.command(cls=HintingCommand)
@structures_argument()
@settings_options(ModelOptions, "model")
@settings_options(SocketSettings, "settings")
def serve(
    *,
    structures: Sequence[Structure],
    model: ModelOptions,
    settings: SocketSettings,
) -> int:
    """Compute for another program that listens at an i-PI socket.

    INPUT has the atoms in the order of the other program, which sends positions and
    cell only: elements and periodicity are those of INPUT. Start the other program
    (i-PI, ASE's SocketIOCalculator, ...) first. It gets energy, forces and, if INPUT is
    periodic in three directions, the virial, in atomic units. Head and tags are decided
    once, for INPUT. Ends when the other program does.

    Exit codes: 0 done, 1 bug, 2 usage or input, or nobody listens, 130 interrupted.

    Example: jmp-md serve water.xyz --model jmp-nano --port 31415
    """
    if len(structures) != 1:
        raise ArgumentError(
            f"serve computes one system and was given {len(structures)}; start one "
            "'jmp-md serve' for each"
        )
    (structure,) = structures
    with one_line_warnings() as told, terminated_like_ctrl_c():
        atoms = structure.atoms.copy()
        atoms.set_constraint()
        calculator = build_calculator(model)
        about = describe(calculator, atoms, model)
        told.extend(about["notes"])
        atoms.calc = calculator
        client = _connect(settings)
        print_facts(
            {
                "structure": describe_structure(structure),
                "model": describe_model(about),
                "forces": describe_forces(about),
                "serving": settings.address,
            }
        )
        n_done = _serve(client, atoms, settings)
    print_facts({"served": f"{n_done} structures"})
    return 0


def _connect(settings: SocketSettings) -> Any:
    # ASE's sockets take a while to import, which --help must not wait for
    from ase.calculators.socketio import SocketClient

    try:
        return SocketClient(
            host=settings.host,
            port=settings.port,
            unixsocket=settings.unix_socket,
            timeout=settings.timeout_s,
        )
    except OSError as error:
        raise DataError(
            f"nobody listens at {settings.address} ({error}); start the other program "
            "first, and check --host, --port or --unix-socket"
        ) from error


def _serve(client: Any, atoms: Any, settings: SocketSettings) -> int:
    """Answer until the other program ends; return the number of structures."""
    n_done = 0
    try:
        for _ in client.irun(atoms, use_stress=bool(atoms.pbc.all())):
            n_done += 1
    except OSError as error:
        raise DataError(
            f"the connection to {settings.address} broke after {n_done} structures: "
            f"{error}"
        ) from error
    finally:
        client.close()
    return n_done
