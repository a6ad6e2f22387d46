"""Where the files of named models lie, and that they are the ones once downloaded.

No hash of the published files is known from elsewhere. The first download therefore
records one in a small JSON beside the file, and everything later is held against it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from jmp_calc.errors import DownloadError
from jmp_calc.files import file_hash, replace_text
from jmp_calc.pretrained.table import BUNDLED, Pretrained
from jmp_calc.pretrained.transfer import RangeDownloader

logger = logging.getLogger(__name__)

HOME_VARIABLE = "JMP_CALC_HOME"
"""Environment variable: folder for downloaded weights."""
MIRROR_VARIABLE = "JMP_CALC_MIRROR"
"""Environment variable: address of a folder that has the published files."""
OFFLINE_VARIABLE = "JMP_CALC_OFFLINE"
"""Environment variable: 1 forbids every connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is remembered about a downloaded file."""

    sha256: str
    """Hash when it was first downloaded or found."""
    size_bytes: int
    """Size at that time."""
    url: str | None
    """Where it came from; None: it was put there by hand."""
    recorded: str
    """When that was, ISO 8601, UTC."""
    verified_mtime_ns: int
    """Modification time when the hash was last checked. As long as it and the size
    are the same, the file is not read again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """Whether the weights of a named model are on this computer."""

    path: Path
    """Where the file is or would be."""
    is_present: bool
    """Whether it is there, complete."""
    size_bytes: int | None
    """Size of the file or, before the download, the published one if known."""
    partial_bytes: int
    """How much of an unfinished download is there."""


def cache_folder() -> Path:
    """Return the folder of downloaded weights: ``JMP_CALC_HOME`` or the platform's."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser()
    import pooch

    return Path(pooch.os_cache("jmp-calc"))


def is_offline() -> bool:
    """Return whether ``JMP_CALC_OFFLINE`` forbids connections."""
    value = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    return value not in ("", "0", "false", "no")


def path_of(model: Pretrained) -> Path:
    """Return where the file of a model is, or will be once downloaded."""
    return (BUNDLED if model.is_bundled else cache_folder()) / model.file


def presence(model: Pretrained) -> Presence:
    """Return whether the file of a model is there; opens no connection."""
    path = path_of(model)
    part = _part_of(path)
    is_present = path.is_file()
    return Presence(
        path=path,
        is_present=is_present,
        size_bytes=path.stat().st_size if is_present else model.size_bytes,
        partial_bytes=part.stat().st_size if part.is_file() else 0,
    )


def read_record(model: Pretrained) -> Record | None:
    """Return what was recorded about a file, or None if nothing was.

    Raises:
        DownloadError: If the record is damaged.
    """
    path = _record_of(path_of(model))
    if not path.is_file():
        return None
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DownloadError(
            f"{path}, the record of the first download of {model.name}, is damaged; "
            "delete it to have the hash recorded again"
        ) from error


def fetch(model: Pretrained, *, offline: bool = False) -> Path:
    """Return the file of a named model, downloading it first if necessary.

    A downloaded file is checked against its record: by size and modification time, and
    by its hash if those differ. Processes that ask at once wait for the first.

    Args:
        model: An entry of ``PRETRAINED``.
        offline: Never open a connection; so does ``JMP_CALC_OFFLINE=1``.

    Raises:
        DownloadError: If the file is not there and cannot be downloaded, or is not
            what it was at first.
    """
    path = path_of(model)
    if model.url is None:
        if not path.is_file():
            raise DownloadError(
                f"{model.name} is part of jmp-calc, but {path} is missing; reinstall "
                "jmp-calc, or give the path of a weights file as the model"
            )
        return path
    if path.is_file():
        verify(model, reads_always=False)
        return path
    if offline or is_offline():
        raise DownloadError(
            f"{model.name} is not in {path.parent} and downloading is switched off "
            f"(--offline or {OFFLINE_VARIABLE}); run 'jmp-md models download "
            f"{model.name}' where there is a network, copy {model.file} there, or "
            "give the path of the file as the model"
        )
    with _locked(model, path):
        # another process may have finished it meanwhile
        if not path.is_file():
            _download(model, path)
    return path


def verify(model: Pretrained, *, reads_always: bool = True) -> Record:
    """Check the downloaded file of a model against its record; nothing is deleted.

    A file without a record, put there by hand, gets one.

    Args:
        model: An entry of ``PRETRAINED`` that is not part of the package.
        reads_always: Whether to compute the hash even if size and modification time
            are those of the last check.

    Raises:
        DownloadError: If the file is missing or is not what it was at first.
    """
    path = path_of(model)
    if not path.is_file():
        raise DownloadError(
            f"{model.name} is not in {path.parent}; run 'jmp-md models download "
            f"{model.name}'"
        )
    found, record = path.stat(), read_record(model)
    expected = model.size_bytes if record is None else record.size_bytes
    if expected is not None and found.st_size != expected:
        raise DownloadError(
            f"{path} has {found.st_size} bytes instead of {expected}; it is not "
            f"{model.name} or not all of it. {_what_to_do(model, path)}"
        )
    if record is not None and not reads_always:
        if found.st_mtime_ns == record.verified_mtime_ns:
            return record
        logger.info("%s was touched since the last check, reading it", path)
    sha256 = file_hash(path)
    if record is None:
        record = _record(path, sha256=sha256, url=None)
    elif sha256 != record.sha256:
        raise DownloadError(
            f"{path} is not what was first downloaded: its sha256 is {sha256}, "
            f"recorded was {record.sha256}. {_what_to_do(model, path)}"
        )
    record = replace(record, verified_mtime_ns=found.st_mtime_ns)
    _write_record(path, record)
    return record


def source_of(model: Pretrained) -> str:
    """Return the address a model is downloaded from: its own or that on a mirror.

    Raises:
        DownloadError: If ``JMP_CALC_MIRROR`` is not an address.
    """
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if not mirror:
        return str(model.url)
    if not mirror.startswith(("http://", "https://")):
        raise DownloadError(
            f"{MIRROR_VARIABLE} is {mirror!r}; it must be the http:// or https:// "
            f"address of a folder that holds {model.file}. For a file on this "
            "computer, give its path as the model"
        )
    return f"{mirror.rstrip('/')}/{model.file}"


def _download(model: Pretrained, path: Path) -> None:
    import pooch

    url = source_of(model)
    record = read_record(model)
    downloader = RangeDownloader(
        label=model.name,
        part=_part_of(path),
        size_bytes=model.size_bytes,
        sha256=None if record is None else record.sha256,
    )
    logger.info("downloading %s (%s) from %s", model.name, model.licence, url)
    registry = pooch.create(
        path=path.parent, base_url="", registry={path.name: None}, urls={path.name: url}
    )
    try:
        with _quiet(pooch.get_logger()):
            registry.fetch(path.name, downloader=downloader)
    except PermissionError as error:
        raise _unwritable(path.parent, error) from error
    if record is None:
        record = _record(path, sha256=downloader.sha256, url=url)
    _write_record(path, replace(record, verified_mtime_ns=path.stat().st_mtime_ns))


@contextmanager
def _locked(model: Pretrained, path: Path) -> Iterator[None]:
    """Hold the right to download a model; it ends with the process, however it ends."""
    import filelock

    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.warning(
                "another process is downloading %s; waiting for it", model.name
            )
            lock.acquire()
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _quiet(noisy: logging.Logger) -> Iterator[None]:
    """Keep pooch, which writes to stderr by itself, from doing so for a while."""
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        yield
    finally:
        noisy.setLevel(level)


def _part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _record(path: Path, *, sha256: str, url: str | None) -> Record:
    found = path.stat()
    return Record(
        sha256=sha256,
        size_bytes=found.st_size,
        url=url,
        recorded=datetime.now(UTC).isoformat(timespec="seconds"),
        verified_mtime_ns=found.st_mtime_ns,
    )


def _write_record(path: Path, record: Record) -> None:
    text = json.dumps(asdict(record), indent=1) + "\n"
    try:
        replace_text(_record_of(path), text)
    except OSError as error:
        # a shared folder that only its owner writes to: nothing is lost but time
        logger.info("cannot record the hash of %s: %s", path, error)


def _what_to_do(model: Pretrained, path: Path) -> str:
    return (
        "Nothing was deleted: move the file away and run 'jmp-md models download "
        f"{model.name}', or, if you replaced it on purpose, delete {_record_of(path)}"
    )


def _unwritable(folder: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"cannot write to {folder} ({error.strerror}); set {HOME_VARIABLE} to a folder "
        "that you can write to"
    )
