"""Energies, forces and virials of a structure that another program moves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from jmp_calc.errors import DataError, UnsupportedSystemError
from jmp_calc.sim.evaluation import Results, evaluate_each, met_by
from jmp_calc.sim.record import Record
from jmp_calc.sim.serving.connection import Answer, Connection
from jmp_calc.sim.serving.settings import ServeSettings, serve_files

SERVING = "serving"
"""The other program has not ended yet, or this one was killed."""
ENDED = "ended"
"""The other program said that it was done."""
CLOSED = "closed"
"""The other program closed the connection without a word."""
WITHOUT_A_WORD = (
    "the connection was closed without EXIT, as ASE does at its end and i-PI only if "
    "it has died"
)
INTERRUPTED = "interrupted"
"""The user or the system stopped the work (Ctrl-C, SIGTERM)."""
FAILED = "failed"
"""An error ended the work; it was raised."""

MIN_WRAP_A = 4.0
"""Cell vectors that are shorter may be covered by a real move, angstrom."""
MAX_MOVE_A = 1.0
"""Atoms that move farther between two structures are not taken for wrapped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeResult:
    """Outcome of :func:`run_serve`."""

    status: str
    """``ended``, ``closed`` or ``interrupted``."""
    reason: str | None
    """Why, if early."""
    n_structures: int
    """Structures that were computed for the other program."""
    files: Mapping[str, Path]
    """What was written."""


class Server:
    """A calculator that answers for one structure.

    Args:
        atoms: The structure, for elements, order and periodicity; it is not changed.
        calculator: Any ASE calculator.

    Raises:
        UnsupportedSystemError: If the structure cannot be computed.
    """

    def __init__(self, atoms: Atoms, calculator: Any) -> None:
        self._frames: list[Atoms] = []
        self._atoms, self._calculator = atoms, calculator
        self.has_virial = bool(atoms.pbc.all())
        """Whether the other program gets a virial; zeros otherwise."""
        try:
            self._results(1)
        except UnsupportedSystemError as error:
            has_no_stress = isinstance(error.__cause__, NotImplementedError)
            if not (self.has_virial and has_no_stress):
                raise
            self.has_virial = False
            self._results(1)

    def compute(
        self, structures: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> list[Answer]:
        """Return energy, forces and virial of each structure.

        Args:
            structures: Cells (rows are lattice vectors) and positions, angstrom; as
                many as the calculator may compute together.

        Raises:
            UnsupportedSystemError: If a structure cannot be computed.
            DataError: If a molecule comes in pieces.
        """
        frames = self._moved(len(structures))
        for atoms, (cell, positions) in zip(frames, structures, strict=True):
            _check_whole(atoms, cell, positions)
            atoms.cell[:] = cell
            atoms.positions[:] = positions
        found = self._results(len(structures))
        return [
            Answer(
                energy=results["energy"],
                forces=results["forces"],
                virial=self._virial(atoms, results),
                extra=_extra(results),
            )
            for atoms, results in zip(frames, found, strict=True)
        ]

    def _moved(self, n: int) -> list[Atoms]:
        """Return the first structures that move side by side (beads of a ring)."""
        while len(self._frames) < n:
            self._frames.append(self._atoms.copy())
            # decides head and tags for the structure as it was given
            met_by(self._calculator, self._frames[-1:])
        return self._frames[:n]

    def _results(self, n: int) -> list[Results]:
        names = ("energy", "forces", *(("stress",) if self.has_virial else ()))
        found: list[Results] = []
        for one in evaluate_each(self._calculator, self._moved(n), names):
            if isinstance(one, UnsupportedSystemError):
                raise one
            found.append(one)
        return found

    def _virial(self, atoms: Atoms, results: Results) -> np.ndarray:
        if not self.has_virial:
            return np.zeros((3, 3))
        stress = voigt_6_to_full_3x3_stress(results["stress"])
        virial: np.ndarray = -atoms.get_volume() * stress
        return virial


def run_serve(
    atoms: Atoms,
    settings: ServeSettings,
    *,
    calculator: Any,
    out: Path | str,
    stem: str,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    connected: Callable[[Server], Any] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> ServeResult:
    """Compute for another program until it ends.

    Args:
        atoms: The structure of the other program, with its order of atoms.
        settings: Where it listens.
        calculator: Any ASE calculator.
        out: Folder of the summary.
        stem: First part of its name.
        overwrite: Whether an existing file may be replaced.
        provenance: Further sections of the summary.
        connected: Called when the connection is made.
        progress: Called with the number of structures that were computed.

    Raises:
        ArgumentError: If the file exists and may not be replaced.
        DataError: If nobody listens, or the connection breaks.
        UnsupportedSystemError: If a structure cannot be computed.
    """
    files = serve_files(Path(out), stem)
    record = Record(files, overwrite=overwrite, provenance=provenance)
    server = Server(atoms, calculator)
    done = [0]

    def save(status: str, reason: str | None = None) -> None:
        record.save(
            status=status,
            reason=reason,
            settings=settings,
            results={"n_structures": done[0], "has_virial": server.has_virial},
            files=files,
        )

    def count(n: int) -> None:
        done[0] += n
        if progress is not None:
            progress(n)

    with Connection(settings) as connection:
        record.make_folder()
        save(SERVING)
        if connected is not None:
            connected(server)
        try:
            status = _answer(connection, server, len(atoms), settings, count)
            reason = WITHOUT_A_WORD if status == CLOSED else None
        except KeyboardInterrupt as error:
            status, reason = INTERRUPTED, str(error) or "Ctrl-C"
        except Exception as error:
            save(FAILED, str(error))
            error.add_note(f"{done[0]} structures were computed before")
            raise
    save(status, reason)
    return ServeResult(
        status=status,
        reason=reason,
        n_structures=done[0],
        files=files,
    )


def _answer(
    connection: Connection,
    server: Server,
    n_atoms: int,
    settings: ServeSettings,
    count: Callable[[int], None],
) -> str:
    """Answer until the other program ends; return how it did."""
    results, batch = None, 0
    while (word := connection.word()) not in (None, "EXIT"):
        if word == "STATUS":
            connection.say(_state(results, batch))
        elif word == "INIT":
            batch = connection.batch_size()
        elif word == "POSDATA":
            batch = batch or 1  # INIT may be left out
            results = server.compute(connection.structures(n_atoms, batch))
            count(batch)
        elif results is None:
            raise DataError(
                f"{settings.address} asks for forces and has sent no structure; it "
                "does not keep to the i-PI protocol"
            )
        else:
            connection.give(results)
            results = None
    if word is None and results is not None:
        raise DataError(
            f"{settings.address} closed the connection before it took the last forces: "
            "it has died; see what it says itself"
        )
    return CLOSED if word is None else ENDED


def _state(results: Sequence[Answer] | None, batch: int) -> str:
    if results is not None:
        return "HAVEDATA"
    return "READY" if batch else "NEEDINIT"


def _check_whole(atoms: Atoms, cell: np.ndarray, positions: np.ndarray) -> None:
    """Check that what is not periodic was not wrapped into a cell.

    Args:
        atoms: The structure as it was last.
        cell: The new cell.
        positions: The new positions.

    Raises:
        DataError: If some atoms have moved by a cell vector, and others have not.
    """
    lengths = np.linalg.norm(cell, axis=1)[~atoms.pbc]
    if min(lengths, default=0.0) < MIN_WRAP_A or np.linalg.matrix_rank(cell) < 3:
        return
    moves = np.linalg.solve(cell.T, (positions - atoms.positions).T).T
    jumps = np.round(moves)
    if np.linalg.norm((moves - jumps) @ cell, axis=1).max() > MAX_MOVE_A:
        return
    jumps = (jumps - jumps[0])[:, ~atoms.pbc]
    torn = np.flatnonzero(jumps.any(axis=1))
    if len(torn):
        raise DataError(
            f"atom {torn[0]} has jumped by a cell vector and atom 0 has not: the other "
            "program wraps positions, which tears apart what is not periodic in INPUT; "
            "in i-PI write <ffsocket pbc='False'>, or give INPUT a periodic cell"
        )


def _extra(results: Results) -> str:
    """Return what a committee says about itself, as JSON; nothing for one model."""
    if "energy_std" not in results:
        return ""
    return json.dumps(
        {
            "energy_std_eV": float(results["energy_std"]),
            "forces_std_eV_per_A": np.asarray(results["forces_std"]).tolist(),
        }
    )
