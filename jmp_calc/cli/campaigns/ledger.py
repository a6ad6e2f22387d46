"""What a campaign has done, on disk: each result appears once and whole.

One process writes here. Workers fill folders under ``.work``; a folder is renamed to
its place under ``parts`` when its part has ended, with the account of the part in it,
and only then is a line added to the journal. So a part is done if its folder is there,
whatever was killed and when, and a worker that was given up can spoil nothing.
"""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from jmp_calc.cli.campaigns.parts import Done, Ended, Part
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.sim.output import LineFile, check_new, save_text, writing

ACCOUNT = "campaign-part.json"
"""File in the folder of each part that tells how it ended."""


class Ledger:
    """The folder of a campaign.

    Args:
        folder: Where everything is.
        keeps_attempts: Keep what attempts leave that were cut off, for the next one;
            until the part is done.
    """

    def __init__(self, folder: Path, *, keeps_attempts: bool = False) -> None:
        self.folder = folder
        self._keeps_attempts = keeps_attempts
        self.parts = folder / "parts"
        self.work = folder / ".work"
        self.identity = folder / "campaign.yml"
        self.journal = folder / "journal.jsonl"
        self._done: dict[str, dict[str, Any]] = {}
        self._lines: LineFile | None = None

    @contextlib.contextmanager
    def opened(
        self, identity: Mapping[str, Any], *, files: Sequence[Path], overwrite: bool
    ) -> Iterator[Ledger]:
        """Begin a campaign, or go on with one, while nobody else does.

        Args:
            identity: What all results depend on; plain data.
            files: Common results, which a new campaign must not replace unasked.
            overwrite: Whether a campaign with other settings may be done anew.

        Raises:
            ArgumentError: If another process works here, files would be replaced, or
                the campaign here was another one.
            DataError: If its files cannot be read or written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".campaign.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ArgumentError(
                f"another jmp-md works in {self.folder}; wait for it, or choose "
                "another --out"
            ) from error
        try:
            self._begin(identity, files, overwrite=overwrite)
            yield self
        finally:
            if self._lines is not None:
                self._lines.close()
            self._clean()
            lock.release()

    def _begin(
        self, identity: Mapping[str, Any], files: Sequence[Path], *, overwrite: bool
    ) -> None:
        if self.identity.exists():
            self._check_same(identity, overwrite=overwrite)
        else:
            check_new([self.parts, self.journal, *files], overwrite=overwrite)
        # what a process left that was killed
        self._clean()
        with writing(self.folder):
            self.parts.mkdir(exist_ok=True)
            self.work.mkdir(exist_ok=True)
        save_text(self.identity, yaml.safe_dump(dict(identity), sort_keys=False))
        keep_bytes = self._read_journal() if self.journal.exists() else None
        self._lines = LineFile(self.journal, overwrite=True, keep_bytes=keep_bytes)

    def _clean(self) -> None:
        if not self._keeps_attempts:
            shutil.rmtree(self.work, ignore_errors=True)
        with contextlib.suppress(OSError):
            # stays if attempts are in it
            self.work.rmdir()

    def _attempts(self, part: Part) -> list[Path]:
        stem = f"{part.name}.{part.fingerprint[:12]}"
        return sorted(self.work.glob(f"{glob.escape(stem)}.*"))

    def _check_same(self, identity: Mapping[str, Any], *, overwrite: bool) -> None:
        try:
            before = yaml.safe_load(self.identity.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataError(f"cannot read {self.identity}: {error}") from error
        changes = list(_changes(before, identity))
        if changes and not overwrite:
            raise ArgumentError(
                f"{self.folder} holds a campaign with other settings: "
                f"{', '.join(changes)}; choose another --out, or do everything anew "
                "with --overwrite"
            )

    def _read_journal(self) -> int:
        """Take what is done from the journal; return the size of its whole lines."""
        size = 0
        for line in self.journal.read_bytes().splitlines(keepends=True):
            try:
                account = json.loads(line)
                self._done[account["part"]] = account
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n"):
                del self._done[account["part"]]
                break
            size += len(line)
        return size

    def missing(self, parts: Sequence[Part], *, overwrite: bool) -> list[Part]:
        """Return the parts that are still to be done.

        Args:
            parts: All of the campaign.
            overwrite: Whether those whose structures have changed are done again.

        Raises:
            ArgumentError: If structures have changed and may not be done again.
        """
        found = []
        for part in parts:
            account = self._account(part)
            if account is None:
                found.append(part)
            elif account["fingerprint"] != part.fingerprint:
                if not overwrite:
                    raise ArgumentError(
                        f"{part.structures[0].path} (or a setting) has changed since "
                        f"{part.name} was computed in {self.folder}; choose another "
                        "--out, or compute what has changed again with --overwrite"
                    )
                self._done.pop(part.name, None)
                found.append(part)
        return found

    def _account(self, part: Part) -> dict[str, Any] | None:
        folder = self.parts / part.name
        known = self._done.get(part.name)
        if known is not None and folder.is_dir():
            return known
        self._done.pop(part.name, None)
        try:
            account: dict[str, Any] = json.loads((folder / ACCOUNT).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        # its folder got its name, and then something killed us
        self._enter(account)
        return account

    def new_work_folder(self, part: Part) -> Path:
        """Return a new folder for an attempt.

        Args:
            part: What is to be done there.
        """
        before = self._attempts(part)
        number = int(before[-1].suffix[1:]) + 1 if before else 0
        name = f"{part.name}.{part.fingerprint[:12]}.{number:06d}"
        folder = self.work / name
        with writing(folder):
            folder.mkdir()
        return folder

    def publish(self, part: Part, done: Done, folder: Path, attempt: int) -> None:
        """Give the results of a part their place.

        Args:
            part: What was done.
            done: How it ended.
            folder: Where its files are, from :meth:`new_work_folder`.
            attempt: How many workers it took.

        Raises:
            DataError: If that cannot be written.
        """
        account = {
            "part": part.name,
            "fingerprint": part.fingerprint,
            "attempts": attempt,
            "worker": done.worker,
            "seconds": round(done.seconds, 3),
            "ended": [asdict(ended) for ended in done.ended],
        }
        save_text(folder / ACCOUNT, json.dumps(account, indent=1) + "\n")
        place = self.parts / part.name
        with writing(place):
            if place.exists():
                place.rename(self.new_work_folder(part) / "before")
            folder.rename(place)
        self._enter(account)
        for other in self._attempts(part):
            shutil.rmtree(other, ignore_errors=True)

    def _enter(self, account: dict[str, Any]) -> None:
        assert self._lines is not None
        self._lines.append(json.dumps(account) + "\n")
        self._done[account["part"]] = account

    def account_of(self, part: Part) -> Mapping[str, Any] | None:
        """Return how a part ended, or None if it did not.

        Args:
            part: One of the campaign.
        """
        account = self._done.get(part.name)
        if account is None or account["fingerprint"] != part.fingerprint:
            return None
        return account

    def ended(self, part: Part) -> list[Ended]:
        """Return how the structures of a part ended; empty if it is not done.

        Args:
            part: One of the campaign.
        """
        account = self.account_of(part)
        return [] if account is None else [Ended(**one) for one in account["ended"]]


def merge_tables(tables: Sequence[Path], path: Path) -> None:
    """Write tables that have the same columns as one.

    Args:
        tables: CSV files; columns that some lack stay empty.
        path: File to replace.

    Raises:
        DataError: If one cannot be read or written.
    """
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    for table in tables:
        with table.open(encoding="utf-8", newline="") as lines:
            found = csv.DictReader(lines)
            rows += found
            columns |= dict.fromkeys(found.fieldnames or ())
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    save_text(path, text.getvalue())


def join_texts(files: Sequence[Path], path: Path) -> None:
    """Write files one after the other into one.

    Args:
        files: Extended XYZ.
        path: File to replace.

    Raises:
        DataError: If it cannot be written.
    """
    with writing(path), replacing(path) as new, new.open("wb") as joined:
        for file in files:
            with file.open("rb") as text:
                shutil.copyfileobj(text, joined)


def _changes(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            where = f"{name}.{key}" if name else str(key)
            yield from _changes(before.get(key), now.get(key), where)
    elif before != now:
        yield f"{name} was {before} and is {now}"
