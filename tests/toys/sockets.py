"""A program that asks for energies and forces over a socket, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.calculators.socketio import IPIProtocol


class Asking:
    """Listens at a port, or a UNIX socket, and runs a script with who connects.

    The script gets ASE's side of the protocol; what it returns is ``result``.
    """

    def __init__(
        self,
        script: Callable[[IPIProtocol], Any],
        *,
        path: Path | None = None,
        after_s: float = 0.0,
    ) -> None:
        self._script, self._after_s = script, after_s
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(str(path) if path else ("127.0.0.1", 0))
        self._socket.settimeout(60)
        self.port = None if path else self._socket.getsockname()[1]
        self.result: Any = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        if not self._after_s:
            self._socket.listen(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=60)
        self._socket.close()

    def _run(self) -> None:
        time.sleep(self._after_s)
        self._socket.listen(1)
        found, _ = self._socket.accept()
        with found:
            self.result = self._script(IPIProtocol(found))


def ask(frames) -> Callable[[IPIProtocol], list[dict[str, Any]]]:
    """A script that asks for structures and ends; results in eV and angstrom."""

    def script(protocol):
        found = [protocol.calculate(f.positions, f.cell.array) for f in frames]
        protocol.end()
        return found

    return script


def ask_batch(frames) -> Callable[[IPIProtocol], list[Any]]:
    """A script that asks twice for all structures at once, as i-PI 3.3 does.

    Gives energies, forces and virials, in eV and angstrom.
    """

    def script(protocol):
        assert protocol.status() == "NEEDINIT"
        text = f" batch_size:{len(frames)}".encode()
        protocol.sendmsg("INIT")
        protocol.send([7, len(text)], np.int32)
        protocol.socket.sendall(text)
        found = [_batch(protocol, frames) for _ in range(2)]
        protocol.end()
        return found

    return script


def _batch(protocol, frames):
    n, n_atoms = len(frames), len(frames[0])
    assert protocol.status() == "READY"
    protocol.sendmsg("POSDATA")
    protocol.send(n_atoms, np.int32)
    for frame in frames:
        protocol.send(frame.cell.array.T / units.Bohr, np.float64)
        protocol.send(np.zeros((3, 3)), np.float64)
    for frame in frames:
        protocol.send(frame.positions / units.Bohr, np.float64)
    protocol.sendmsg("GETFORCE")
    assert protocol.recvmsg() == "FORCEREADY"
    energies = protocol.recv(n, np.float64) * units.Hartree
    assert protocol.recv(1, np.int32) == n_atoms
    forces = protocol.recv((n, n_atoms, 3), np.float64) * units.Hartree / units.Bohr
    virials = protocol.recv((n, 3, 3), np.float64) * units.Hartree
    for _ in frames:
        (n_bytes,) = protocol.recv(1, np.int32)
        protocol.recv(n_bytes, np.byte)
    return energies, forces, virials


def send_structure(protocol, positions, cell=None, n_atoms=None) -> None:
    """Send a structure as it is, whatever it is; angstrom."""
    cell = np.eye(3) if cell is None else cell
    protocol.sendmsg("POSDATA")
    protocol.send(np.array(cell).T / units.Bohr, np.float64)
    protocol.send(np.eye(3), np.float64)
    protocol.send(len(positions) if n_atoms is None else n_atoms, np.int32)
    protocol.send(np.array(positions) / units.Bohr, np.float64)
