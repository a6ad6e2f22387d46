"""One large file over HTTP, going on where an earlier attempt ended."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jmp_calc.errors import DownloadError
from jmp_calc.files import file_hash

if TYPE_CHECKING:
    # imported only for a download, because it takes longer than listing models
    import requests

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 16
"""What a lost connection can cost: a chunk that is not complete is not written."""
_TIMEOUT_SECONDS = (15, 60)
_RECONNECTS = 5
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSALS = {401: "refuses access", 403: "refuses access", 404: "has no such file"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What is known about a file of which a part has arrived."""

    url: str
    """Where it comes from."""
    validator: str | None
    """ETag, or else modification time, of the version that is being downloaded."""
    size_bytes: int | None
    """Size of the whole file, if the server says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedies:
    """What to do when a download fails, as parts of sentences."""

    full_disk: str
    """How to use another disk."""
    unreachable: str
    """What to check when a server cannot be reached."""
    by_hand: str
    """What to do with a file that was fetched by other means."""


OF_MODELS = Remedies(
    full_disk="set JMP_CALC_HOME to a folder on another disk",
    unreachable="check the network and proxy settings, use a mirror (JMP_CALC_MIRROR)",
    by_hand="give the path of the file as the model",
)
"""For weights."""


class RangeDownloader:
    """A downloader for pooch that resumes an interrupted transfer.

    What has arrived lies in a file of its own until it is complete. The rest is asked
    for by a range request; a server without ranges, or whose file has changed since
    (another ETag or size), sends everything again. A lost connection is taken up
    again a few times before giving up.

    Args:
        label: Name of the model or file, for messages and the progress bar.
        part: File for what has arrived; it survives failures and interruptions.
        size_bytes: Size that the file must have, or None if unknown.
        sha256: Hash that the file must have, or None if unknown.
        wait_seconds: Pause before the first reconnection; it doubles each time.
        remedies: What messages advise.
    """

    def __init__(
        self,
        *,
        label: str,
        part: Path,
        size_bytes: int | None = None,
        sha256: str | None = None,
        wait_seconds: float = 1.0,
        remedies: Remedies = OF_MODELS,
    ) -> None:
        self.label = label
        self.part = part
        self.size_bytes = size_bytes
        self.expected_sha256 = sha256
        self.wait_seconds = wait_seconds
        self.remedies = remedies
        self.sha256 = ""
        self._progress_file = part.with_name(part.name + ".json")

    def __call__(self, url: str, output_file: str | Path, pooch: Any) -> None:  # noqa: ARG002 (the protocol of pooch)
        """Download ``url`` to ``output_file``.

        Args:
            url: Address of the file.
            output_file: Where the complete and verified file goes.
            pooch: Not used; pooch passes itself to its downloaders.

        Raises:
            DownloadError: If the server cannot be reached or refuses, the disk is
                full, or what arrived has a wrong size or hash.
        """
        try:
            self._receive_all(url)
        except OSError as error:
            if error.errno not in _FULL_DISK:
                raise
            raise DownloadError(
                f"no space left in {self.part.parent} after {size_text(self.received)} "
                f"of {self.label}, which are kept; free some space and run this again, "
                f"or {self.remedies.full_disk}"
            ) from error
        self._verify(url)
        os.replace(self.part, output_file)
        self._progress_file.unlink(missing_ok=True)

    @property
    def received(self) -> int:
        """Bytes that have arrived."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def _receive_all(self, url: str) -> None:
        import requests

        at_first = before = self.received
        failures = 0
        while True:
            try:
                while not self._receive(url):
                    self._discard()
            except (
                requests.exceptions.ConnectionError,
                requests.exceptions.ChunkedEncodingError,
                requests.exceptions.Timeout,
            ) as error:
                # no patience with a server that has not answered even once
                if self.received == at_first or failures == _RECONNECTS:
                    raise self._unreachable(url, error) from error
                failures = 0 if self.received > before else failures
                before = self.received
                logger.info("%s: connection lost (%s), going on", self.label, error)
                time.sleep(self.wait_seconds * 2**failures)
                failures += 1
            except requests.exceptions.RequestException as error:
                raise self._unreachable(url, error) from error
            else:
                return

    def _receive(self, url: str) -> bool:
        """Ask for what is missing; False if it does not fit what is there."""
        import requests

        known = self._read_progress()
        start = self.received
        if known.url != url or known.validator is None:
            start = 0
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if known.validator and not known.validator.startswith("W/"):
                headers["If-Range"] = known.validator
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS
        ) as response:
            if start and response.status_code == _UNSATISFIABLE:
                return known.size_bytes == start
            self._check_answer(url, response)
            now = _progress_of(url, response)
            if start and response.status_code == _PARTIAL:
                if now != known or _range_start(response) != start:
                    logger.info("%s: the file has changed, starting over", self.label)
                    return False
            else:
                start = 0
            self._check_size(url, now)
            self._check_space(now, start)
            self._progress_file.write_text(json.dumps(asdict(now)))
            self._write(response, start=start, total=now.size_bytes)
        return True

    def _write(
        self, response: requests.Response, *, start: int, total: int | None
    ) -> None:
        from tqdm import tqdm

        with (
            self.part.open("ab" if start else "wb") as file,
            # only on a terminal: a library stays silent elsewhere
            tqdm(
                desc=self.label,
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))

    def _read_progress(self) -> Progress:
        try:
            return Progress(**json.loads(self._progress_file.read_text()))
        except (OSError, ValueError, TypeError):
            # none, or cut off while it was written: the transfer starts over
            return Progress(url="", validator=None, size_bytes=None)

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._progress_file.unlink(missing_ok=True)

    def _check_answer(self, url: str, response: requests.Response) -> None:
        status = response.status_code
        if status not in (_OK, _PARTIAL):
            problem = _REFUSALS.get(status, "has a problem; try again later")
            raise DownloadError(
                f"cannot download {self.label}: the server {problem} (HTTP {status}); "
                + self._by_hand(url)
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DownloadError(
                f"cannot download {self.label}: {url} gives a web page instead of a "
                "file, perhaps the login page of this network; " + self._by_hand(url)
            )

    def _check_size(self, url: str, now: Progress) -> None:
        if None in (now.size_bytes, self.size_bytes):
            return
        if now.size_bytes != self.size_bytes:
            raise DownloadError(
                f"the server has a file of {now.size_bytes} bytes, but {self.label} "
                f"has {self.size_bytes}; it is not the same file, so nothing was "
                "downloaded; " + self._by_hand(url)
            )

    def _check_space(self, now: Progress, start: int) -> None:
        needed = (now.size_bytes or self.size_bytes or 0) - start
        if not start:
            needed -= self.received  # about to be overwritten
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.label} needs {size_text(needed)} more, but {self.part.parent} "
                f"has only {size_text(free)} free; free some space, or "
                f"{self.remedies.full_disk}"
            )

    def _verify(self, url: str) -> None:
        """Check size and hash; what is wrong is not kept."""
        size = self._read_progress().size_bytes or self.size_bytes
        if size is not None and self.received != size:
            got = self.received
            self._discard()
            raise DownloadError(
                f"{got} bytes of {self.label} arrived instead of {size}; nothing was "
                "kept; run this again"
            )
        self.sha256 = file_hash(self.part)
        if self.expected_sha256 not in (None, self.sha256):
            self._discard()
            raise DownloadError(
                f"{self.label} from {url} has sha256 {self.sha256}, but the first "
                f"download had {self.expected_sha256}; nothing was kept. If the "
                "publisher has replaced the file, delete "
                f"{self.part.with_suffix('.json')} and download it again; if not, use "
                "another mirror (JMP_CALC_MIRROR)"
            )

    def _unreachable(self, url: str, error: Exception) -> DownloadError:
        kept = ""
        if self.received:
            kept = (
                f" after {size_text(self.received)}, which are kept; run this again to "
                "go on"
            )
        return DownloadError(
            f"cannot download {self.label} from {url} ({type(error).__name__}){kept}; "
            f"{self.remedies.unreachable}, or " + self._by_hand(url)
        )

    def _by_hand(self, url: str) -> str:
        """Return the way out that always works."""
        return f"fetch {url} by other means and {self.remedies.by_hand}"


def size_text(size_bytes: int) -> str:
    """Return a size for people: ``3.75 GB``.

    Args:
        size_bytes: Number of bytes.
    """
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _progress_of(url: str, response: requests.Response) -> Progress:
    headers = response.headers
    total = headers.get("Content-Length")
    if response.status_code == _PARTIAL:
        total = headers.get("Content-Range", "").rpartition("/")[2]
    return Progress(
        url=url,
        validator=headers.get("ETag") or headers.get("Last-Modified"),
        size_bytes=int(total) if total and total.isdigit() else None,
    )


def _range_start(response: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
