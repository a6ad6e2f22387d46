"""The options of a campaign; imports nothing heavy, for the help of verbs."""

from __future__ import annotations

from dataclasses import dataclass

from jmp_calc.errors import ArgumentError


@dataclass(frozen=True, kw_only=True, slots=True)
class CampaignOptions:
    """How thousands of structures are shared out among processes and machines."""

    workers: int | None = None
    """Campaign: share the structures out among this many processes, which keep the
    model loaded (Ray, extra 'ray'). A second start of the same command with the same
    --out does only what is missing."""
    ray: str | None = None
    """Campaign on a running Ray cluster: auto, or HOST:PORT; by default 'local', a
    cluster on this machine. All machines must see --out."""
    per_task: int | None = None
    """Structures of a campaign that a worker gets at a time, and computes together; by
    default 1, for energy 256."""
    cpus_per_worker: int = 1
    """Processor cores of each worker of a campaign; with --device cuda also one GPU."""

    def __post_init__(self) -> None:
        """Check every option.

        Raises:
            ArgumentError: If one is out of its range or means nothing.
        """
        for name in ("workers", "per_task", "cpus_per_worker"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{name} is {value}; give 1 or more")
        if self.ray is not None and not (
            self.ray in ("auto", "local") or (":" in self.ray and "://" not in self.ray)
        ):
            raise ArgumentError(
                f"ray is {self.ray!r}; give auto (the cluster of this machine), "
                "HOST:PORT, or local (a new one)"
            )
        if not self.is_asked and (self.per_task is not None):
            raise ArgumentError(
                "--per-task is for campaigns; add --workers N or --ray ADDRESS"
            )

    @property
    def is_asked(self) -> bool:
        """Whether there is to be a campaign at all."""
        return self.workers is not None or self.ray is not None

    def refuse_resume(self, is_resumed: bool) -> None:
        """Refuse ``--resume``, without which campaigns go on.

        Args:
            is_resumed: Whether it was given.

        Raises:
            ArgumentError: If it was.
        """
        if is_resumed:
            raise ArgumentError(
                "--resume is for work in one process; a campaign (--workers, --ray) "
                "goes on when the same command is given again: leave --resume out"
            )
