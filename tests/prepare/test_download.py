import gzip
import json
import random
import time

import pytest
from file_server import (
    FileServer,
    drop_after,
    hang_up,
    ignore_range,
    ignore_range_and_drop,
    page,
    shifted_range,
    status,
)

from recbole_llm.prepare.raw_files import RawFile, fetch_all
from recbole_llm.prepare.sources.amazon2014 import Amazon2014

CONTENT = bytes(range(256)) * 400
FILE = RawFile("data", "https://official.example/some/path/data.bin", "data.bin")


@pytest.fixture
def fetcher(server: FileServer, tmp_path):
    """Return a function that fetches FILE and checks that it came whole."""
    server.publish(FILE.address, CONTENT)
    told = []

    def call(**options):
        found = fetch_all(
            [FILE], tmp_path / "raw", mirror=server.url, report=told.append, **options
        )
        assert found["data"].path.read_bytes() == CONTENT
        return found["data"]

    call.folder, call.told = tmp_path / "raw", told
    return call


def ranges(server):
    return [span for _, span in server.asked]


def test_a_file_is_fetched_once_and_noted(fetcher, server):
    note = fetcher().note
    assert fetcher().note == note
    assert server.asked == [("/some/path/data.bin", "")]
    assert note["fetched_from"] == f"{server.url}/some/path/data.bin"
    assert note["address"] == FILE.address and note["size"] == len(CONTENT)
    assert sorted(path.name for path in fetcher.folder.iterdir() if path.suffix != ".lock") == [
        "data.bin",
        "data.bin.origin.json",
    ]


def test_a_file_that_was_changed_by_hand_is_not_said_to_be_fetched(fetcher, server):
    fetcher()
    path = fetcher.folder / "data.bin"
    path.write_bytes(CONTENT + b"more")
    found = fetch_all([FILE], fetcher.folder)["data"]
    assert found.note["fetched_from"] is None and found.note["size"] == len(CONTENT) + 4


def test_a_dropped_connection_goes_on_where_it_broke(fetcher, server):
    server.faults = [drop_after(30_000), drop_after(1_000), hang_up]
    fetcher()
    assert ranges(server) == ["", "bytes=30000-", "bytes=31000-", "bytes=31000-"]
    assert "from byte 30,000" in fetcher.told[1]


def test_a_server_without_ranges_starts_over(fetcher, server):
    server.faults = [drop_after(30_000), ignore_range_and_drop(20_000), ignore_range]
    fetcher()
    assert ranges(server) == ["", "bytes=30000-", "bytes=20000-"]


def test_a_file_that_changed_meanwhile_starts_over(fetcher, server):
    old = bytes(reversed(CONTENT))
    server.publish(FILE.address, old)
    server.faults = [drop_after(30_000), status(503), status(503)]
    with pytest.raises(OSError, match="503"):
        fetcher(retries=1)
    server.publish(FILE.address, CONTENT)
    fetcher()
    assert ranges(server)[-1] == "bytes=30000-"


@pytest.mark.parametrize("span", ["bytes 0-9/10", "bytes 30000-102399/999999", ""])
def test_a_wrong_range_is_not_appended(fetcher, server, span):
    def wrong(handler, content):
        handler.send_response(206)
        handler.send_header("Content-Range", span)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"x" * 10)

    server.faults = [drop_after(30_000), wrong]
    fetcher()
    assert ranges(server) == ["", "bytes=30000-", ""]


@pytest.mark.parametrize("by", [-500, 500])
def test_a_shifted_range_is_not_appended(fetcher, server, by):
    server.faults = [drop_after(30_000), shifted_range(by)]
    fetcher()
    assert ranges(server) == ["", "bytes=30000-", ""]


def test_progress_renews_the_attempts(fetcher, server):
    server.faults = [drop_after(10_000)] * 8
    fetcher(retries=1)
    assert len(server.asked) == 9


def test_attempts_end(fetcher, server):
    server.faults = [status(503)] * 9
    with pytest.raises(OSError, match=r"503.*3 attempts in a row") as caught:
        fetcher(retries=2)
    assert len(server.asked) == 3
    assert FILE.address in str(caught.value)
    assert f"-> {fetcher.folder / 'data.bin'}" in str(caught.value)


def test_retry_after_is_honoured(fetcher, server, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    server.faults = [status(429, retry_after="7"), status(503, retry_after="9999"), hang_up]
    fetcher()
    assert waits == [7.0, 60.0, 0.004]


def test_what_does_not_pass_is_not_tried_again(fetcher, server):
    server.faults = [status(403)]
    with pytest.raises(OSError, match="403 Forbidden"):
        fetcher()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "fault",
    [
        page("application/octet-stream"),
        page("application/octet-stream", b"\n  <HTML>\n"),
        page("text/html; charset=utf-8", b"<p>Gone.</p>"),
    ],
)
def test_a_page_is_not_taken_for_the_file(fetcher, server, fault):
    server.faults = [fault]
    with pytest.raises(OSError, match="HTML page"):
        fetcher()
    assert not (fetcher.folder / "data.bin").exists()
    fetcher()


def test_no_connection(tmp_path):
    with pytest.raises(OSError, match="no connection: .*refused") as caught:
        fetch_all(
            [FILE], tmp_path, mirror="http://127.0.0.1:9", retries=0, report=lambda text: None
        )
    assert FILE.address in str(caught.value)


# -- through the command: each ends right, or with an error and without a dataset -----------------


def test_faults_of_all_kinds_and_the_right_end(builder, shop):
    size = len(shop.server.files[shop.path("reviews")])
    shop.server.faults = [drop_after(size // 2), status(500), ignore_range, hang_up]
    builder(*shop.arguments)
    assert len(builder.table("sports")) == 108
    assert f"bytes={size // 2}-" in ranges(shop.server)


def test_truncated_gzip(builder, shop):
    for kept in (0.4, 0.9):
        content = shop.server.files[shop.path("reviews")]
        shop.server.files[shop.path("reviews")] = content[: int(len(content) * kept)]
        message = builder.fails(*shop.arguments)
        assert "reviews_Sports_and_Outdoors_5.json.gz is truncated or damaged" in message
        shop.server.files[shop.path("reviews")] = content
        (builder.data_path / "raw/amazon2014/reviews_Sports_and_Outdoors_5.json.gz").unlink()
    builder(*shop.arguments)


def test_flipped_bit_in_gzip(builder, shop):
    content = bytearray(shop.server.files[shop.path("metadata")])
    content[len(content) // 2] ^= 16
    shop.server.files[shop.path("metadata")] = bytes(content)
    message = builder.fails(*shop.arguments)
    assert "meta_Sports_and_Outdoors.json.gz is truncated or damaged" in message


def test_error_page_in_place_of_a_file(builder, shop):
    shop.server.faults = [page("application/x-gzip")]
    assert "HTML page" in builder.fails(*shop.arguments)


def test_error_page_put_there_by_hand(builder, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "ml-1m.zip").write_bytes(b"\n<html><body>404</body></html>")
    message = builder.fails("movielens", "--size=1m", f"--raw_dir={raw}")
    assert "ml-1m.zip is an HTML page" in message
    (raw / "ml-1m.zip").write_bytes(b"Rar!")
    assert "ml-1m.zip is no .zip file" in builder.fails(
        "movielens", "--size=1m", f"--raw_dir={raw}"
    )


def test_offline_says_which_files_from_where_go_where(builder):
    message = builder.fails(
        "amazon2014", "--category=Baby", "--mirror=http://127.0.0.1:9", "--retries=0"
    )
    for role in ("reviews", "metadata"):
        address = Amazon2014.addresses[role].format("Baby")
        place = builder.data_path / "raw" / "amazon2014" / address.rpartition("/")[2]
        assert f"{address}\n        -> {place}" in message
    assert "by hand (--raw_dir names another folder)" in message


def test_the_mirror_is_noted(builder, shop):
    builder(*shop.arguments)
    for note in builder.manifest("sports")["raw_files"]:
        assert note["address"].startswith("https://snap.stanford.edu/")
        assert note["fetched_from"].startswith(shop.server.url)


def test_several_gzip_members_are_read(builder, shop):
    lines = gzip.decompress(shop.server.files[shop.path("reviews")]).splitlines(keepends=True)
    parts = [gzip.compress(b"".join(lines[a : a + 25])) for a in range(0, len(lines), 25)]
    shop.server.files[shop.path("reviews")] = b"".join(parts) + b"\0" * 512
    builder(*shop.arguments)
    assert len(builder.table("sports")) == 108


def test_the_manifest_is_json_and_names_the_version(builder, shop):
    builder(*shop.arguments)
    text = (builder.data_path / "sports" / "manifest.json").read_text()
    assert json.loads(text)["package"].startswith("recbole-llm ")


def test_kind10_a_mirror_s_password_is_neither_told_nor_noted(server, tmp_path):
    server.publish(FILE.address, CONTENT)
    mirror = server.url.replace("http://", "http://ann:Canary-7h9Q2x@")
    told: list[str] = []
    found = fetch_all([FILE], tmp_path, mirror=mirror, report=told.append)["data"]
    assert "http://ann:***@" in told[0] and "ann:***@" in found.note["fetched_from"]
    assert not any(b"Canary" in path.read_bytes() for path in tmp_path.rglob("*.*"))
    assert "Canary" not in str(told)
