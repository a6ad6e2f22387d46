"""The i-PI protocol, as the one who computes speaks it."""

from __future__ import annotations

import contextlib
import socket
import time
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
                "protocol; check --host, --port or --unix-socket, and leave batch_size "
                "of i-PI's ffsocket at 1"
            )
        return word

    def skip_init(self) -> None:
        """Read the parameters of INIT, which have no meaning here."""
        _, n_bytes = self._numbers(2, np.int32)
        self._bytes(max(int(n_bytes), 0))

    def structure(self, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
        """Return cell (rows are lattice vectors) and positions, angstrom.

        Args:
            n_atoms: Atoms that there should be.

        Raises:
            DataError: If there are others, or a number is not finite.
        """
        # the protocol has lattice vectors as columns, and their inverse
        cell = self._numbers(9).reshape(3, 3).T
        self._numbers(9)
        (n_given,) = self._numbers(1, np.int32)
        if n_given != n_atoms:
            raise DataError(
                f"{self._settings.address} has {n_given} atoms and INPUT has {n_atoms};"
                " give the structure of the other program, with its order of atoms, "
                "and leave batch_size of i-PI's ffsocket at 1"
            )
        positions = self._numbers(3 * n_atoms).reshape(n_atoms, 3)
        if not (np.isfinite(cell).all() and np.isfinite(positions).all()):
            raise DataError(
                f"{self._settings.address} sent positions or a cell that are not "
                "finite; its run has blown up: shorten its time step"
            )
        return cell * BOHR, positions * BOHR

    def say(self, word: str) -> None:
        """Send one word.

        Args:
            word: Of the protocol.
        """
        self._send(word.encode().ljust(HEADER_BYTES))

    def give(
        self, energy: float, forces: np.ndarray, virial: np.ndarray, extra: str
    ) -> None:
        """Send results; in one piece, which saves waiting for acknowledgements.

        Args:
            energy: EV.
            forces: EV/angstrom.
            virial: Minus the derivative of the energy by strain, eV.
            extra: Text that the other program hands on.
        """
        # one blank, because some take no bytes for a closed connection
        text = (extra or " ").encode()
        self._send(
            b"FORCEREADY".ljust(HEADER_BYTES)
            + np.float64(energy / HARTREE).tobytes()
            + np.int32(len(forces)).tobytes()
            + np.asarray(forces * BOHR / HARTREE, dtype=np.float64).tobytes()
            + np.asarray(virial.T / HARTREE, dtype=np.float64).tobytes()
            + np.int32(len(text)).tobytes()
            + text
        )

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
