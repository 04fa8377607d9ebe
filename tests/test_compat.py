"""Each repair of RecBole does what it says, and refuses an upstream that it does not know."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.evaluator.collector import Collector
from recbole.evaluator.evaluator import Evaluator
from recbole.model.general_recommender.itemknn import ComputeSimilarity
from recbole.model.general_recommender.line import LINE
from recbole.model.sequential_recommender.s3rec import S3Rec
from recbole.sampler.sampler import AbstractSampler

from recbole_llm import compat
from recbole_llm.config import Config
from recbole_llm.data.loading import build_loaders, load_split
from recbole_llm.rewriting import rewrite
from recbole_llm.trainer.checkpoint import save_checkpoint

FRESH = """
import json, sys
import torch
import recbole_llm.config
import recbole_llm.quick_start
from recbole_llm.data.loading import build_loaders, load_split
from recbole_llm.rewriting import rewrite
from recbole_llm.trainer.checkpoint import save_checkpoint
from recbole_llm.registry import get_model_class
anomaly = [torch.is_anomaly_enabled()]
for model in ("SASRec", "SINE"):
    get_model_class(model)
    anomaly.append(torch.is_anomaly_enabled())
print(json.dumps({
    "anomaly": anomaly,
    "modules": [m for m in ("ray", "recbole.quick_start", "transformers", "peft", "optuna")
                if m in sys.modules],
}))
"""


@pytest.fixture(scope="module")
def probe() -> dict:
    """Return what a new process finds after importing us."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_leaves_ray_and_recboles_quick_start_out(probe: dict) -> None:
    assert "ray" not in probe["modules"]
    assert "recbole.quick_start" not in probe["modules"]


def test_import_leaves_language_models_and_sweeps_out(probe: dict) -> None:
    assert not {"transformers", "peft", "optuna"} & set(probe["modules"])


def test_anomaly_detection_stays_off_with_sequential_models(probe: dict) -> None:
    assert probe["anomaly"] == [False, False, False]


def test_descending_sort() -> None:
    table = Interaction({"key": torch.tensor([2.0, 3.0, 1.0]), "row": torch.tensor([0, 1, 2])})
    table.sort(by="key", ascending=False)
    assert table["row"].tolist() == [1, 0, 2]
    table.sort(by="key")
    assert table["row"].tolist() == [2, 0, 1]


def write_table(path: Path, header: str, rows: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def load(root: Path, **settings: object) -> Dataset:
    return Dataset(Config("BPR", "tiny", overrides={"data_path": str(root), **settings}))


def test_of_duplicates_at_the_same_time_the_first_row_stays(tmp_path: Path) -> None:
    # Long, with few different times: numpy's default sort keeps the order of 16 rows by chance.
    rng = np.random.default_rng(0)
    drawn = rng.integers([9, 9, 3], size=(1000, 3))
    rows = [f"u{u}\ti{i}\t{time}\t{nth}" for nth, (u, i, time) in enumerate(drawn)]
    header = "user_id:token\titem_id:token\ttimestamp:float\trating:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    columns = ["user_id", "item_id", "timestamp", "rating"]
    dataset = load(tmp_path, rm_dup_inter="first", load_col={"inter": columns})
    first: dict[tuple[str, str], float] = {}
    for row in sorted(rows, key=lambda row: row.split("\t")[2]):  # stable
        user, item, _, rating = row.split("\t")
        first.setdefault((user, item), float(rating))
    kept = {
        (user, item): rating
        for user, item, rating in zip(
            dataset.id2token("user_id", dataset.inter_feat["user_id"]),
            dataset.id2token("item_id", dataset.inter_feat["item_id"]),
            dataset.inter_feat["rating"].tolist(),
            strict=True,
        )
    }
    assert kept == first


def test_missing_values_are_filled(tmp_path: Path) -> None:
    write_table(
        tmp_path / "tiny" / "tiny.inter",
        "user_id:token\titem_id:token",
        ["u1\ti1", "u1\ti2", "u2\ti3", "u2\ti4"],
    )
    write_table(
        tmp_path / "tiny" / "tiny.item",
        "item_id:token\tprice:float\tbrand:token\ttags:token_seq\tsize:float_seq",
        ["i1\t1\tx\ta b\t1 2", "i2\t\t\t\t", "i3\t5\ty\tb\t3"],
    )
    columns = ["item_id", "price", "brand", "tags", "size"]
    dataset = load(tmp_path, load_col={"inter": ["user_id", "item_id"], "item": columns})
    by_token = {
        token: {name: dataset.item_feat[name][row] for name in columns}
        for row, token in enumerate(dataset.id2token("item_id", np.arange(dataset.item_num)))
    }
    assert by_token["i1"]["price"] == 1 and by_token["i3"]["price"] == 5
    assert by_token["i2"]["price"] == 3, "a missing number is the mean"
    assert by_token["i2"]["brand"] == 0, "a missing token is padding"
    assert by_token["i1"]["brand"] != by_token["i3"]["brand"] > 0
    assert by_token["i2"]["tags"].tolist() == []
    assert (dataset.item_feat["brand"] >= 0).all()
    assert np.isfinite(dataset.item_feat["price"]).all()


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("ItemCoverage", 1.0),  # all three items
        ("GiniIndex", 1 / 6),  # ((2 - 4) * 1 + (4 - 4) * 1 + (6 - 4) * 2) / (3 * 4)
        ("AveragePopularity", 2.0),  # (3 + 1) / 2 for either user
        ("TailPercentage", 1 / 4),  # one item is the tail: i2
        ("ShannonEntropy", 1.5 * np.log(2)),  # p = 1/2, 1/4, 1/4
    ],
)
def test_catalogue_metrics_have_their_formulas_values(
    metric: str, value: float, tmp_path: Path
) -> None:
    """Two lists [i1, i2] and [i1, i3]; RecBole counts padding, and divides entropy by 3."""
    write_table(
        tmp_path / "tiny" / "tiny.inter",
        "user_id:token\titem_id:token",
        ["u1\ti1", "u1\ti2", "u2\ti1", "u2\ti3", "u3\ti1"],
    )
    settings = {"metrics": [metric], "topk": [2], "valid_metric": f"{metric}@2"}
    settings["load_col"] = {"inter": ["user_id", "item_id"]}
    dataset = load(tmp_path, **settings)
    collector = Collector(dataset.config)
    collector.data_collect(type("Loader", (), {"_dataset": dataset})())
    collector.data_struct.set("rec.items", torch.tensor([[1, 2], [1, 3]]))
    result = Evaluator(dataset.config).evaluate(collector.get_data_struct())
    assert result[f"{metric.lower()}@2"] == pytest.approx(value, abs=1e-6)


def test_popularity_counts_the_first_item_of_each_history(tmp_path: Path) -> None:
    """Training holds i1 and i2 twice; RecBole's sequential rows have each of them once."""
    histories = {"u1": ["i1", "i2", "i3", "i4"], "u2": ["i2", "i1", "i5", "i6"]}
    rows = [
        f"{user}\t{item}\t{time}"
        for user, items in histories.items()
        for time, item in enumerate(items)
    ]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    settings = {"data_path": str(tmp_path), "load_col": None, "topk": [1]}
    metric = {"metrics": ["AveragePopularity"], "valid_metric": "AveragePopularity@1"}
    split = load_split(Config("SASRec", "tiny", overrides={**settings, **metric}))
    collector = Collector(split.dataset.config)
    collector.data_collect(type("Loader", (), {"_dataset": split.train})())
    best = split.dataset.token2id("item_id", ["i1", "i2"])
    collector.data_struct.set("rec.items", torch.from_numpy(best).unsqueeze(1))
    result = Evaluator(split.dataset.config).evaluate(collector.get_data_struct())
    assert result["averagepopularity@1"] == 2.0


@pytest.mark.parametrize("order", ["RO", "TO"])
def test_a_split_by_time_puts_the_latest_rows_in_the_test_part(order: str, tmp_path: Path) -> None:
    """Three quarters of the times 1..8 are below 6.25; two thirds of what is left are trained."""
    rows = [f"u{time % 2}\ti{time}\t{time}" for time in (7, 1, 8, 5, 2, 3, 6, 4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    split = {"TS": [0.5, 0.25, 0.25]}
    settings = {"data_path": str(tmp_path), "load_col": None}
    settings["eval_args"] = {"split": split, "order": order, "group_by": "user"}
    parts = load_split(Config("BPR", "tiny", overrides=settings))[1:]
    times = [sorted(part.inter_feat["timestamp"].tolist()) for part in parts]
    assert times == [[1, 2, 3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize("normalize_all", [True, False])
@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_interactions_seconds_apart_keep_their_order(
    model: str, normalize_all: bool, tmp_path: Path
) -> None:
    """The file has the latest first; float32 has one time for all of a user's interactions."""
    rows = [
        f"u{user}\ti{n}\t{1_600_000_000 + 500_000_000 * user + n}"
        for user in range(2)
        for n in (4, 3, 2, 1, 0)
    ]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    settings = {"data_path": str(tmp_path), "load_col": None, "protocol": "loo"}
    settings["normalize_all"] = normalize_all
    dataset, *parts = load_split(Config(model, "tiny", overrides=settings))
    held_out = [dataset.id2token("item_id", part.inter_feat["item_id"]) for part in parts[1:]]
    assert [items.tolist() for items in held_out] == [["i3", "i3"], ["i4", "i4"]]


def test_rows_without_a_user_or_an_item_are_refused(tmp_path: Path) -> None:
    """RecBole drops rows 5 and 6 in place of rows 3 and 4: two rows went before them."""
    users, items = ["", "", "u1", "u1", "u2", "u2", "u3"], ["a", "b", "", "", "c", "d", "e"]
    rows = [f"{user}\t{item}" for user, item in zip(users, items, strict=True)]
    write_table(tmp_path / "tiny" / "tiny.inter", "user_id:token\titem_id:token", rows)
    with pytest.raises(ValueError, match=r"tiny.inter: column 'user_id' .* line 2, 3\)"):
        load(tmp_path, load_col=None)


def test_numpy_names_and_dok_update_are_back() -> None:
    assert np.float is np.float64 and np.str is np.str_
    matrix = scipy.sparse.dok_matrix((2, 3), dtype=np.float32)
    matrix._update({(0, 1): 1.0, (1, 2): 2.0})
    assert matrix.toarray().tolist() == [[0, 1, 0], [0, 0, 2]]


def test_neighbours_of_equal_weight_are_the_first_ones() -> None:
    taken = np.random.default_rng(0).integers(2, size=(3, 200)).astype(np.float32)  # many ties
    matrix = scipy.sparse.csr_matrix(taken)
    neighbours, _ = ComputeSimilarity(matrix, topk=30, normalize=False).compute_similarity()
    weight = taken.T @ taken
    np.fill_diagonal(weight, 0)
    for item, found in enumerate(np.asarray(neighbours)):
        wanted = sorted(range(200), key=lambda other: (-weight[item, other], other))[:30]
        assert found.tolist() == wanted


class Upstream:
    """Stands in for a class of RecBole."""

    def method(self) -> int:
        return 1 + 1


@pytest.mark.parametrize(("old", "times"), [("1 + 2", 0), ("1", 2)])
def test_unknown_upstream_text_is_refused(old: str, times: int) -> None:
    with pytest.raises(RuntimeError, match=rf"Upstream\.method .*{times} times"):
        rewrite(Upstream, "method", (old, "3"))
    assert Upstream().method() == 2


def test_rewrite_edits_the_method() -> None:
    copy = type("Copy", (Upstream,), {"__module__": Upstream.__module__})
    rewrite(copy, "method", ("1 + 1", "40 + 2"))
    assert copy().method() == 42 and Upstream().method() == 2


def test_another_release_of_recbole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.3.0")
    with pytest.raises(ImportError, match=r"extends RecBole 1\.2\.1, found 1\.3\.0"):
        compat._check_recbole()


DOCS = Path(__file__).resolve().parent.parent / "docs" / "recbole.md"


def test_the_tests_that_docs_name_exist() -> None:
    text = DOCS.read_text(encoding="utf-8")
    names = set(re.findall(r"`(test_\w+)`", text))
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    assert len(names) > 20 and len(files) > 3
    assert names <= set(globals())
    assert all((DOCS.parent.parent / path).is_file() for path in files)


# ---- models and samplers


@pytest.mark.parametrize("batch_size", [3, 512, 100_000])
def test_pop_counts_every_interaction(batch_size: int, small_ml100k: Path) -> None:
    config = Config(
        "Pop",
        "ml-100k",
        overrides={"data_path": str(small_ml100k), "train_batch_size": batch_size},
    )
    split = load_split(config)
    model = config.model_class(config, split.train)
    for batch in build_loaders(config, split).train:
        model.calculate_loss(batch)
    item = split.train.inter_feat["item_id"].numpy()
    assert model.item_cnt[:, 0].tolist() == np.bincount(item, minlength=model.n_items).tolist()


def test_bert4rec_says_so_when_no_negative_item_is_left(tmp_path: Path) -> None:
    """u0 has all three items: RecBole draws for ever."""
    rows = [f"u0\ti{n % 3}\t{n}" for n in range(20)]
    rows += [f"u{user}\ti{n}\t{n}" for user in range(1, 6) for n in range(3)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    settings = {"data_path": str(tmp_path), "load_col": None, "protocol": "loo"}
    config = Config("BERT4Rec", "tiny", overrides={**settings, "train_neg_sample_args": None})
    split = load_split(config)
    with pytest.raises(ValueError, match="no negative item was found in 100,000 draws"):
        list(build_loaders(config, split).train)


def test_popularity_sampling_ends_where_a_user_has_every_popular_item() -> None:
    class Two(AbstractSampler):
        def _uni_sampling(self, sample_num: int) -> np.ndarray:
            return np.random.randint(1, 3, sample_num)

        def get_used_ids(self) -> np.ndarray:
            return np.array([set(), {1, 2}, {1}])

    sampler = Two("uniform", 1.0)
    assert sampler.sample_by_key_ids([2, 2], 3).tolist() == [2] * 6
    for keys in ([1, 1], [1, 2]):
        with pytest.raises(ValueError, match="no negative item"):
            sampler.sample_by_key_ids(keys, 1)


def test_line_and_s3rec_say_so_when_nothing_negative_is_left() -> None:
    used = np.array([set(), {1, 2}])
    model = SimpleNamespace(used_ids=used, random_num=lambda n: np.ones(n), device="cpu")
    with pytest.raises(ValueError, match="an item with every user"):
        LINE.sampler(model, torch.tensor([1]))
    with pytest.raises(ValueError, match="no negative item"):
        S3Rec._neg_sample(SimpleNamespace(n_items=3), {1, 2})


@pytest.mark.parametrize("repeatable", [False, True])
def test_popularity_is_that_of_the_training_part(repeatable: bool, tmp_path: Path) -> None:
    """i3 is in the test part alone; i1 is drawn three times as often as i2."""
    train = [f"u{user}\ti1" for user in range(6)] + ["u0\ti2", "u1\ti2"]
    parts = {
        "train": train,
        "valid": ["u5\ti2"],
        "test": [f"u{user}\ti3" for user in (2, 3, 4)] + [f"u{user}\ti4" for user in range(6)],
    }
    for part, rows in parts.items():
        write_table(tmp_path / "tiny" / f"tiny.{part}.inter", "user_id:token\titem_id:token", rows)
    settings = {
        "data_path": str(tmp_path),
        "load_col": None,
        "benchmark_filename": list(parts),
        "repeatable": repeatable,
        "train_neg_sample_args": {"distribution": "popularity", "sample_num": 1, "alpha": 1.0},
    }
    config = Config("BPR", "tiny", overrides=settings)
    split = load_split(config)
    sampler = build_loaders(config, split).train._sampler
    drawn = split.dataset.id2token("item_id", sampler.sampling(4000))
    share = {item: float(np.mean(drawn == item)) for item in ("i1", "i2", "i3", "i4")}
    assert share == pytest.approx({"i1": 0.75, "i2": 0.25, "i3": 0, "i4": 0}, abs=0.03)


def test_popularity_never_draws_an_item_that_does_not_exist() -> None:
    """Rounding makes the share of some of n equally popular items a little less than 1/n."""

    class Equal(AbstractSampler):
        def _get_candidates_list(self) -> list[int]:
            return list(range(1, self.n + 1))

        def get_used_ids(self) -> None:
            return None

    for n in range(2, 60):
        Equal.n = n
        sampler = Equal("popularity", 0.7)
        ends = [item for item, other in sampler.alias.items() if other == -1]
        assert ends and all(sampler.prob[item] >= 1 for item in ends)


class HighestPrice:
    """Scores an item by its price."""

    device = torch.device("cpu")

    def train(self) -> None: ...
    def eval(self) -> None: ...

    def predict(self, interaction: Interaction) -> torch.Tensor:
        return interaction["price"]


def test_dynamic_sampling_scores_candidates_by_their_own_features(tmp_path: Path) -> None:
    """Of the candidates of price 2 and 7 the second is the harder; RecBole took the first."""
    write_table(
        tmp_path / "tiny" / "tiny.inter",
        "user_id:token\titem_id:token",
        [f"u{user}\ti{item}" for user in range(3) for item in range(3)] + ["u3\ti3", "u3\ti4"],
    )
    write_table(
        tmp_path / "tiny" / "tiny.item",
        "item_id:token\tprice:float",
        ["i0\t9", "i1\t9", "i2\t9", "i3\t2", "i4\t7"],
    )
    dynamic = {"distribution": "uniform", "sample_num": 1, "dynamic": True, "candidate_num": 2}
    settings = {"data_path": str(tmp_path), "train_neg_sample_args": {**dynamic, "alpha": 1.0}}
    settings["load_col"] = {"inter": ["user_id", "item_id"], "item": ["item_id", "price"]}
    config = Config("BPR", "tiny", overrides=settings)
    split = load_split(config)
    loader = build_loaders(config, split).train
    loader.get_model(HighestPrice())
    low, high = split.dataset.token2id("item_id", ["i3", "i4"])
    loader._sampler.sample_by_user_ids = lambda users, items, n: torch.tensor(
        [low] * len(users) + [high] * len(users)
    )
    batch = next(iter(loader))
    assert set(batch["neg_item_id"].tolist()) == {high}
    assert set(batch["neg_price"].tolist()) == {7.0}


# ---- models


def test_bert4rec_learns_from_a_masked_first_item(tmp_path: Path) -> None:
    """One row whose first item is masked; RecBole's loss of it is 0 / 0."""
    rows = [f"u{user}\ti{(user + n) % 5}\t{n}" for user in range(3) for n in range(4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    settings = {"data_path": str(tmp_path), "load_col": None, "MAX_ITEM_LIST_LENGTH": 10}
    config = Config("BERT4Rec", "tiny", overrides=settings)
    split = load_split(config)
    build_loaders(config, split)
    model = config.model_class(config, split.train).eval()
    sequence = torch.tensor([[model.n_items, 2, 3] + [0] * 7])  # the mask, two items, padding
    fields = {"MASK_ITEM_SEQ": sequence, "POS_ITEMS": torch.tensor([[0, 1]])}
    fields |= {"NEG_ITEMS": torch.tensor([[0, 4]]), "MASK_INDEX": torch.tensor([[0, 0]])}
    loss = model.calculate_loss(Interaction({config[key]: v for key, v in fields.items()}))
    logits = model(sequence)[:, 0] @ model.item_embedding.weight[: model.n_items].T
    expected = torch.nn.functional.cross_entropy(logits + model.output_bias, torch.tensor([1]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_bert4rec_trains_on_short_sequences(tmp_path: Path) -> None:
    """A fifth of 4 positions is less than one mask; RecBole's batches are ragged then."""
    rows = [f"u{user}\ti{(user + n) % 9}\t{n}" for user in range(6) for n in range(4)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write_table(tmp_path / "tiny" / "tiny.inter", header, rows)
    settings = {"data_path": str(tmp_path), "load_col": None, "MAX_ITEM_LIST_LENGTH": 4}
    config = Config("BERT4Rec", "tiny", overrides={**settings, "mask_ratio": 0.2})
    batches = list(build_loaders(config, load_split(config)).train)
    assert batches[0][config["POS_ITEMS"]].shape == (6, 1)


@pytest.mark.parametrize("model", ["DIN", "GRU4RecF"])
def test_a_model_s_layers_are_saved_once(model: str, small_ml100k: Path) -> None:
    """RecBole saves the embedding layer of DIN, DIEN, FDSA, GRU4RecF, SASRecF a second time."""
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    settings = {"data_path": str(small_ml100k), "load_col": columns}
    config = Config(model, "ml-100k", overrides=settings)
    built = config.model_class(config, load_split(config).train)
    assert built.other_parameter() == {}
    assert any("embed" in name and "layer" in name for name in built.state_dict())


def test_neumf_starts_from_checkpoints_of_this_package(small_ml100k: Path, work: Path) -> None:
    """torch.load refuses RecBole's pickles; the files of a run hold tensors and text."""
    sizes = {"mf_embedding_size": 4, "mlp_embedding_size": 4, "mlp_hidden_size": [4]}
    settings: dict[str, Any] = {"data_path": str(small_ml100k), "use_pretrain": False, **sizes}
    files = {}
    for kind in ("mf", "mlp"):
        parts = {"mf_train": kind == "mf", "mlp_train": kind == "mlp"}
        config = Config("NeuMF", "ml-100k", overrides={**settings, **parts})
        split = load_split(config)
        model = config.model_class(config, split.train)
        files[kind] = work / f"{kind}.pth"
        save_checkpoint(files[kind], {"state_dict": model.state_dict(), "config": "{}"})
        expected = model.user_mlp_embedding.weight
    paths = {f"{kind}_pretrain_path": str(path) for kind, path in files.items()}
    settings |= {"use_pretrain": True, "mf_train": True, "mlp_train": True, **paths}
    config = Config("NeuMF", "ml-100k", overrides=settings)
    model = config.model_class(config, split.train)
    assert torch.equal(model.user_mlp_embedding.weight, expected)


# ---- fixed splits of sequences


@pytest.mark.parametrize("names", [("user_id", "item_id"), ("uid", "product")])
def test_a_fixed_split_s_histories_share_the_items_ids(
    names: tuple[str, str], tmp_path: Path
) -> None:
    """RecBole numbers the list field by itself, and knows it under one name only."""
    user, item = names
    header = f"{user}:token\t{item}_list:token_seq\t{item}:token"
    for part, shift in (("train", 0), ("valid", 1), ("test", 2)):
        rows = [
            f"u{u}\t{' '.join(f'i{(u + n + shift) % 9}' for n in range(3))}\ti{(u + 3 + shift) % 9}"
            for u in range(6)
        ]
        write_table(tmp_path / "tiny" / f"tiny.{part}.inter", header, rows)
    settings = {
        "data_path": str(tmp_path),
        "USER_ID_FIELD": user,
        "ITEM_ID_FIELD": item,
        "load_col": {"inter": [user, item, f"{item}_list"]},
        "benchmark_filename": ["train", "valid", "test"],
        "MAX_ITEM_LIST_LENGTH": 3,
    }
    dataset, train, *_ = load_split(Config("SASRec", "tiny", overrides=settings))
    assert dataset.field2token_id[f"{item}_list"] == dataset.field2token_id[item]
    first = [str(t) for t in dataset.id2token(item, train.inter_feat[f"{item}_list"][0].numpy())]
    assert first == ["i0", "i1", "i2"]
    assert train.inter_feat["item_length"].tolist() == [3] * 6
