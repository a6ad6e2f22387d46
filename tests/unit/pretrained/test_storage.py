from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pooch
import pytest

from jmp_calc.errors import DownloadError
from jmp_calc.pretrained import PRETRAINED, Pretrained
from jmp_calc.pretrained.storage import (
    cache_folder,
    fetch,
    presence,
    read_record,
    source_of,
    verify,
)
from range_server import RangeServer

TWO_AT_ONCE = """
import sys
from jmp_calc.pretrained import Pretrained
from jmp_calc.pretrained.storage import fetch
fetch(Pretrained(name="jmp-x", file="jmp-x.pt", url=sys.argv[1], size_bytes=None,
                 licence="MIT", description="", heads=None))
"""


@pytest.fixture
def model(server: RangeServer) -> Pretrained:
    """A named model that the local server has."""
    return Pretrained(
        name="jmp-x",
        file="jmp-x.pt",
        url=server.url,
        size_bytes=None,
        licence="MIT",
        description="a toy",
        heads=None,
    )


@pytest.fixture
def no_socket(monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def swap_a_bit(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_model_is_downloaded_into_the_folder_of_the_environment_variable(
    model, server, home
):
    path = fetch(model)
    assert path == home / "jmp-x.pt"
    assert path.read_bytes() == server.content


def test_without_the_variable_the_folder_is_that_of_the_platform(monkeypatch):
    monkeypatch.delenv("JMP_CALC_HOME")
    assert cache_folder() == Path(pooch.os_cache("jmp-calc"))


def test_the_first_download_records_hash_size_and_source(model, server, home):
    fetch(model)
    record = json.loads((home / "jmp-x.pt.json").read_text())
    assert record["sha256"] == sha256(server.content)
    assert (record["size_bytes"], record["url"]) == (3_000_000, server.url)


def test_a_model_that_is_there_is_not_downloaded_again(model, server):
    fetch(model)
    fetch(model)
    assert server.asked == [None]


def test_a_download_leaves_the_log_level_of_pooch_alone_and_stderr_empty(model, capfd):
    level = pooch.get_logger().level
    fetch(model)
    assert pooch.get_logger().level == level
    assert capfd.readouterr() == ("", "")


def test_a_changed_file_is_an_error_with_both_hashes_and_stays(model, server):
    path = fetch(model)
    swap_a_bit(path)
    now = sha256(path.read_bytes())
    with pytest.raises(
        DownloadError, match=f"sha256 is {now}, recorded was {sha256(server.content)}"
    ):
        fetch(model)
    assert sha256(path.read_bytes()) == now


def test_a_change_that_keeps_the_time_stamp_is_found_by_verify(model):
    path = fetch(model)
    before = path.stat()
    swap_a_bit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    fetch(model)
    with pytest.raises(DownloadError, match="Nothing was deleted: move the file away"):
        verify(model)


def test_a_copied_file_with_the_same_content_is_accepted_and_read_once(model):
    path = fetch(model)
    os.utime(path, ns=(0, 12_000_000_000))
    fetch(model)
    assert read_record(model).verified_mtime_ns == 12_000_000_000


def test_a_shortened_file_is_an_error_that_names_both_sizes(model):
    path = fetch(model)
    path.write_bytes(b"123")
    with pytest.raises(DownloadError, match="has 3 bytes instead of 3000000"):
        fetch(model)


def test_a_file_put_there_by_hand_is_taken_and_its_hash_recorded(
    model, home, no_socket
):
    home.mkdir()
    (home / "jmp-x.pt").write_bytes(b"by hand")
    assert fetch(model).read_bytes() == b"by hand"
    record = read_record(model)
    assert (record.sha256, record.url) == (sha256(b"by hand"), None)


def test_half_of_a_published_file_put_there_by_hand_is_refused(model, home):
    home.mkdir()
    (home / "jmp-x.pt").write_bytes(b"by ha")
    with pytest.raises(DownloadError, match="has 5 bytes instead of 7; it is not"):
        fetch(replace(model, size_bytes=7))


def test_a_new_download_must_have_the_recorded_hash(model, server):
    path = fetch(model)
    path.unlink()
    server.content = b"something else"
    with pytest.raises(DownloadError, match=r"delete .*jmp-x\.pt\.json and download"):
        fetch(model)
    assert not path.exists()


def test_a_damaged_record_says_what_to_delete(model, home):
    fetch(model)
    (home / "jmp-x.pt.json").write_text("{")
    with pytest.raises(DownloadError, match=r"jmp-x.pt.json, .* is damaged; delete it"):
        fetch(model)


def test_verifying_what_is_not_there_says_how_to_get_it(model):
    with pytest.raises(DownloadError, match="'jmp-md models download jmp-x'"):
        verify(model)


@pytest.mark.parametrize("name", ["jmp-small", "jmp-large"])
def test_offline_makes_no_socket_and_says_what_to_do(name, no_socket):
    with pytest.raises(DownloadError, match=r"switched off .* give the path of"):
        fetch(PRETRAINED[name], offline=True)


def test_the_environment_can_forbid_downloads_too(model, no_socket, monkeypatch):
    monkeypatch.setenv("JMP_CALC_OFFLINE", "1")
    with pytest.raises(DownloadError, match="JMP_CALC_OFFLINE"):
        fetch(model)


def test_offline_uses_what_is_there(model, no_socket, home):
    home.mkdir()
    (home / "jmp-x.pt").write_bytes(b"by hand")
    assert fetch(model, offline=True) == home / "jmp-x.pt"


def test_offline_set_to_zero_allows_downloads(model, monkeypatch):
    monkeypatch.setenv("JMP_CALC_OFFLINE", "0")
    assert fetch(model).is_file()


def test_a_mirror_is_asked_instead_of_the_publisher(model, server, monkeypatch):
    monkeypatch.setenv("JMP_CALC_MIRROR", server.url.replace("jmp-x.pt", "copies/"))
    fetch(replace(model, url="http://127.0.0.1:1/jmp-x.pt"))
    assert read_record(model).url == server.url.replace("jmp-x.pt", "copies/jmp-x.pt")


def test_a_mirror_that_is_no_address_is_refused(model, monkeypatch):
    monkeypatch.setenv("JMP_CALC_MIRROR", "/mnt/weights")
    with pytest.raises(DownloadError, match="is '/mnt/weights'; it must be the http"):
        source_of(model)


def test_a_folder_that_cannot_be_written_says_which_variable_to_set(model, home):
    home.write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"cannot write to .*home.*set JMP_CALC"):
        fetch(model)


def test_a_missing_bundled_model_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("jmp_calc.pretrained.storage.BUNDLED", tmp_path)
    with pytest.raises(
        DownloadError, match=r"jmp-nano is part of .*, but .* is missing"
    ):
        fetch(PRETRAINED["jmp-nano"])


def test_presence_tells_how_much_of_an_unfinished_download_is_there(model, home):
    home.mkdir()
    (home / "jmp-x.pt.part").write_bytes(b"12345")
    found = presence(model)
    assert (found.is_present, found.partial_bytes, found.size_bytes) == (False, 5, None)


def test_two_processes_at_once_download_a_file_once(model, server):
    server.delay_seconds = 0.5
    command = [sys.executable, "-c", TWO_AT_ONCE, server.url]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert server.asked == [None]
    assert verify(model).sha256 == sha256(server.content)


def test_who_waits_for_another_process_is_told(model, home, caplog, monkeypatch):
    import filelock

    home.mkdir()
    other = filelock.FileLock(home / "jmp-x.pt.lock", is_singleton=False)
    other.acquire()
    acquire = filelock.FileLock.acquire

    def give_way(self, timeout=None, **options):
        if timeout is None:
            other.release()
        return acquire(self, timeout, **options)

    monkeypatch.setattr(filelock.FileLock, "acquire", give_way)
    with caplog.at_level(logging.WARNING):
        fetch(model)
    assert "another process is downloading jmp-x; waiting" in caplog.text
