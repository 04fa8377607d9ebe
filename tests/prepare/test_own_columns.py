"""Own tables: separators, decimal commas, empty cells, and columns that are not read."""

import pytest
import yaml

from recbole_llm.config import Config
from recbole_llm.data.dataset import MultimodalDataset

COLUMNS = ["--rating_column=rating", "--time_column=time"]


def own(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode())
    return f"--inter={path}"


def load_columns(builder, name):
    settings = yaml.safe_load((builder.data_path / name / "dataset.yaml").read_text())
    return settings["load_col"]["inter"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt"])
def test_the_separator_is_that_of_the_header(builder, tmp_path, separator, suffix):
    rows = [("user_id", "item_id", "note"), ("u1", "i1", "a"), ("u2", "i2", "b")]
    text = "".join(separator.join(row) + "\n" for row in rows)
    builder("csv", own(tmp_path, f"q.{suffix}", text))
    assert builder.table("q").to_numpy().tolist() == [["u1", "i1"], ["u2", "i2"]]


def test_each_file_has_its_own_separator(builder, tmp_path):
    inter = own(tmp_path, "q.csv", "user_id;item_id\nu,1;i,1\nu2;i2\n")
    (tmp_path / "items.csv").write_text("item_id\ttitle\ni,1\tA; or B\ni2\tC\n")
    builder("csv", inter, f"--item={tmp_path / 'items.csv'}")
    assert builder.table("q").to_numpy().tolist() == [["u,1", "i,1"], ["u2", "i2"]]
    assert builder.table("q", "item")["title"].tolist() == ["A; or B", "C"]


def test_a_separator_that_is_given_is_used(builder, tmp_path):
    inter = own(tmp_path, "q.csv", "user_id;item_id\nu1;i1\n")
    assert "has no column 'user_id'" in builder.fails("csv", inter, "--separator=,")


def test_a_decimal_comma(builder, tmp_path):
    inter = own(tmp_path, "q.csv", "user_id;item_id;rating;time\nu1;i1;4,5;1,5\nu2;i2;3;2\n")
    message = builder.fails("csv", inter, *COLUMNS)
    assert "'4,5' is not a number; --decimal=, reads a decimal comma" in message
    builder("csv", inter, *COLUMNS, "--decimal=,")
    assert builder.table("q")[["rating", "timestamp"]].to_numpy().tolist() == [[4.5, 1.5], [3, 2]]
    assert builder.manifest("q")["options"]["decimal"] == ","


def test_a_decimal_point_where_a_comma_is_promised(builder, tmp_path):
    inter = own(tmp_path, "q.csv", "user_id;item_id;rating\nu1;i1;1.234\n")
    message = builder.fails("csv", inter, "--rating_column=rating", "--decimal=,")
    assert "'1.234' is not a number with a decimal comma" in message


@pytest.mark.parametrize("word", ["none", "None", ""])
def test_none_leaves_an_optional_column_out(builder, tmp_path, word):
    inter = own(tmp_path, "q.csv", "user_id,item_id,rating\nu1,i1,4\n")
    builder("csv", inter, f"--rating_column={word}", f"--time_column={word}")
    assert list(builder.table("q").columns) == ["user_id", "item_id"]


@pytest.mark.parametrize("empty", ["", "NA", "nan", " "])
def test_an_empty_optional_cell_keeps_its_interaction(builder, tmp_path, empty):
    rows = f"u1,i1,4,9\nu1,i2,{empty},8\nu2,i1,5,7\nu2,i2,1,6\n"
    inter = own(tmp_path, "q.csv", f"user_id,item_id,rating,time\n{rows}")
    builder("csv", inter, *COLUMNS)
    lines = (builder.data_path / "q" / "q.inter").read_text().splitlines()
    assert lines[1:] == ["u1\ti2\t\t8", "u1\ti1\t4\t9", "u2\ti2\t1\t6", "u2\ti1\t5\t7"]
    assert builder.manifest("q")["empty"] == {"rating": 1}
    assert builder.manifest("q")["lines"]["q.csv"]["malformed"] == 0
    assert "without rating (dataset.yaml does not load this column)" in builder.out
    assert load_columns(builder, "q") == ["user_id", "item_id", "timestamp"]


def test_an_empty_cell_is_not_filled_in_where_it_is_read(builder, tmp_path):
    text = "user_id,item_id,rating,time\nu1,i1,4,9\nu1,i2,,8\nu2,i1,5,7\nu2,i2,1,6\n"
    builder("csv", own(tmp_path, "q.csv", text), *COLUMNS)
    settings = {"data_path": str(builder.data_path), "modalities": {}, "protocol": "random811"}
    assert MultimodalDataset(Config("BPR", "q", overrides=settings)).inter_num == 4
    settings["load_col"] = {"inter": ["user_id", "item_id", "rating"]}
    with pytest.raises(ValueError, match=r"'rating' is empty or no number in 1 rows.*line 2"):
        MultimodalDataset(Config("BPR", "q", overrides=settings))


def test_filters_drop_and_count_what_they_cannot_judge(builder, tmp_path):
    text = "user_id,item_id,rating,time\nu1,i1,4,9\nu1,i2,,8\nu2,i1,5,\nu2,i2,1,6\n"
    builder("csv", own(tmp_path, "q.csv", text), *COLUMNS, "--min_rating=2", "--since=1970-01-01")
    assert builder.table("q")[["user_id", "item_id"]].to_numpy().tolist() == [["u1", "i1"]]
    steps = builder.manifest("q")["steps"]
    assert (steps["without_rating"], steps["below_min_rating"], steps["without_time"]) == (1, 1, 1)


def test_a_date_column_that_is_not_read_is_named(builder, tmp_path):
    text = "user_id,item_id,comment,order_date\nu1,i1,fine,2024-05-01\n"
    builder("csv", own(tmp_path, "q.csv", text))
    note = "q.csv: columns that are not read: 'comment', 'order_date'; "
    note += "--time_column=order_date would read 'order_date'"
    assert note in builder.err
    assert builder.manifest("q")["notes"] == [note]


def test_more_than_two_in_a_hundred_malformed_lines_are_refused(builder, tmp_path):
    lines = [f"u{row},i{row}\n" for row in range(98)]
    inter = own(tmp_path, "q.csv", "".join(["user_id,item_id\n", *lines, ",i\n", "u,\n"]))
    builder("csv", inter)
    assert len(builder.table("q")) == 98
    inter = own(tmp_path, "r.csv", "".join(["user_id,item_id\n", *lines[1:], ",i\n", "u,\n"]))
    builder("csv", inter, status=2)
    assert "r.csv: 2 of 99 lines are malformed, more than 2% (first: line 99" in builder.err
    builder("csv", inter, "--allow_malformed")
    assert len(builder.table("r")) == 97


def test_a_header_of_another_encoding_is_named(builder, tmp_path):
    """Found by the fuzz tests: its name could not be printed."""
    path = tmp_path / "q.csv"
    path.write_bytes(b"us\xc0er_id,item_id\nu,i\n")
    message = builder.fails("csv", f"--inter={path}")
    assert f"{path}: line 1: the header is not UTF-8" in message
