"""Kind 1: a damaged file is a damaged file; nothing of it is written."""

import gzip
import io
import random
import tarfile
import zipfile

import pytest
from raw_files import tarred, zipped

from recbole_llm.prepare import lines
from recbole_llm.prepare.sources.movielens import MovieLens

YELP = ("yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Read 4 KiB at a time, so that the damage shows after many rows."""
    monkeypatch.setattr(lines, "_BLOCK", 1 << 12)


def table(n_lines):
    drawn = random.Random(0)
    rows = (f"u{drawn.randrange(n_lines)},i{drawn.randrange(n_lines)}\n" for _ in range(n_lines))
    return ("user_id,item_id\n" + "".join(rows)).encode()


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    place = len(content) * 7 // 10
    return (
        content[:place] + bytes(byte ^ 0xFF for byte in content[place:][:2]) + content[place + 2 :]
    )


def wrong_sum(content):
    return content[:-8] + bytes(4) + content[-4:]


@pytest.mark.parametrize("damage", [cut, flip, wrong_sum, lambda c: c[:-1], lambda c: c[:30]])
def test_kind1_a_damaged_gzip_of_interactions(builder, tmp_path, damage):
    path = tmp_path / "q.csv.gz"
    path.write_bytes(damage(gzip.compress(table(30_000), mtime=0)))
    message = builder.fails("csv", f"--inter={path}")
    assert f"{path} is truncated or damaged" in message and "\n" not in message.strip()
    assert not (builder.data_path / "q").exists()


def test_kind1_a_damaged_gzip_of_items(builder, tmp_path):
    (tmp_path / "q.csv").write_text("user_id,item_id\n" + "u1,i1\nu2,i2\n" * 3)
    titles = "item_id,title\n" + "".join(f"i{item},title {item}\n" for item in range(40))
    path = tmp_path / "items.csv.gz"
    path.write_bytes(gzip.compress(titles.encode())[:-30])
    message = builder.fails("csv", f"--inter={tmp_path}/q.csv", f"--item={path}")
    assert f"{path} is truncated or damaged" in message


@pytest.mark.parametrize("member", ["ratings.csv", "movies.csv"])
def test_kind1_a_damaged_member_of_a_zip(builder, server, member):
    movies = "movieId,title,genres\n" + "".join(f"{m},Title {m},Drama\n" for m in range(500))
    ratings = "userId,movieId,rating,timestamp\n" + "".join(
        f"{row % 50},{row % 500},4.0,{row}\n" for row in range(2000)
    )
    content = bytearray(zipped({"ml-20m/ratings.csv": ratings, "ml-20m/movies.csv": movies}))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = archive.getinfo(f"ml-20m/{member}")
        content[info.header_offset + 60 + info.compress_size // 2] ^= 0xFF
    server.publish(MovieLens.addresses["archive"].format("20m"), bytes(content))
    message = builder.fails("movielens", "--size=20m", f"--mirror={server.url}")
    assert "ml-20m.zip is truncated or damaged" in message


def test_kind1_an_encrypted_zip(builder, server):
    content = bytearray(zipped({"ml-100k/u.data": "1\t2\t3\t4\n", "ml-100k/u.item": "x"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag of both headers
        place = content.find(magic)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(magic, place + 1)
    server.publish(MovieLens.addresses["archive"].format("100k"), bytes(content))
    message = builder.fails("movielens", "--size=100k", f"--mirror={server.url}")
    assert "ml-100k.zip cannot be read" in message and "encrypted" in message


@pytest.mark.parametrize("target", ["elsewhere.json", YELP[0]])
def test_kind1_a_link_in_a_tar(builder, tmp_path, target):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(YELP[0])
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
    (tmp_path / "yelp_dataset.tar").write_bytes(buffer.getvalue())
    message = builder.fails("yelp", f"--raw_dir={tmp_path}")
    assert f"yelp_dataset.tar: {YELP[0]} is a link or a folder" in message


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_kind1_a_damaged_tar(builder, tmp_path, mode):
    drawn = random.Random(0)
    text = "".join(f'{{"user_id": "{drawn.random()}"}}\n' for _ in range(20_000))
    content = bytearray(tarred({YELP[0]: text, YELP[1]: text}, mode))
    del content[len(content) // 3 :]
    (tmp_path / "yelp_dataset.tar").write_bytes(bytes(content))
    message = builder.fails("yelp", f"--raw_dir={tmp_path}")
    assert "yelp_dataset.tar is truncated or damaged" in message


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_kind1_a_line_without_end_is_refused(builder, tmp_path, monkeypatch, pack):
    monkeypatch.setattr(lines, "_BLOCK", 1 << 20)
    monkeypatch.setattr(lines, "_LONGEST", 3 << 20)
    path = tmp_path / ("q.csv" if pack is bytes else "q.csv.gz")
    path.write_bytes(pack(b"user_id,item_id\nu1,i1\n" + b"x" * (200 << 20)))
    message = builder.fails("csv", f"--inter={path}")
    assert f"{path}: line 3 is longer than 3 MiB" in message


def test_kind1_what_a_gzip_expands_to_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(lines, "_EXPANDED", 1000)
    content = b"a\n" * 1_000_000
    pieces = list(lines._gunzip(iter([gzip.compress(content), gzip.compress(content)])))
    assert max(map(len, pieces)) <= 1000 and b"".join(pieces) == content * 2
