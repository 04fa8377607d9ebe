"""Own tables through ``prepare csv``, and atomic files through RecBole: nothing is lost."""

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from fuzzing import FUZZ, damaged, names
from hypothesis import given
from hypothesis import strategies as st

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset

ROWS = st.lists(
    st.tuples(names, names, st.sampled_from([1.0, 2.5, 5.0]), st.integers(0, 10**9)),
    min_size=1,
    max_size=8,
)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
HEADER = ("user_id", "item_id", "rating", "time")
COLUMNS = ["--rating_column=rating", "--time_column=time", "--duplicates=all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def written(rows: list[tuple], separator: str, line_end: str) -> bytes:
    """Return a table: quoted as CSV, or between tabs as it is."""
    table = [HEADER, *rows]
    if separator == "\t":
        return line_end.join("\t".join(map(str, row)) for row in [*table, ()]).encode()
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end).writerows(table)
    return text.getvalue().encode()


def n_lines(content: bytes) -> int:
    """Count the lines that hold a character, the header left out."""
    lines = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return sum(line != b"" for line in lines) - 1


def prepared(folder: Path, file: Path, *words: str) -> tuple[int, Path]:
    """Return the exit status of ``prepare csv``, and the folder that it writes."""
    line = ["prepare", "csv", f"--inter={file}", "--name=own", f"--data_path={folder}"]
    return main([*line, "--overwrite", *COLUMNS, *words]), folder / "own"


def interactions(config: Config) -> tuple[MultimodalDataset, Counter]:
    """Return a dataset, and its interactions by token."""
    dataset = MultimodalDataset(config)
    feat = dataset.inter_feat
    users = dataset.id2token("user_id", feat["user_id"]).tolist()
    items = dataset.id2token("item_id", feat["item_id"]).tolist()
    times = feat["timestamp"].astype(float).tolist()
    return dataset, Counter(zip(users, items, times, strict=True))


def config_of(folder: Path, **settings: object) -> Config:
    quiet = {"data_path": str(folder), "show_progress": False, "modalities": {}}
    return Config("BPR", "own", overrides={"protocol": "random811", **quiet, **settings})


@FUZZ
@given(rows=ROWS, separator=st.sampled_from(",;\t|"), line_end=LINE_ENDS, mark=st.booleans())
def test_names_and_numbers_of_own_tables_arrive(folder, capsys, rows, separator, line_end, mark):
    file = folder / "table.csv"
    file.write_bytes(b"\xef\xbb\xbf" * mark + written(rows, separator, line_end))
    status, dataset = prepared(folder, file, f"--separator={separator}")
    assert status == 0, capsys.readouterr().err
    assert json.loads((dataset / "manifest.json").read_text())["steps"]["kept"] == len(rows)
    _, found = interactions(config_of(folder))
    assert found == Counter((user, item, float(time)) for user, item, _, time in rows)


@FUZZ
@given(data=st.data(), rows=ROWS, separator=st.sampled_from(",;\t"), packed=st.booleans())
def test_damaged_own_tables(folder, capsys, data, rows, separator, packed):
    whole = written(rows, separator, "\n")
    content = damaged(data, whole)
    file = folder / ("damaged.csv.gz" if packed else "damaged.csv")
    file.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    capsys.readouterr()
    words = ["--allow_malformed"] if data.draw(st.booleans(), label="allow") else []
    status, dataset = prepared(folder, file, *words)
    err = capsys.readouterr().err
    if status:
        assert status == 2 and "error: " in err
        assert file.name in err or "column=" in err or "no interaction is left" in err
        return
    manifest = json.loads((dataset / "manifest.json").read_text())
    count = manifest["lines"][file.name]
    assert count["read"] == n_lines(content)
    assert manifest["steps"]["read"] == count["read"] - count["malformed"]
    if not words:
        assert count["malformed"] <= 0.02 * count["read"]
    _, found = interactions(config_of(folder))
    assert sum(found.values()) == manifest["steps"]["kept"]


@FUZZ
@given(data=st.data(), rows=ROWS)
def test_a_damaged_gzip(folder, capsys, data, rows):
    content = damaged(data, gzip.compress(written(rows, ",", "\n"), mtime=0))
    file = folder / "cut.csv.gz"
    file.write_bytes(content)
    capsys.readouterr()
    status, dataset = prepared(folder, file)
    if status:
        assert status == 2 and str(file) in capsys.readouterr().err
        return
    assert json.loads((dataset / "manifest.json").read_text())["steps"]["kept"] == len(rows)


@FUZZ
@given(rows=ROWS, line_end=LINE_ENDS, titles=st.lists(names, min_size=8, max_size=8))
def test_names_and_texts_of_atomic_files_arrive(folder, rows, line_end, titles):
    own = folder / "own"
    own.mkdir(exist_ok=True)
    for file in own.iterdir():
        file.unlink()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    lines = [f"{user}\t{item}\t{time}" for user, item, _, time in rows]
    (own / "own.inter").write_bytes(line_end.join([header, *lines, ""]).encode())
    items = dict(zip(dict.fromkeys(row[1] for row in rows), titles, strict=False))
    lines = [f"{item}\t{title}" for item, title in items.items()]
    text = line_end.join(["item_id:token\ttitle:token_seq", *lines, ""])
    (own / "own.item").write_bytes(text.encode())
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
    dataset, found = interactions(config_of(folder, load_col=columns))
    assert found == Counter((user, item, float(time)) for user, item, _, time in rows)
    words = dataset.field2id_token["title"]
    rows_of = zip(dataset.item_feat["item_id"], dataset.item_feat["title"], strict=True)
    for item, cell in rows_of:
        if item == 0:  # padding
            continue
        title = items[dataset.id2token("item_id", item)]
        assert words[cell].tolist() == [word for word in title.split(" ") if word]


@FUZZ
@given(data=st.data(), rows=ROWS)
def test_damaged_atomic_files(folder, data, rows):
    own = folder / "own"
    own.mkdir(exist_ok=True)
    for file in own.iterdir():
        file.unlink()
    header = "user_id:token\titem_id:token\ttimestamp:float\n"
    lines = [f"{user}\t{item}\t{time}\n" for user, item, _, time in rows]
    content = damaged(data, "".join([header, *lines]).encode())
    (own / "own.inter").write_bytes(content)
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    try:
        dataset, found = interactions(config_of(folder, load_col=columns))
    except ValueError as error:
        assert "own.inter" in str(error)
        return
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    rows = [line.split("\t") for line in text.split("\n")[1:] if line]
    assert found == Counter((user, item, float(time)) for user, item, time in rows)
