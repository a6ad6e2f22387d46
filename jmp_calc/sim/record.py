"""What a short job leaves on disk: tables and one summary, each written in one step."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jmp_calc.sim.output import check_new, save_summary, save_text, versions, writing


class Record:
    """The account of one job: when it began, what with, and what came out.

    Args:
        files: Every file that the job may make; ``summary`` is the YAML summary.
        overwrite: Whether existing files may be replaced.
        provenance: Sections of the summary: inputs, model and so on. Plain data.

    Raises:
        ArgumentError: If a file exists and may not be replaced.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        *,
        overwrite: bool,
        provenance: Mapping[str, Any] | None,
    ) -> None:
        check_new(files.values(), overwrite=overwrite)
        self._files = dict(files)
        self._provenance = dict(provenance or {})
        self._started = datetime.now(UTC)
        self._start_time = time.perf_counter()

    @property
    def wall_seconds(self) -> float:
        """Time since the start, s."""
        return time.perf_counter() - self._start_time

    def make_folder(self) -> None:
        """Make the folder of the files; called when there is something to write.

        Raises:
            DataError: If it cannot be made.
        """
        folder = self._files["summary"].parent
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def save(
        self,
        *,
        status: str,
        settings: Any,
        results: Mapping[str, Any],
        files: Mapping[str, Path],
        reason: str | None = None,
    ) -> None:
        """Write the summary, and remove files of an earlier job that this one lacks.

        Args:
            status: How the job ended.
            settings: Its settings, a dataclass.
            results: What came out; plain data, units in the names.
            files: What was written.
            reason: Why it ended so; None if there is nothing to say.

        Raises:
            DataError: If it cannot be written.
        """
        summary = {
            "status": status,
            "reason": reason,
            **self._provenance,
            "settings": asdict(settings),
            "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": self.wall_seconds,
            "results": dict(results),
            "files": dict(files),
        }
        for path in set(self._files.values()) - set(files.values()):
            with writing(path):
                path.unlink(missing_ok=True)
        save_summary(summary, self._files["summary"])


def save_table(columns: Mapping[str, Sequence[object]], path: Path) -> None:
    """Write columns as CSV; floats read back exactly.

    Args:
        columns: Name with unit -> values; None is left empty. All of one length.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    save_text(path, text.getvalue())
