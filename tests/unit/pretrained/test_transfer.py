from __future__ import annotations

import errno
import hashlib
import random
import shutil
from pathlib import Path

import pytest

from jmp_calc.errors import DownloadError
from jmp_calc.pretrained import transfer
from jmp_calc.pretrained.transfer import RangeDownloader, size_text
from range_server import RangeServer

OTHER = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def part(tmp_path) -> Path:
    return tmp_path / "jmp-x.pt.part"


def downloader(part: Path, **fields) -> RangeDownloader:
    return RangeDownloader(label="jmp-x", part=part, wait_seconds=0.0, **fields)


def download(server: RangeServer, part: Path, **fields) -> bytes:
    target = part.with_name("jmp-x.pt")
    downloader(part, **fields)(server.url, target, None)
    return target.read_bytes()


def interrupt(server: RangeServer, part: Path, received: int = 1_245_184) -> None:
    """Leave behind the beginning of a download."""
    server.cuts = [received] + [0] * 10
    with pytest.raises(DownloadError):
        download(server, part)
    server.cuts = []
    server.asked.clear()


def left_over(part: Path) -> list[str]:
    return sorted(path.name for path in part.parent.iterdir() if path.is_file())


def test_a_file_arrives_whole_and_nothing_else_stays(server, part):
    assert download(server, part) == server.content
    assert left_over(part) == ["jmp-x.pt"]


def test_the_hash_of_what_arrived_is_known_afterwards(server, part):
    receive = downloader(part)
    receive(server.url, part.with_name("x"), None)
    assert receive.sha256 == hashlib.sha256(server.content).hexdigest()


def test_a_lost_connection_is_taken_up_where_it_broke(server, part):
    server.cuts = [1_048_576, 524_288]
    assert download(server, part) == server.content
    assert server.asked == [None, "bytes=1048576-", "bytes=1572864-"]


def test_an_interrupted_download_says_that_its_part_is_kept(server, part):
    server.cuts = [1_245_184] + [0] * 10
    with pytest.raises(DownloadError, match=r"after 1\.25 MB, which are kept; run th"):
        download(server, part)
    assert part.read_bytes() == server.content[:1_245_184]


def test_a_later_download_goes_on_with_what_is_kept(server, part):
    interrupt(server, part)
    assert download(server, part) == server.content
    assert server.asked == ["bytes=1245184-"]


def test_a_server_without_ranges_sends_everything_again(server, part):
    interrupt(server, part)
    server.has_ranges = False
    assert download(server, part) == server.content
    assert server.asked == ["bytes=1245184-"]


def test_a_changed_file_is_downloaded_from_the_start(server, part):
    interrupt(server, part)
    server.content, server.etag = OTHER, '"two"'
    assert download(server, part) == OTHER


def test_a_changed_file_is_noticed_if_the_server_resumes_regardless(server, part):
    interrupt(server, part)
    server.content, server.etag, server.checks_if_range = OTHER, '"two"', False
    assert download(server, part) == OTHER
    assert server.asked == ["bytes=1245184-", None]


def test_a_file_that_changes_while_the_connection_is_lost_is_not_mixed(server, part):
    interrupt(server, part)
    server.content, server.etag, server.cuts = OTHER, '"two"', [1_500_000]
    assert download(server, part) == OTHER


def test_a_part_from_another_address_is_not_gone_on_with(server, part):
    interrupt(server, part)
    target = part.with_name("jmp-x.pt")
    downloader(part)(server.url.replace("jmp-x", "other"), target, None)
    assert server.asked == [None]


def test_a_server_that_names_no_version_is_not_trusted_to_resume(server, part):
    server.etag = None
    interrupt(server, part)
    assert download(server, part) == server.content
    assert server.asked == [None]


def test_a_part_that_is_already_whole_needs_no_more_bytes(server, part):
    interrupt(server, part)
    part.write_bytes(server.content)
    assert download(server, part) == server.content
    assert server.asked == ["bytes=3000000-"]


def test_a_part_that_is_too_long_is_discarded(server, part):
    interrupt(server, part)
    part.write_bytes(server.content + b"more")
    assert download(server, part) == server.content


def test_a_cut_off_note_about_the_part_starts_over(server, part):
    interrupt(server, part)
    part.with_name(part.name + ".json").write_text('{"url":')
    assert download(server, part) == server.content
    assert server.asked == [None]


def test_a_file_of_another_size_is_refused_before_it_is_downloaded(server, part):
    with pytest.raises(DownloadError, match="file of 3000000 bytes, but jmp-x has 7;"):
        download(server, part, size_bytes=7)
    assert left_over(part) == []


def test_too_few_bytes_from_a_server_that_names_no_size_are_not_kept(server, part):
    server.says_size, server.cuts = False, [100]
    with pytest.raises(DownloadError, match="100 bytes of jmp-x arrived instead of 30"):
        download(server, part, size_bytes=3_000_000)
    assert left_over(part) == []


def test_a_wrong_hash_shows_both_and_keeps_nothing(server, part):
    got, first = hashlib.sha256(server.content).hexdigest(), "0" * 64
    with pytest.raises(DownloadError, match=f"sha256 {got}, but the .* had {first}; n"):
        download(server, part, sha256=first)
    assert left_over(part) == []


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (403, r"refuses access \(HTTP 403\)"),
        (404, r"has no such file \(HTTP 404\)"),
        (503, r"has a problem; try again later \(HTTP 503\)"),
    ],
)
def test_a_refusal_of_the_server_says_which_and_what_to_do(
    server, part, status, problem
):
    server.status = status
    with pytest.raises(DownloadError, match=f"{problem}; fetch http://.*jmp-x.pt by "):
        download(server, part)


def test_a_login_page_is_not_taken_for_weights(server, part):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="a web page instead of a file"):
        download(server, part)
    assert left_over(part) == []


def test_a_server_that_is_not_there_is_not_waited_for(server, part):
    server.server_close()
    with pytest.raises(DownloadError, match=r"\(ConnectionError\); check the network"):
        RangeDownloader(label="jmp-x", part=part, wait_seconds=60.0)(
            server.url, part.with_name("x"), None
        )


def test_a_download_that_does_not_fit_on_the_disk_is_not_begun(
    server, part, monkeypatch
):
    usage = shutil.disk_usage(part.parent)._replace(free=2_000_000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"needs 3 MB more, .* has only 2 MB free"):
        download(server, part)


def test_what_is_already_there_counts_when_space_is_checked(server, part, monkeypatch):
    interrupt(server, part)
    usage = shutil.disk_usage(part.parent)._replace(free=2_000_000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    assert download(server, part) == server.content


def test_a_disk_that_fills_up_meanwhile_says_what_is_kept(server, part, monkeypatch):
    def write(self, *_, **__):
        part.write_bytes(b"123")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RangeDownloader, "_write", write)
    with pytest.raises(DownloadError, match=r"no space left in .* after 3 B of jmp-x"):
        download(server, part)
    assert part.read_bytes() == b"123"


def test_sizes_have_three_digits_and_a_unit():
    sizes = [size_text(n) for n in (12, 999, 12_345, 3_749_529_931)]
    assert sizes == ["12 B", "999 B", "12.3 kB", "3.75 GB"]
