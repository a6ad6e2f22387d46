"""Where the other program listens, and how long to wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError
from jmp_calc.sim.requirements import require


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Where the other program listens, and how long to wait for it."""

    host: str | None = None
    """Machine where the other program listens; by default this one."""
    port: int | None = None
    """Port where it listens; by default 31415."""
    unix_socket: str | None = None
    """Name of a UNIX socket in place of host and port, which is faster on one machine.
    It is in /tmp/ipi_NAME, as for i-PI and ASE, unless NAME has a slash."""
    wait_s: float = 60.0
    """Try to connect for this time, s, if the other program does not listen yet."""
    timeout_s: float | None = None
    """Stop if the other program says nothing for this time, s; by default never."""

    def __post_init__(self) -> None:
        """Check every setting once.

        Raises:
            ArgumentError: If one is not allowed, or two exclude each other.
        """
        require("port", self.port, lambda x: 1 <= x <= 65535, "1 to 65535")
        require("wait_s", self.wait_s, lambda x: x >= 0, "0 or above")
        require("timeout_s", self.timeout_s, lambda x: x > 0, "above 0")
        if self.unix_socket is None:
            return
        if not self.unix_socket:
            raise ArgumentError("unix_socket is empty; give the name of the socket")
        if self.host is not None or self.port is not None:
            raise ArgumentError(
                f"unix_socket {self.unix_socket!r} takes the place of host and port; "
                "leave one out"
            )

    @property
    def place(self) -> tuple[str, int] | str:
        """Host and port, or the path of the UNIX socket."""
        name = self.unix_socket
        if name is not None:
            return name if "/" in name else f"/tmp/ipi_{name}"
        return self.host or "localhost", self.port or 31415

    @property
    def address(self) -> str:
        """Where that is, for people."""
        place = self.place
        if isinstance(place, str):
            return f"the UNIX socket {place}"
        return ":".join(map(str, place))


def serve_files(folder: Path, stem: str) -> dict[str, Path]:
    """Return what is written.

    Args:
        folder: Folder of the results.
        stem: First part of the names.
    """
    return {"summary": folder / f"{stem}-serve.yaml"}
