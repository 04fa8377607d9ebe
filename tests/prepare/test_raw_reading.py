"""Kind 1: no line of a raw file is lost or read as something else without a word."""

import gzip
import json
import random

import pytest
from raw_files import asin, events, gz_lines, reviews

from recbole_llm.cli.main import run_recbole
from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.prepare.markup import plain_text
from recbole_llm.prepare.sources.amazon2018 import Amazon2018


def toy():
    """30 users x 12 of 40 items."""
    drawn = random.Random(1)
    return [
        [f"u{user}", f"i{item}", str(drawn.randint(1, 5)), str(1_600_000_000 + 86_400 * step)]
        for user in range(30)
        for step, item in enumerate(drawn.sample(range(40), 12))
    ]


def write(path, rows, separator="\t"):
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    return path


def comments(rows, texts):
    """The rows with a header and a comment each, those of ``texts`` at their lines of the file."""
    table = [["user_id", "item_id", "rating", "timestamp", "comment"]]
    return [*table, *([*row, texts.get(line, "ok")] for line, row in enumerate(rows, start=2))]


# -- quotation marks ---------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [{22: '"great value'}, {22: '"great value', 202: 'so "nice"'}])
def test_kind1_quotes_between_tabs_are_letters(builder, tmp_path, texts):
    path = write(tmp_path / "q.tsv", comments(toy(), texts))
    builder("csv", f"--inter={path}", "--rating_column=rating", "--time_column=timestamp")
    found = builder.table("q")
    assert len(found) == 360 and found["user_id"].nunique() == 30
    assert builder.manifest("q")["lines"]["q.tsv"] == {"read": 360, "malformed": 0}


@pytest.mark.parametrize(
    "texts",
    [{22: '"great value'}, {22: '"great value', 202: 'so "nice" they said'}, {361: '"the end'}],
)
def test_kind1_a_quote_that_is_not_closed_is_refused(builder, tmp_path, texts):
    path = write(tmp_path / "q.csv", comments(toy(), texts), ",")
    message = builder.fails("csv", f"--inter={path}")
    assert f"q.csv: line {min(texts)}: a cell begins with a quotation mark" in message


def test_kind1_a_cell_of_several_lines_is_refused(builder, tmp_path):
    inter = write(tmp_path / "q.csv", comments(toy(), {}), ",")
    items = [["item_id", "title"], ["i1", "one"], ["i2", '"two\nand more"'], ["i3", "three"]]
    path = write(tmp_path / "items.csv", items, ",")
    message = builder.fails("csv", f"--inter={inter}", f"--item={path}")
    assert "items.csv: line 3: a cell begins with a quotation mark" in message


def test_kind1_quotes_in_titles_leave_each_item_its_title(builder, tmp_path):
    inter = write(tmp_path / "q.tsv", comments(toy(), {}))
    titles = {f"i{item}": f"Title {item}" for item in range(40)}
    titles |= {"i9": '"Heroes, unfinished', "i22": '12" ruler'}
    path = write(tmp_path / "items.tsv", [["item_id", "title"], *map(list, titles.items())])
    builder("csv", f"--inter={inter}", f"--item={path}")
    found = builder.table("q", "item").set_index("item_id")["title"]
    assert found.to_dict() == {item: text.replace('"', "''") for item, text in titles.items()}


# -- names, marks and line ends ----------------------------------------------------------------


def test_kind1_ids_are_written_and_read_as_names(builder, tmp_path):
    names = ["NA", "null", "None", "nan", "NULL", "N/A", "00123", "123", "1e5", '"a', 'b"']
    rows = [[name, item] for name in names for item in ("NA", "null", "i1", "i2")]
    path = write(tmp_path / "q.tsv", [["user_id", "item_id"], *rows])
    builder("csv", f"--inter={path}")
    assert builder.manifest("q")["lines"]["q.tsv"]["malformed"] == 0
    assert builder.table("q").to_numpy().tolist() == rows
    settings = {"data_path": str(builder.data_path), "protocol": "random811"}
    dataset = MultimodalDataset(Config("BPR", "q", overrides=settings))
    feat = dataset.inter_feat
    columns = [dataset.id2token(name, feat[name].to_numpy()) for name in ("user_id", "item_id")]
    assert [list(map(str, pair)) for pair in zip(*columns, strict=True)] == rows


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_kind1_marks_and_line_ends_are_alike(builder, tmp_path, mark, end, form):
    separator = "," if form == "csv" else "\t"
    path = write(tmp_path / f"q.{form}", comments(toy(), {}), separator)
    path.write_bytes(mark + path.read_bytes().replace(b"\n", end))
    items = write(
        tmp_path / f"items.{form}",
        [["item_id", "title"], *([f"i{item}", "a b"] for item in range(40))],
        separator,
    )
    items.write_bytes(mark + items.read_bytes().replace(b"\n", end))
    builder("csv", f"--inter={path}", f"--item={items}")
    assert builder.table("q").to_numpy().tolist() == [row[:2] for row in toy()]
    assert set(builder.table("q", "item")["title"]) == {"a b"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_kind1_marks_and_line_ends_of_json_lines(builder, shop, mark, end):
    for role in ("reviews", "metadata"):
        content = gzip.decompress(shop.server.files[shop.path(role)])
        content = gzip.compress(mark + content.replace(b"\n", end))
        shop.server.publish(shop.address(role), content)
    builder(*shop.arguments)
    counts = builder.manifest("sports")["lines"].values()
    assert [count["malformed"] for count in counts] == [0, 0]
    assert len(builder.table("sports")) == len(events())


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_kind1_line_ends_at_the_end_of_a_block(builder, tmp_path, monkeypatch, block):
    monkeypatch.setattr("recbole_llm.prepare.lines._BLOCK", block)
    text = "user_id,item_id\r\nu1,i1\ru2,i2\nu3,i3\r\n\r\nu4,i4"
    (tmp_path / "q.csv").write_bytes(text.encode())
    builder("csv", f"--inter={tmp_path}/q.csv")
    assert len(builder.table("q")) == 4


def test_kind1_utf16_is_named(builder, tmp_path):
    (tmp_path / "q.csv").write_text("user_id,item_id\nu1,i1\n", encoding="utf-16")
    assert "q.csv is UTF-16" in builder.fails("csv", f"--inter={tmp_path}/q.csv")


# -- lines that are not whole ------------------------------------------------------------------


@pytest.mark.parametrize("cells", [["u1"], ["u1", "i1", "5", "1"], ["u1", "i1", "5", "1", "x", ""]])
@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_kind1_lines_with_other_cells_are_refused(builder, tmp_path, cells, form):
    table = comments(toy(), {})
    table.insert(200, cells)
    path = write(tmp_path / f"q.{form}", table, "," if form == "csv" else "\t")
    message = builder.fails("csv", f"--inter={path}")
    assert (
        f"1 of 361 lines are not what is expected there (first: line 201: {len(cells)}" in message
    )


def test_kind1_a_file_cut_in_a_line_is_refused(builder, tmp_path):
    path = write(tmp_path / "q.csv", comments(toy(), {}), ",")
    path.write_bytes(path.read_bytes()[:-6])
    assert "line 361: 4 cells, 5 columns" in builder.fails("csv", f"--inter={path}")


@pytest.mark.parametrize("value", ["inf", "1e999", "soon", "1_000"])
@pytest.mark.parametrize("column", [2, 3])
def test_kind1_rows_with_a_wrong_time_or_rating_are_counted(builder, tmp_path, value, column):
    rows = toy()
    rows[17][column] = value
    path = write(tmp_path / "q.tsv", comments(rows, {}))
    builder("csv", f"--inter={path}", "--rating_column=rating", "--time_column=timestamp")
    note = builder.manifest("q")["lines"]["q.tsv"]
    assert (note["read"], note["malformed"], note["first_malformed"]) == (360, 1, [19])
    assert "malformed, skipped (first: 19" in builder.out and len(builder.table("q")) == 359


def test_kind1_further_descriptions_of_an_item_are_counted(builder, tmp_path):
    inter = write(tmp_path / "q.tsv", comments(toy(), {}))
    rows = [["item_id", "title"], ["i1", "a"], ["i2", "b"], ["i1", "c"], ["i1", "d"], ["i99", "e"]]
    path = write(tmp_path / "items.tsv", rows)
    builder("csv", f"--inter={inter}", f"--item={path}")
    found = builder.table("q", "item").set_index("item_id")["title"]
    assert found["i1"] == "a" and "further descriptions, left out" in builder.out
    statistics = builder.manifest("q")["statistics"]
    assert (statistics["items_described"], statistics["described_again"]) == (2, 2)


# -- names of columns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (["", "item_id", "title"], [], "column 1 has no name. Drop it (pandas: to_csv(..., index"),
        (["item_id", " ", "title"], [], "column 2 has no name"),
        (["item_id", "price:usd", "title"], [], "column 'price:usd' holds a character"),
        (["item_id", '"a\tb"', "title"], [], "column 'a\\tb' holds a character"),
        (["item_id", "title", "title"], [], "has 2 columns 'title'"),
        (["item_id", "item_id", "title"], [], "has 2 columns 'item_id'"),
        (["asin", "item_id", "title"], ["--item_column=asin"], "column 'item_id' is not the"),
    ],
)
def test_kind1_names_of_columns_are_checked(builder, tmp_path, header, options, message):
    inter = write(tmp_path / "q.csv", [["user_id", header[0] or "item_id"], ["u1", "i1"]], ",")
    items = write(tmp_path / "items.csv", [header, ["i1", "i1", "x"]], ",")
    found = builder.fails("csv", f"--inter={inter}", f"--item={items}", *options)
    assert f"{items}" in found and message in found


def test_kind1_an_ambiguous_column_of_interactions_is_refused(builder, tmp_path):
    path = write(tmp_path / "q.csv", [["user_id", "item_id", "user_id"], ["u", "i", "v"]], ",")
    assert "has 2 columns 'user_id' (user)" in builder.fails("csv", f"--inter={path}")


def test_kind1_what_prepare_writes_its_own_run_reads(builder, tmp_path, monkeypatch):
    rows = toy()
    rows[0][0], rows[5][1] = '"u', "NA"
    inter = write(tmp_path / "q.csv", comments(rows, {}), ",")
    inter.write_text(inter.read_text().replace('"u,', '"""u",'))
    texts = [["item_id", "a b", "ü#"], *([f"i{item}", "x\0y", ' "" '] for item in range(40))]
    items = write(tmp_path / "items.csv", texts, ",")
    builder("csv", f"--inter={inter}", f"--item={items}", "--time_column=timestamp")
    assert '"u' in set(builder.table("q")["user_id"])
    monkeypatch.chdir(tmp_path)
    line = ["--model=VBPR", "--dataset=q", f"--data_path={builder.data_path}", "--epochs=1"]
    line += ["--modalities={text: {multi_hot: 'a b'}}", "--protocol=random811", "--state=ERROR"]
    assert run_recbole([*line, "--show_progress=false", "--torch_threads=1"]) == 0


@pytest.mark.parametrize("separator", ["::", '"'])
def test_kind1_a_separator_that_parts_nothing_is_refused(builder, tmp_path, separator):
    path = write(tmp_path / "q.csv", [["user_id", "item_id"], ["u", "i"]], separator)
    message = builder.fails("csv", f"--inter={path}", f"--separator={separator}")
    assert "separator must be one character" in message


def test_kind1_a_malformed_line_of_a_map_is_refused(builder, tmp_path):
    rows = [[str(int(row[0][1:])), str(int(row[1][1:])), str(step % 3)]
            for step, row in enumerate(toy())]  # fmt: skip
    write(tmp_path / "toy.inter", [["userID", "itemID", "x_label"], *rows])
    users = [["user_id", "userID"], *([f"NA{u}" if u else "NA", str(u)] for u in range(30))]
    write(tmp_path / "u_id_mapping.csv", users)
    builder("mmrec", f"--path={tmp_path}")
    parts = [builder.table("toy", f"{part}.inter") for part in ("train", "valid", "test")]
    assert sum(len(part) for part in parts) == 360
    assert sum((part["user_id"] == "NA").sum() for part in parts) == 12
    users[7][1] = "seven"
    write(tmp_path / "u_id_mapping.csv", users)
    builder("mmrec", f"--path={tmp_path}", "--name=other", status=2)
    assert "u_id_mapping.csv: line 8 is no original identifier, tab, number" in builder.err


# -- markup ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Nice <b>thing</b></p>", "Nice thing"),
        ("</span></span></span>", ""),
        ("one<br>two<br />three", "one two three"),
        ("H<sub>2</sub>O", "H2O"),
        ('<a href="x" title="a > b">here</a>', ' b">here'),
        ("&amp;amp;", "&"),
        ("&amp;amp;amp;lt;b&amp;gt;bold&lt;/b&gt;", "bold"),
        ("Guide &copyright", "Guide &copyright"),
        ("Guide &copy; 2014 &#169; &#xA9; R&D; AT&T", "Guide © 2014 © © R&D; AT&T"),
        ("&notit; &nbsp;x", "&notit; x"),
        ("a < b, c > d, i <3 u, a <b and c> d", "a < b, c > d, i <3 u, a <b and c> d"),
        ("<Untitled> by <anonymous>", "<Untitled> by <anonymous>"),
        ("x<script type='a'>var y = 1 < 2;</script>z", "x z"),
        ("<!-- hidden <b> -->shown", "shown"),
        ("var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();", ""),
        ("if (typeof window.ue !== 'undefined') { x(); }", ""),
        ("Variety of functions", "Variety of functions"),
        ("", ""),
    ],
)
def test_kind1_markup_of_the_web_is_cleaned(text, expected):
    found = plain_text(text)
    assert " ".join(found.split()) == expected.strip()
    assert plain_text(found) == found


def test_kind1_amazon_texts_are_cleaned(builder, server):
    addresses = {role: url.format("Gift_Cards") for role, url in Amazon2018.addresses.items()}
    server.publish(addresses["reviews"], gz_lines(reviews(events())))
    items = [
        {"asin": asin(0), "title": "var aPageStart = (new Date()).getTime();"},
        {
            "asin": asin(1),
            "title": "<p>Nice <b>thing</b></p> &amp;amp; more",
            "brand": "Guide &copyright",
            "category": ["Gift Cards", "</span></span></span>", "Cards &amp;amp; Co"],
            "description": ["<ul><li>One</li><li>Two</li></ul>"],
        },
    ]
    server.publish(addresses["metadata"], gz_lines([json.dumps(item) for item in items]))
    builder("amazon2018", "--category=Gift_Cards", f"--mirror={server.url}")
    found = builder.table("amazon2018-gift-cards", "item").set_index("item_id")
    assert found.loc[asin(0), "title"] == ""
    assert list(found.loc[asin(1)])[:4] == [
        "Nice thing & more",
        "Guide &copyright",
        "Gift_Cards Cards_&_Co",
        "One Two",
    ]
