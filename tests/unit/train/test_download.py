from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jmp_calc.errors import ArgumentError, DownloadError
from jmp_train.data.download import choose_files, fetch_files
from jmp_train.data.families import FAMILIES
from jmp_train.data.source import Download
from range_server import RangeServer, serve

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serve(CONTENT) as running:
        yield running


def file_of(server: RangeServer, **facts: object) -> Download:
    return Download(**({"url": server.url, "file": "set.h5"} | facts))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_and_is_checked_against_its_hash(server, tmp_path) -> None:
    md5 = hashlib.md5(CONTENT).hexdigest()
    (found,) = fetch_files([file_of(server, md5=md5)], tmp_path / "new" / "folder")
    assert found.path.read_bytes() == CONTENT
    assert (found.was_there, found.check) == (False, "md5 as published")
    assert names(found.path.parent) == ["set.h5"]


def test_a_transfer_that_was_interrupted_goes_on(server, tmp_path) -> None:
    server.cuts = [400_000] + [0] * 10
    with pytest.raises(DownloadError, match=r"which are kept; run this again to go on"):
        fetch_files([file_of(server)], tmp_path, wait_seconds=0.0)
    server.cuts = []
    server.asked.clear()
    (found,) = fetch_files([file_of(server)], tmp_path)
    assert found.path.read_bytes() == CONTENT
    # a chunk that is not complete is not kept
    assert server.asked == ["bytes=393216-"]


def test_a_file_that_is_not_the_published_one_is_not_kept(server, tmp_path) -> None:
    with pytest.raises(DownloadError, match=r"has sha256 [0-9a-f]{64}, but 00 is pub"):
        fetch_files([file_of(server, sha256="00")], tmp_path)
    assert names(tmp_path) == []


def test_a_file_of_another_size_is_refused(server, tmp_path) -> None:
    with pytest.raises(DownloadError, match=r"a file of 1024000 bytes, but set.h5 has"):
        fetch_files([file_of(server, size=5)], tmp_path)


def test_a_file_that_is_there_is_checked_and_not_fetched(server, tmp_path) -> None:
    (tmp_path / "set.h5").write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    (found,) = fetch_files([file_of(server, sha256=sha256)], tmp_path)
    assert (found.was_there, found.check) == (True, "sha256 as published")
    assert server.asked == []


def test_a_damaged_file_that_is_there_is_an_error_and_stays(server, tmp_path) -> None:
    (tmp_path / "set.h5").write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"set\.h5 has 7 bytes instead of 1024000"):
        fetch_files([file_of(server, size=len(CONTENT))], tmp_path)
    assert (tmp_path / "set.h5").exists()


def test_advice_is_about_data_and_not_about_models(server, tmp_path) -> None:
    server.status = 404
    with pytest.raises(DownloadError, match="put the file into the folder") as caught:
        fetch_files([file_of(server)], tmp_path)
    assert "model" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=r"cannot write into .*another folder"):
        fetch_files([file_of(server)], tmp_path / "file" / "folder")


def test_an_unknown_file_lists_those_there_are() -> None:
    with pytest.raises(ArgumentError, match=r"no file 's2ef_val'.*s2ef_val_id.tar"):
        choose_files(FAMILIES["oc20"], ["s2ef_val"])


def test_a_set_without_published_files_says_what_it_is_made_from() -> None:
    with pytest.raises(ArgumentError, match="'user' has no files to download; it is"):
        choose_files(FAMILIES["user"], [])


@pytest.mark.parametrize("name", FAMILIES)
def test_published_files_have_names_of_their_own_and_secure_or_listed_addresses(
    name,
) -> None:
    downloads = FAMILIES[name].downloads
    files = [download.file for download in downloads]
    assert len(set(files)) == len(files)
    assert all(Path(file).name == file for file in files)
    # the publisher of MD22 offers no secure address
    allowed = ("https://", "http://www.quantum-machine.org/")
    assert all(download.url.startswith(allowed) for download in downloads)
