"""What a campaign has done, on disk: each result appears once and whole.

One process writes here. Workers fill folders under ``.work``; a folder is renamed to
its place under ``parts`` when its part has ended, with the account of the part in it.
So a part is done if its folder is there, whatever was killed and when, and a worker
that was given up can spoil nothing: no two attempts ever have the same folder.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from jmp_calc.cli.campaigns.parts import Done, Part, split
from jmp_calc.cli.structures import Structure
from jmp_calc.errors import ArgumentError, DataError
from jmp_calc.files import replacing
from jmp_calc.sim.output import check_new, save_text, writing

ACCOUNT = "campaign-part.json"
"""File in the folder of each part that tells how it ended."""

Account = dict[str, Any]
"""Content of that file; ``part`` is its name, ``structures`` has fingerprints by the
names of structures, ``ended`` how each ended."""


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
        self._accounts: dict[str, Account] = {}

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
        is_new = not self.identity.exists()
        try:
            self._begin(identity, files, overwrite=overwrite)
            yield self
        except ArgumentError:
            if is_new and not self._accounts:
                # it cannot begin, and what is mended is not another campaign
                self.identity.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self.parts.rmdir()
            raise
        finally:
            self._clean()
            lock.release()

    def _begin(
        self, identity: Mapping[str, Any], files: Sequence[Path], *, overwrite: bool
    ) -> None:
        if self.identity.exists():
            self._check_same(identity, overwrite=overwrite)
        else:
            check_new([self.parts, *files], overwrite=overwrite)
        # what a process left that was killed
        self._clean()
        save_text(self.identity, yaml.safe_dump(dict(identity), sort_keys=False))
        with writing(self.folder):
            self.parts.mkdir(exist_ok=True)
            self.work.mkdir(exist_ok=True)
        self._read_accounts()

    def _clean(self) -> None:
        if not self._keeps_attempts:
            shutil.rmtree(self.work, ignore_errors=True)
        with contextlib.suppress(OSError):
            # stays if attempts are in it
            self.work.rmdir()

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

    def _read_accounts(self) -> None:
        for path in sorted(self.parts.glob(f"*/{ACCOUNT}")):
            try:
                account = json.loads(path.read_text("utf-8"))
                is_ours = account["part"] == path.parent.name
            except (OSError, ValueError, TypeError, KeyError):
                continue
            if is_ours:
                self._enter(account)

    def missing(
        self,
        structures: Sequence[Structure],
        fingerprints: Mapping[str, str],
        *,
        per_task: int,
        overwrite: bool,
    ) -> list[Part]:
        """Return what is still to be done, as parts.

        Args:
            structures: All of the campaign.
            fingerprints: Of each name.
            per_task: Structures in each part.
            overwrite: Whether results of structures that have changed, or are not
                there any more, are removed.

        Raises:
            ArgumentError: If there are such results and they may not be removed.
        """
        paths = {structure.name: structure.path for structure in structures}
        stale = {}
        for name, account in self._accounts.items():
            if account["structures"][name] != fingerprints.get(name):
                stale[account["part"]] = account
                if not overwrite:
                    raise self._refusal(name, paths.get(name))
        for part, account in stale.items():
            self._remove(self.parts / part)
            for name in account["structures"]:
                del self._accounts[name]
        todo = [one for one in structures if one.name not in self._accounts]
        taken = {account["part"] for account in self._accounts.values()}
        return list(split(todo, per_task, fingerprints, taken))

    def _remove(self, place: Path) -> None:
        # in one step, so that no half of a part is ever seen
        removed = self.work / f"removed.{time.time_ns():020d}"
        with writing(place):
            place.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _refusal(self, name: str, path: Path | None) -> ArgumentError:
        if path is None:
            return ArgumentError(
                f"{self.folder} holds results of {name}, which is not among the "
                "structures now; give all of them again, choose another --out, or "
                "remove such results with --overwrite"
            )
        return ArgumentError(
            f"{path} (or a setting) has changed since {name} was computed in "
            f"{self.folder}; choose another --out, or compute what has changed again "
            "with --overwrite"
        )

    def new_work_folder(self, part: Part) -> Path:
        """Return a new folder for an attempt.

        Args:
            part: What is to be done there.
        """
        # the time, lest a worker of an earlier start that still lives writes here
        folder = self.work / f"{part.fingerprint[:24]}.{time.time_ns():020d}"
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
        names = [structure.name for structure in part.structures]
        account = {
            "part": part.name,
            "structures": dict(zip(names, part.fingerprints, strict=True)),
            "attempts": attempt,
            "worker": done.worker,
            "versions": dict(done.versions),
            "seconds": round(done.seconds, 3),
            "ended": [asdict(ended) for ended in done.ended],
        }
        save_text(folder / ACCOUNT, json.dumps(account, indent=1) + "\n")
        place = self.parts / part.name
        if place.exists():
            # without an account
            self._remove(place)
        with writing(place):
            folder.rename(place)
        self._enter(account)
        for other in self.work.glob(f"{part.fingerprint[:24]}.*"):
            shutil.rmtree(other, ignore_errors=True)

    def _enter(self, account: Account) -> None:
        self._accounts |= dict.fromkeys(account["structures"], account)

    def account_of(self, name: str) -> Account | None:
        """Return how the part of a structure ended, or None if it did not.

        Args:
            name: Of the structure.
        """
        return self._accounts.get(name)

    def mixed_versions(self) -> dict[str, list[str]]:
        """Return the packages of which results have several versions."""
        found: dict[str, set[str]] = {}
        for account in self._accounts.values():
            for package, version in account["versions"].items():
                found.setdefault(package, set()).add(version)
        return {name: sorted(all_) for name, all_ in found.items() if len(all_) > 1}


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
