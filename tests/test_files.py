"""Files and folders appear whole or not at all, under a name that stays where it belongs."""

import errno
import os
from pathlib import Path

import pytest

from recbole_llm.files import (
    check_name,
    read_text,
    recover_folder,
    replacing,
    replacing_folder,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_takes_its_place_once_it_is_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path, durable) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and names(tmp_path) == {"file"}


def test_an_error_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and names(tmp_path) == {"file"}


def test_a_durable_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "file").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "file", durable=True) as file:
        file.write(b"content")
    assert synced == [(7, False)]


def test_a_folder_takes_its_place_once_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "parent" / "folder"
    for content in ("first", "second"):
        with replacing_folder(folder) as partial:
            (partial / content).touch()
            assert names(folder) == {"first"} if folder.exists() else content == "first"
        assert names(folder) == {content}
    assert names(folder.parent) == {"folder"}


def test_an_error_keeps_the_older_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with replacing_folder(folder) as partial:
        (partial / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as partial:
        (partial / "new").touch()
        raise KeyboardInterrupt
    assert names(folder) == {"old"} and names(tmp_path) == {"folder"}


def test_a_folder_is_recovered_after_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    for name in (".folder.old", ".folder.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".folder.old" / "old").touch()
    recover_folder(tmp_path / "folder")
    assert names(tmp_path) == {"folder"} and names(tmp_path / "folder") == {"old"}


@pytest.mark.parametrize("name", ["sports", "ml-100k", "a.b", "_1", "Ä"])
def test_a_name_that_stays_in_its_folder(name: str) -> None:
    assert check_name("split", name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "a/b", "../x", "/abs", "a\n", "a b"])
def test_a_name_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="^split: the name .* must be a folder's name"):
        check_name("split", name)


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("old")
    for number, name in ((errno.ENOSPC, str(path)), (errno.ECONNRESET, None)):
        with pytest.raises(OSError) as caught, replacing(path):
            raise OSError(number, os.strerror(number))
        assert caught.value.filename == name and path.read_text() == "old"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xef\xbb\xbfa\r\nb\rc\n", "a\nb\nc\n"),
        ("caf\u00e9\u2028x\n".encode(), "caf\u00e9\u2028x\n"),
        (b"", ""),
    ],
)
def test_a_text_is_read_with_line_feeds(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert read_text(tmp_path / "a.txt") == text


def test_a_text_of_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(ValueError, match=r"a\.txt, line 3: the text is not UTF-8"):
        read_text(tmp_path / "a.txt")
