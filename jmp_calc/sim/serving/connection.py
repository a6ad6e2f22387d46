"""The i-PI protocol, as the one who computes speaks it."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmp_calc.errors import DataError
from jmp_calc.sim.serving.settings import ServeSettings
from jmp_calc.units import BOHR, HARTREE

HEADER_BYTES = 12
"""Length of the words of the protocol, filled up with blanks."""

RETRY_S = 0.2
"""Time between two attempts to connect."""

NOT_YET = (ConnectionRefusedError, FileNotFoundError, TimeoutError)
"""Errors of a program that does not listen yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What is sent about one structure."""

    energy: float
    """EV."""
    forces: np.ndarray
    """EV/angstrom."""
    virial: np.ndarray
    """Minus the derivative of the energy by strain, eV."""
    extra: str
    """Text that the other program hands on."""


class Connection:
    """A connection to the program that asks for energies and forces.

    Args:
        settings: Where it listens, and how long to wait for it.

    Raises:
        DataError: If nobody listens there in time.

    Source:
        Ceriotti, More and Manolopoulos, Comput. Phys. Commun. 185, 1019 (2014), and the
        manual of i-PI, "Communication protocol".
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._socket = _connected(settings)
        self._socket.settimeout(settings.timeout_s)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def word(self) -> str | None:
        """Return the next word of the other program; None: it has closed.

        Raises:
            DataError: If it breaks off, is silent for too long, or speaks another
                protocol.
        """
        text = self._bytes(HEADER_BYTES, may_close=True)
        if text is None:
            return None
        word = text.decode("ascii", errors="replace").rstrip()
        if word not in ("STATUS", "INIT", "POSDATA", "GETFORCE", "EXIT"):
            raise DataError(
                f"{self._settings.address} sent {text!r}, which is no word of the i-PI "
                "protocol; check --host, --port or --unix-socket"
            )
        return word

    def batch_size(self) -> int:
        """Read the parameters of INIT; return how many structures come at a time."""
        _, n_bytes = self._numbers(2, np.int32)
        found = re.search(rb"batch_size\s*:\s*(\d+)", self._bytes(int(n_bytes)) or b"")
        return int(found[1]) if found else 1

    def structures(self, n_atoms: int, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return cells (rows are lattice vectors) and positions, angstrom.

        Args:
            n_atoms: Atoms that there should be.
            n: Structures that come; several as i-PI 3.3 sends them.

        Raises:
            DataError: If there are others, or a number is not finite.
        """
        if n == 1:
            cells = self._numbers(18).reshape(1, 2, 3, 3)
            self._check_atoms(n_atoms)
        else:
            self._check_atoms(n_atoms)
            cells = self._numbers(18 * n).reshape(n, 2, 3, 3)
        positions = self._numbers(3 * n_atoms * n).reshape(n, n_atoms, 3)
        if not (np.isfinite(cells[:, 0]).all() and np.isfinite(positions).all()):
            raise DataError(
                f"{self._settings.address} sent positions or a cell that are not "
                "finite; its run has blown up: shorten its time step"
            )
        # lattice vectors come as columns; the inverse of the cell is not needed
        return [
            (cell[0].T * BOHR, where * BOHR)
            for cell, where in zip(cells, positions, strict=True)
        ]

    def _check_atoms(self, n_atoms: int) -> None:
        (n_given,) = self._numbers(1, np.int32)
        if n_given != n_atoms:
            raise DataError(
                f"{self._settings.address} has {n_given} atoms and INPUT has {n_atoms};"
                " give the structure of the other program, with its order of atoms"
            )

    def say(self, word: str) -> None:
        """Send one word.

        Args:
            word: Of the protocol.
        """
        self._send(word.encode().ljust(HEADER_BYTES))

    def give(self, results: Sequence[Answer]) -> None:
        """Send results; in one piece, which saves waiting for acknowledgements.

        Args:
            results: One per structure.
        """
        parts = [b"FORCEREADY".ljust(HEADER_BYTES)]
        parts += [np.float64(one.energy / HARTREE).tobytes() for one in results]
        parts += [np.int32(len(results[0].forces)).tobytes()]
        parts += [(one.forces * (BOHR / HARTREE)).tobytes() for one in results]
        parts += [(one.virial.T / HARTREE).tobytes() for one in results]
        for one in results:
            # one blank, because some take no bytes for a closed connection
            text = (one.extra or " ").encode()
            parts += [np.int32(len(text)).tobytes(), text]
        self._send(b"".join(parts))

    def _numbers(self, n: int, dtype: Any = np.float64) -> np.ndarray:
        data = self._bytes(n * np.dtype(dtype).itemsize)
        return np.frombuffer(data or b"", dtype=dtype)

    def _bytes(self, n: int, *, may_close: bool = False) -> bytes | None:
        data = bytearray()
        while len(data) < n:
            with self._failures():
                self._hurry()
                part = self._socket.recv(n - len(data))
            if not part and may_close and not data:
                return None
            if not part:
                raise DataError(
                    f"{self._settings.address} closed the connection in the middle of "
                    "a message; see what it says itself"
                )
            data += part
        return bytes(data)

    def _hurry(self) -> None:
        """Have what comes acknowledged at once; others wait for that before they go on.

        Linux forgets about it, so that it is said again and again.
        """
        if self._socket.family != socket.AF_UNIX and hasattr(socket, "TCP_QUICKACK"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _send(self, data: bytes) -> None:
        with self._failures():
            self._socket.sendall(data)

    @contextlib.contextmanager
    def _failures(self) -> Any:
        """Make clear errors of those of the socket."""
        where = self._settings.address
        try:
            yield
        except TimeoutError as error:
            raise DataError(
                f"{where} said nothing for {self._settings.timeout_s:g} s; see whether "
                "it runs, or allow more with --timeout-s"
            ) from error
        except OSError as error:
            raise DataError(
                f"the connection to {where} broke ({error.strerror or error}); see "
                "what the other program says itself"
            ) from error


def _connected(settings: ServeSettings) -> socket.socket:
    """Return a socket that is connected, after attempts in vain if need be."""
    deadline = time.monotonic() + settings.wait_s
    while True:
        left = deadline - time.monotonic()
        try:
            return _attempt(settings, max(left, 1.0))
        except NOT_YET as error:
            if left <= RETRY_S:
                raise DataError(
                    f"nobody listens at {settings.address} after {settings.wait_s:g} s "
                    f"({error.strerror or error}); start the other program, and check "
                    "--host, --port or --unix-socket"
                ) from error
        except OSError as error:
            raise DataError(
                f"cannot connect to {settings.address} ({error.strerror or error}); "
                "check --host, --port or --unix-socket"
            ) from error
        time.sleep(RETRY_S)


def _attempt(settings: ServeSettings, timeout_s: float) -> socket.socket:
    place = settings.place
    if not isinstance(place, str):
        found = socket.create_connection(place, timeout=timeout_s)
        # words are short and answered at once
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return found
    found = socket.socket(socket.AF_UNIX)
    try:
        found.connect(place)
    except BaseException:
        found.close()
        raise
    return found
