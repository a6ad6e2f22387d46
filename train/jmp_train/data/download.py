"""Published files of a family, fetched with resume and checked against their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmp_calc.errors import ArgumentError, DownloadError, did_you_mean
from jmp_calc.pretrained.transfer import RangeDownloader, Remedies
from jmp_train.data.source import Download, FamilyInfo

REMEDIES = Remedies(
    full_disk="choose a folder on another disk",
    unreachable="check the network and proxy settings",
    by_hand="put the file into the folder",
)
"""What messages advise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file that is there."""

    path: Path
    """Where."""
    was_there: bool
    """Whether it had been there before."""
    check: str
    """What it was checked against, in words."""


def choose_files(family: FamilyInfo, names: Sequence[str]) -> list[Download]:
    """Return the files of a family that are asked for.

    Args:
        family: The family.
        names: Names of files; empty: all.

    Raises:
        ArgumentError: If the family has no files to download, or not these.
    """
    files = {download.file: download for download in family.downloads}
    if not files:
        raise ArgumentError(
            f"set {family.name!r} has no files to download; it is made from "
            f"{family.formats}"
        )
    for name in names:
        if name not in files:
            raise ArgumentError(
                f"set {family.name!r} has no file {name!r}; choose from "
                f"{', '.join(files)}" + did_you_mean(name, files)
            )
    return [files[name] for name in (names or files)]


def fetch_files(
    files: Sequence[Download],
    folder: Path,
    *,
    on_file: Callable[[Download], None] = lambda _file: None,
    wait_seconds: float = 1.0,
) -> list[Fetched]:
    """Download files into a folder, unless they are there; what is there is checked.

    A transfer that was interrupted goes on where it ended, also in a later call.

    Args:
        files: What to fetch.
        folder: Where to; made if need be.
        on_file: Called before a file is downloaded.
        wait_seconds: Pause before the first reconnection.

    Raises:
        DownloadError: If a file cannot be had, or is not the published one.
        ArgumentError: If the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"cannot write into {folder} ({error.strerror}); choose another folder"
        ) from None
    found = []
    for file in files:
        path = folder / file.file
        was_there = path.is_file()
        if was_there:
            check = check_file(path, file)
        else:
            on_file(file)
            check = _fetch(file, path, wait_seconds)
        found.append(Fetched(path=path, was_there=was_there, check=check))
    return found


def _fetch(file: Download, path: Path, wait_seconds: float) -> str:
    arrived = path.with_name(f".{path.name}.arrived")
    receive = RangeDownloader(
        label=file.file,
        part=path.with_name(path.name + ".part"),
        size_bytes=file.size or None,
        wait_seconds=wait_seconds,
        remedies=REMEDIES,
    )
    receive(file.url, arrived, None)
    try:
        check = check_file(arrived, file)
    except DownloadError:
        arrived.unlink()
        raise
    arrived.replace(path)
    return check


def check_file(path: Path, file: Download) -> str:
    """Check a file against what its publisher says; return against what, in words.

    Args:
        path: The file.
        file: What is published about it.

    Raises:
        DownloadError: If size or hash differ.
    """
    size = path.stat().st_size
    if file.size and size != file.size:
        raise DownloadError(
            f"{file.file} has {size} bytes instead of {file.size}; delete it and "
            "download it again"
        )
    for name, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, name).hexdigest()
            if found != expected:
                raise DownloadError(
                    f"{file.file} has {name} {found}, but {expected} is published; it "
                    "is damaged or was replaced, so nothing of it is used; delete it "
                    "and download it again"
                )
            return f"{name} as published"
    return "size as published" if file.size else "no size or hash is published"
