"""Every suspicious thing is found where it is planted, and none in a clean data set."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_llm.cli.main import main
from recbole_llm.inspection.figures import ccdf

N_USERS, N_ITEMS = 30, 40


def _clean() -> pd.DataFrame:
    """Thirty users with twelve items each, at times that a float32 tells apart, shuffled."""
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}")
        for user in range(N_USERS)
        for item in rng.permutation(N_ITEMS)[:12]
    ]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    frame["time"] = 1.5e9 + 1000.0 * rng.permutation(len(frame))
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(float)
    return frame.sample(frac=1, random_state=0, ignore_index=True)


class Data:
    """A data set ``toy`` to be changed and inspected."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = root / "dataset" / "toy"
        self.folder.mkdir(parents=True)
        self.frame = _clean()
        self.capsys = capsys
        rng = np.random.default_rng(1)
        self.feature = rng.normal(size=(N_ITEMS, 6)).astype(np.float32)
        self.tokens = [f"i{i}" for i in range(N_ITEMS)]
        self.titles = [f"title {i}" for i in range(N_ITEMS)]
        self.output = root / "report"

    def write(self, suffix: str, frame: pd.DataFrame) -> None:
        header = {"user": "user_id:token", "item": "item_id:token", "time": "timestamp:float"}
        header |= {"rating": "rating:float", "title": "title:token_seq"}
        path = self.folder / f"toy.{suffix}"
        frame.rename(columns=header).to_csv(path, sep="\t", index=False)

    def inspect(self, *more: str, protocol: str | None = "global_time") -> dict:
        """Write the files, inspect them, and return the JSON, with findings by key."""
        if self.frame is not None:
            self.write("inter", self.frame)
        self.write("item", pd.DataFrame({"item": self.tokens, "title": self.titles}))
        np.save(self.folder / "image.npy", self.feature)
        yaml = self.folder.parent / "toy.yaml"
        yaml.write_text("load_col: ~\nmodalities: {image: image.npy}\n")
        arguments = [
            "--dataset=toy",
            f"--data_path={self.folder.parent}",
            f"--output={self.output}",
        ]
        arguments += [f"--protocol={protocol}"] if protocol else []
        status = main(["inspect", *arguments, f"--config_files={yaml}", *more])
        printed = self.capsys.readouterr()
        assert status == 0, printed.err
        content = json.loads((self.output / "inspect.json").read_text())
        content["text"] = (self.output / "inspect.md").read_text()
        assert content["text"] in printed.out
        content["findings"] = {it["key"]: it for it in content["findings"]}
        assert all(f"**{key}**" in content["text"] for key in content["findings"])
        return content


@pytest.fixture
def data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Data:
    return Data(tmp_path, capsys)


def test_a_clean_data_set_has_no_finding_and_the_right_statistics(data):
    found = data.inspect()
    assert found["findings"] == {} and "Nothing suspicious" in found["text"]
    stats = found["statistics"]
    assert [stats[f"n_{what}"] for what in ("users", "items", "interactions")] == [30, 40, 360]
    assert stats["sparsity"] == pytest.approx(1 - 360 / 30 / 40)
    degree = data.frame["item"].value_counts()
    assert stats["item_degree"] == {
        "min": degree.min(), "median": degree.median(), "mean": 9.0, "max": degree.max(),
    }  # fmt: skip
    assert stats["time"]["days"] == pytest.approx(359_000 / 86400)
    assert stats["parts"] == [288, 36, 36]
    image = found["modalities"]["image"]
    unit = data.feature / np.linalg.norm(data.feature, axis=1, keepdims=True)
    cosine = (unit @ unit.T)[~np.eye(N_ITEMS, dtype=bool)].mean()
    assert image["mean_cosine"] == pytest.approx(float(cosine), abs=1e-5)
    assert (image["n_with"], image["n_without"], image["width"]) == (40, 0, 6)
    for name in ("inspect.pdf", "inspect.png"):
        assert (data.output / name).stat().st_size > 1000


def _new_item(data: Data, token: str) -> None:
    """Give one interaction of u2, the latest of all, to an item of its own."""
    data.frame.loc[0, ["user", "item", "time"]] = ["u2", token, 1.6e9]
    data.tokens.append(token)
    data.titles.append("new")
    data.feature = np.append(data.feature, -data.feature[:1], axis=0)


def _set(data: Data, rows: slice, column: str, value: object) -> None:
    data.frame.loc[data.frame.index[rows], column] = value


def _extreme(data: Data) -> None:
    rng = np.random.default_rng(0)
    more = pd.DataFrame({"user": "crawler", "item": [f"i{i}" for i in range(N_ITEMS)]})
    more["time"] = 1.5e9 + rng.permutation(300_000)[:N_ITEMS] + 0.0
    more["rating"] = 3.0
    data.frame = pd.concat([data.frame, more], ignore_index=True)


def _duplicate(data: Data) -> None:
    data.frame = pd.concat([data.frame, data.frame.iloc[:4].assign(time=1.5e9)])


def _ordinal(data: Data) -> None:
    data.frame["time"] = data.frame.groupby("user").cumcount() + 1.0


def _leaky_items(data: Data) -> None:
    rank = data.frame.groupby("item")["time"].min().rank().astype(int)
    data.frame["item"] = "i" + (rank[data.frame["item"]] - 1).astype(str).to_numpy()


def _sorted_file(data: Data) -> None:
    data.frame = data.frame.sort_values(["user", "time"], ignore_index=True)


def _ties_of_float32(data: Data) -> None:
    first = data.frame.index[data.frame["user"] == "u1"][:2]
    data.frame.loc[first, "time"] = [1.5003e9, 1.5003e9 + 2e-3]


def _repeat(data: Data) -> None:
    first = data.frame.sort_values("time").iloc[:1]
    data.frame = pd.concat([data.frame, first.assign(time=1.5e9 + 1e6)], ignore_index=True)


PLANTED: list[tuple[str, Callable[[Data], object], int | None]] = [
    ("duplicate_pairs", _duplicate, 4),
    ("user_id_whitespace", lambda data: _set(data, slice(0, 1), "user", "u 1"), 1),
    ("item_id_whitespace", lambda data: _new_item(data, "i 39"), 1),
    ("rows_left_out", lambda data: _set(data, slice(0, 3), "item", "elsewhere"), 3),
    ("constant_column", lambda data: _set(data, slice(None), "rating", 1.0), 360),
    ("extreme_users", _extreme, 1),
    ("item_id_order", _leaky_items, 40),
    ("file_order", _sorted_file, 330),
    ("constant_time", lambda data: _set(data, slice(None), "time", 5.0), 360),
    ("ordinal_time", _ordinal, 30),
    ("tied_times", lambda data: _set(data, slice(0, 120), "time", 1.5e9), None),
    ("float32_times", _ties_of_float32, 1),
    ("test_only_items", lambda data: _new_item(data, "i999"), 1),
    ("train_test_repeats", _repeat, 1),
    ("items_without_feature", lambda data: data.feature.__setitem__(slice(0, 3), 0), 3),
    ("duplicate_features", lambda data: data.feature.__setitem__(5, data.feature[6]), 1),
    ("common_part", lambda data: data.feature.__iadd__(10), 40),
    ("empty_texts", lambda data: data.titles.__setitem__(7, " "), 1),
]


@pytest.mark.parametrize("key, plant, n", PLANTED, ids=[it[0] for it in PLANTED])
def test_what_is_planted_is_found(data, key, plant, n):
    plant(data)
    finding = data.inspect()["findings"][key]
    assert n is None or finding["n"] == n
    assert finding["advice"] and len(finding["examples"]) <= 5


def test_ids_with_white_space_of_their_own_are_left_alone(data):
    _set(data, slice(0, 1), "user", "Big Al")
    _new_item(data, "El Camino")
    assert not {"user_id_whitespace", "item_id_whitespace"} & set(data.inspect()["findings"])


@pytest.mark.parametrize("token", ["u1 ", " u1", "u\u00a01"])
def test_ids_that_differ_by_white_space_alone_are_found(data, token):
    _set(data, slice(0, 1), "user", token)
    finding = data.inspect()["findings"]["user_id_whitespace"]
    assert finding["n"] == 1 and finding["examples"] == [repr(token)]


def test_time_travel_is_the_share_by_hand(data):
    found = data.inspect(protocol="temporal811")["findings"]["time_travel"]
    last = data.frame.sort_values("time").groupby("user").tail(1)
    rest = data.frame.sort_values("time").groupby("user").head(10)
    expected = int((last["time"] < rest["time"].max()).sum())
    assert found["n"] == expected and "0 (0.0%) by their own user" in found["what"]
    assert "time_travel" in data.inspect(protocol="random811")["findings"]


def test_without_times_nothing_is_said_of_time(data):
    data.frame = data.frame.drop(columns="time")
    found = data.inspect(protocol="random811")
    assert "time" not in found["statistics"] and "none loaded" in found["text"]
    assert not {"time_travel", "tied_times", "file_order"} & set(found["findings"])


def test_a_fixed_split_that_overlaps_is_found(data):
    for part, rows in {
        "train": slice(0, 300),
        "valid": slice(300, 330),
        "test": slice(290, 360),
    }.items():
        data.write(f"{part}.inter", data.frame.iloc[rows])
    data.frame = None
    found = data.inspect("--benchmark_filename=[train,valid,test]", protocol=None)
    # ten rows of training again, and thirty of validation, which training does not have
    assert found["findings"]["train_test_overlap"]["n"] == 10
    assert found["statistics"]["parts"] == [300, 30, 70]


def test_a_frozen_split_is_inspected_as_it_is(data):
    data.inspect()
    path = f"--data_path={data.folder.parent}"
    assert main(["split", "--dataset=toy", "--protocol=cold_users", path]) == 0
    found = data.inspect("--split=cold_users-2020", protocol=None)
    assert found["statistics"]["protocol"] == "cold_users, split cold_users-2020"
    assert found["findings"]["test_only_users"]["n"] == 3


def test_what_cannot_be_read(data, capsys):
    assert main(["inspect", "--dataset=nothing", f"--data_path={data.folder}"]) == 2
    assert "nothing.inter" in capsys.readouterr().err
    (data.folder / "image.npy").write_text("")
    found = data.inspect("--modalities={'gone': 'gone.npy'}")
    assert "gone.npy" in found["findings"]["unreadable_modality"]["what"]


def test_ccdf_by_hand():
    k, share = ccdf(np.array([1, 1, 2, 5]))
    assert k.tolist() == [1, 2, 5] and share.tolist() == [1.0, 0.5, 0.25]
