"""Kind 1: nothing of an atomic file is lost, filled in or read as something else without a word."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recbole.data.dataset import KnowledgeBasedDataset

from recbole_llm import tables
from recbole_llm.config import Config
from recbole_llm.data.atomic import interaction_items, read_item_columns
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.data.items import Items, item_texts
from recbole_llm.splitting.frozen import write_frozen

HEADER = "user_id:token\titem_id:token\ttimestamp:float"
COLUMNS = ["user_id", "item_id", "timestamp"]


def toy() -> list[list[str]]:
    """30 users x 12 of 40 items."""
    drawn = random.Random(1)
    return [
        [f"u{user}", f"i{item}", str(1_600_000_000 + 1000 * user + 86_400 * step)]
        for user in range(30)
        for step, item in enumerate(drawn.sample(range(40), 12))
    ]


class Files:
    """Files of the dataset ``toy``, and what is read of them."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "toy"
        self.folder.mkdir()

    def write(self, rows: list[list[str]], header: str = HEADER, suffix: str = "inter") -> Path:
        text = "".join(f"{line}\n" for line in [header, *("\t".join(row) for row in rows)])
        return self.write_bytes(text.encode(), suffix)

    def write_bytes(self, content: bytes, suffix: str = "inter") -> Path:
        path = self.folder / f"toy.{suffix}"
        path.write_bytes(content)
        return path

    def config(self, **settings: object) -> Config:
        defaults = {"data_path": str(self.root), "load_col": {"inter": COLUMNS}}
        if "benchmark_filename" not in settings:
            defaults["protocol"] = "random811"
        return Config("BPR", "toy", overrides={**defaults, **settings})

    def rows(self, **settings: object) -> list[list[str]]:
        """Load the dataset; return its interactions as the file should have them."""
        dataset = MultimodalDataset(self.config(**settings))
        feat = dataset.inter_feat
        users, items = (dataset.id2token(name, feat[name].to_numpy()) for name in COLUMNS[:2])
        return [list(map(str, row)) for row in zip(users, items, strict=True)]

    def item_feat(self, columns: dict[str, list[str]]) -> tuple[pd.DataFrame, dict]:
        """Load the dataset; return the items' columns and the names of their ids."""
        dataset = MultimodalDataset(self.config(load_col=columns))
        return dataset.item_feat, dataset.field2id_token

    def fails(self, message: str, **settings: object) -> None:
        with pytest.raises(ValueError, match=message) as error:
            self.rows(**settings)
        assert "\n" not in str(error.value) and str(self.folder) in str(error.value)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def pairs(rows: list[list[str]]) -> list[list[str]]:
    return [row[:2] for row in rows]


# -- quotation marks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ['"Big Al', 'Big Al"', '"', '""', "'", '"Big" Al'])
def test_kind1_quotes_are_letters_of_a_name(files, name):
    rows = [[name if row[0] == "u7" else row[0], *row[1:]] for row in toy()]
    files.write(rows)
    assert files.rows() == pairs(rows)
    odd = [[name, "i1", "1600000000"], *rows]  # an odd number of quotation marks
    files.write(odd)
    assert files.rows() == pairs(odd)


def test_kind1_quotes_in_titles_leave_each_item_its_text(files):
    files.write(toy())
    titles = {f"i{item}": f"Title {item}" for item in range(40)}
    titles |= {"i9": '"Heroes, unfinished', "i22": 'A 12" ruler"'}
    rows = [list(pair) for pair in titles.items()]
    path = files.write(rows, "item_id:token\ttitle:token_seq", "item")
    config = files.config()
    assert read_item_columns(path, ["title"], config)["title"].to_dict() == titles
    tokens = ["[PAD]", *titles]
    assert item_texts(["title"], Items(config, tokens)) == list(titles.values())
    columns = {"inter": COLUMNS, "item": ["item_id", "title"]}
    feat, names = files.item_feat(columns)
    words = {
        names["item_id"][item]: [str(names["title"][word]) for word in ids]
        for item, ids in zip(feat["item_id"], feat["title"], strict=True)
    }
    assert words["i9"] == ['"Heroes,', "unfinished"]
    assert words["i22"] == ["A", '12"', 'ruler"']


# -- names -------------------------------------------------------------------------------------


def test_kind1_ids_are_names(files):
    names = ["NA", "null", "NULL", "None", "nan", "NaN", "N/A", "<NA>", "#N/A", "-nan", "n/a"]
    names += ["00123", "123", "1e5", "100000", "1.0", "True", " x", "x ", "\u2028", "a\x0bb", "#1"]
    rows = [[name, f"i{row % 7}", "1"] for row, name in enumerate(names)]
    rows += [[f"u{row % 7}", name, "1"] for row, name in enumerate(names)]
    files.write(rows)
    assert files.rows() == pairs(rows)
    assert interaction_items(files.config()) == {row[1] for row in rows}


def test_kind1_na_in_the_item_file_is_a_name(files):
    rows = toy()
    rows[0][1] = "NA"
    files.write(rows)
    path = files.write([["NA", "None"], ["i1", ""]], "item_id:token\tbrand:token", "item")
    columns = {"inter": COLUMNS, "item": ["item_id", "brand"]}
    feat, names = files.item_feat(columns)
    items, ids = names["item_id"][feat["item_id"]], feat["brand"].astype(int)
    brands = dict(zip(items, names["brand"][ids], strict=True))
    assert brands["NA"] == "None" and brands["i1"] == "[PAD]"
    assert read_item_columns(path, ["brand"], files.config()).loc["NA", "brand"] == "None"


# -- byte order marks and line ends ------------------------------------------------------------


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_kind1_marks_and_line_ends_are_alike(files, mark, end, last):
    rows = toy()
    path = files.write(rows)
    text = path.read_bytes() if last else path.read_bytes().removesuffix(b"\n")
    path.write_bytes(mark + text.replace(b"\n", end))
    assert files.rows() == pairs(rows)
    counts = {"source": len(rows), "train": 2, "valid": 1, "test": 1}
    manifest = {"dataset": "toy", "counts": counts, "protocol": "loo"}
    parts = [np.array(part) for part in ([0, 2], [1], [359])]
    split = write_frozen(files.folder / "splits/x", manifest, path, parts)
    lines = pd.read_csv(split.folder / "train.inter", sep="\t", encoding="utf-8-sig")
    assert lines["user_id:token"].tolist() == ["u0", "u0"]
    (files.folder / "item_ids.txt").write_bytes(mark + end.join([b"i1", b"i2"]) + end * last)
    files.write([["i1", "one"], ["i2", "two"]], "item_id:token\ttitle:token", "item")
    from recbole_llm.data.items import listed_rows

    assert listed_rows(Items(files.config(), []))[0] == ["i1", "i2"]


def test_kind1_blank_lines_are_no_rows(files):
    rows = toy()
    path = files.write(rows)
    path.write_text(path.read_text().replace("\nu5", "\n\n\nu5") + "\n\n")
    assert files.rows() == pairs(rows)
    rows[100][2] = "inf"
    path = files.write(rows)
    path.write_text(path.read_text().replace("\nu5", "\n\nu5"))
    files.fails("column 'timestamp' is infinite in 1 rows .first: line 114")  # 12 blank lines
    path.write_text("\n" + path.read_text())
    files.fails("line 1 is blank, expected a header")


# -- lines that are not whole ------------------------------------------------------------------


@pytest.mark.parametrize("cells", [["u1"], ["u1", "i1"], ["u1", "i1", "1", "2"], [" "]])
def test_kind1_lines_with_other_cells_are_refused(files, cells):
    rows = toy()
    rows.insert(200, cells)
    files.write(rows)
    files.fails(f"toy.inter: line 202 has {len(cells)} cells, expected 3")


def test_kind1_a_file_cut_in_a_line_is_refused(files):
    content = files.write(toy()).read_bytes()
    files.write_bytes(content[: content.rindex(b"\ti")])
    files.fails("toy.inter: line 361 has 1 cells, expected 3 .* cut off")
    files.write_bytes(content + b"\0" * 20)
    files.fails("line 362 holds a zero byte")


@pytest.mark.parametrize("suffix", ["user", "item"])
def test_kind1_all_atomic_files_are_checked(files, suffix):
    files.write(toy())
    name = f"{suffix}_id"
    column = {"inter": COLUMNS, suffix: [name, "age"]}
    files.write([["x", "1"], ["y", "2", "3"]], f"{name}:token\tage:float", suffix)
    files.fails(f"toy.{suffix}: line 3 has 3 cells", load_col=column)
    files.write([["x", "1"], ["y", "old"]], f"{name}:token\tage:float", suffix)
    files.fails(f"toy.{suffix}: line 3: column 'age', float, holds 'old'", load_col=column)
    files.write([["x", "1"], ["", "2"]], f"{name}:token\tage:float", suffix)
    files.fails(f"toy.{suffix}: column '{name}' is empty.*line 3", load_col=column)
    files.write([["x", "1"], ["y", "1e999"]], f"{name}:token\tage:float", suffix)
    files.fails(f"toy.{suffix}: line 3: column 'age', float, holds '1e999'", load_col=column)
    files.write([["x", "1"]], f"{name}:token\tage:float\tage:token", suffix)
    files.fails(f"toy.{suffix}: the header holds two columns 'age'", load_col=column)


def test_kind1_repeated_rows_of_an_item_are_counted(files, caplog):
    files.write(toy())
    rows = [["i1", "a"], ["i2", "b"], ["i1", "c"], ["i1", "d"]]
    files.write(rows, "item_id:token\tbrand:token", "item")
    columns = {"inter": COLUMNS, "item": ["item_id", "brand"]}
    feat, names = files.item_feat(columns)
    brand = feat.set_index("item_id")["brand"][list(names["item_id"]).index("i1")]
    assert names["brand"][int(brand)] == "a"
    assert "toy.item: 2 rows repeat an earlier item_id" in caplog.text


def test_kind1_filtered_interactions_are_counted(files, caplog):
    caplog.set_level("INFO")
    files.write(toy())
    known = {f"i{item}" for item in range(38)}
    files.write([[item, "x"] for item in sorted(known)], "item_id:token\tbrand:token", "item")
    n_unknown = sum(row[1] not in known for row in toy())
    rows = files.rows(load_col={"inter": COLUMNS, "item": ["item_id", "brand"]})
    assert len(rows) == 360 - n_unknown
    assert f"{n_unknown} of 360 interactions are left out" in caplog.text


def test_kind1_texts_are_read_with_the_same_checks(files, caplog):
    header = "item_id:token\ttitle:token_seq"
    path = files.write([["i1", "a"], ["i2", "b"], ["i1", "c"]], header, "item")
    assert read_item_columns(path, ["title"], files.config())["title"].to_dict() == {
        "i1": "a",
        "i2": "b",
    }
    assert "toy.item: 1 rows repeat an earlier item_id" in caplog.text
    files.write([["i1", "a"], ["", "b"]], header, "item")
    with pytest.raises(ValueError, match="toy.item: column 'item_id' is empty.*line 3"):
        read_item_columns(path, ["title"], files.config())
    files.write([["i1", "a"], ["i2"]], header, "item")
    with pytest.raises(ValueError, match="toy.item: line 3 has 1 cells"):
        read_item_columns(path, ["title"], files.config())


def test_kind1_an_average_rating_of_an_item_may_be_missing(files):
    files.write(toy())
    files.write([["i1", ""], ["i2", "3"]], "item_id:token\trating:float", "item")
    feat, _ = files.item_feat({"inter": COLUMNS, "item": ["item_id", "rating"]})
    assert (feat["rating"] == 3).all()


def test_kind1_a_file_without_rows_is_refused(files):
    files.write([])
    files.fails("toy.inter holds a header and no row")


def test_kind1_knowledge_files_are_checked(files):
    files.write(toy())
    files.write([[f"i{i}", f"e{i}"] for i in range(40)], "item_id:token\tentity_id:token", "link")
    header = "head_id:token\trelation_id:token\ttail_id:token"
    files.write([["NA", "r", "e1"], ['"e2', "r", "e3"]], header, "kg")
    columns = {
        "inter": COLUMNS,
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
    }
    settings = {"data_path": str(files.root), "load_col": columns, "protocol": "random811"}
    config = Config("CKE", "toy", overrides=settings)
    dataset = KnowledgeBasedDataset(config)
    heads = dataset.id2token("head_id", dataset.kg_feat["head_id"])
    assert [str(head) for head in heads] == ["NA", '"e2']
    files.write([["e0", "r", "e1"], ["e2", "", "e3"]], header, "kg")
    with pytest.raises(ValueError, match="toy.kg: column 'relation_id' is empty.*line 3"):
        KnowledgeBasedDataset(config)


def test_kind1_a_fixed_split_is_checked_too(files):
    rows = toy()
    for part in ("train", "valid", "test"):
        files.write(rows[:20], suffix=f"{part}.inter")
    parts = {"benchmark_filename": ["train", "valid", "test"]}
    assert len(files.rows(**parts)) == 60
    files.write([*rows[:20], ["u1"]], suffix="valid.inter")
    files.fails("toy.valid.inter: line 22 has 1 cells", **parts)


# -- missing and infinite values ---------------------------------------------------------------


def test_kind1_rows_without_user_or_item_are_refused(files):
    # RecBole dropped rows 102 and 103, and kept 100 and 101 as interactions with padding.
    rows = toy()[:300]
    rows[0][0] = rows[1][0] = ""
    rows[100][1] = rows[101][1] = ""
    files.write(rows)
    files.fails(r"toy.inter: column 'user_id' is empty .* in 2 rows \(first: line 2, 3\)")
    rows[0][0], rows[1][0] = "NA", "x"
    files.write(rows)
    files.fails(r"toy.inter: column 'item_id' is empty .* in 2 rows \(first: line 102, 103\)")
    rows[100][1], rows[101][1] = "null", "None"
    files.write(rows)
    assert files.rows() == pairs(rows)


@pytest.mark.parametrize("value", ["", "nan", "NaN", "NA", "inf", "-inf", "1e999", "Infinity"])
@pytest.mark.parametrize("protocol", ["loo", "random811"])
def test_kind1_missing_and_infinite_times_are_refused(files, value, protocol):
    rows = toy()
    rows[17][2] = value
    files.write(rows)
    with pytest.raises(ValueError, match="toy.inter: .*line 19") as error:
        MultimodalDataset(files.config(protocol=protocol))
    assert "column 'timestamp'" in str(error.value)


def test_kind1_a_missing_rating_is_refused_where_it_decides(files):
    header = f"{HEADER}\trating:float\tweight:float"
    rows = [[*row, "4", "1"] for row in toy()]
    rows[17][3] = ""
    files.write(rows, header)
    columns = {"inter": [*COLUMNS, "rating"]}
    message = "toy.inter: column 'rating' is empty or no number in 1 rows .first: line 19"
    files.fails(message, load_col=columns, val_interval={"rating": "[3,inf)"})
    rows[17][3:] = ["4", ""]
    files.write(rows, header)
    columns = {"inter": [*COLUMNS, "weight"]}
    files.fails("column 'weight'", load_col=columns, val_interval={"weight": "[0,inf)"})
    assert len(files.rows(load_col=columns)) == 360  # a feature may be missing


def test_kind1_a_text_that_is_no_number_has_its_line(files):
    rows = toy()
    rows[40][2] = "2020-01-01"
    files.write(rows)
    files.fails("toy.inter: line 42: column 'timestamp', float, holds '2020-01-01'")


def test_kind1_another_encoding_has_its_file_and_line(files):
    content = files.write(toy()).read_bytes()
    files.write_bytes(content.replace(b"u29\t", b"caf\xe9\t"))
    files.fails("toy.inter: near line .*encoding")
    rows = files.rows(encoding="latin-1")
    assert rows[-1][0] == "café" and len(rows) == 360
    files.write_bytes(content.decode().encode("utf-16"))
    files.fails("toy.inter")
    assert files.rows(encoding="utf-16") == pairs(toy())


# -- the counter itself ------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\t", ",", "|", "::", "é"])
@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_kind1_rows_are_counted_alike_in_any_block(tmp_path, monkeypatch, separator, n_columns):
    path = tmp_path / "table"
    lines = [separator.join(["naïve"] * n_columns) for _ in range(50)]
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(end.join(["", *lines[:20], "", "", *lines[20:], ""]).encode())
        for block in (1, 2, 7, 64, 1 << 18):
            monkeypatch.setattr(tables, "_BLOCK", block)
            assert tables.count_rows(path, n_columns, separator, "utf-8") == 49
            with pytest.raises(ValueError, match="line 2 has"):
                tables.count_rows(path, n_columns + 1, separator, "utf-8")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        tables.count_rows(path, 1, separator, "utf-8")
