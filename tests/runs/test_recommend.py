"""A finished run in use: its lists again, lists for new users, and plain refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recbole_llm
from recbole_llm.cli.main import main
from recbole_llm.record import RunRecord
from recbole_llm.runs.rankings import read_rankings

Train = Callable[..., RunRecord]
SEQUENTIAL = {"train_batch_size": 4096, "MAX_ITEM_LIST_LENGTH": 10}
GENRES = {"modalities": {"genre": {"multi_hot": "class"}}}


def lists_of(table: pd.DataFrame) -> dict[str, list[str]]:
    return {user: rows["item"].tolist() for user, rows in table.groupby("user", sort=False)}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("LightGCN", {}),
        ("EASE", {}),
        ("SASRecCausal", {}),
        ("GRU4Rec", SEQUENTIAL),
        ("MLLMRec", GENRES),
        ("DMF", {}),
        ("NeuMF", {"protocol": "loo"}),
    ],
)
def test_lists_equal_those_that_the_run_saved(
    model: str, settings: dict[str, object], runner: Train
) -> None:
    record = runner(model, save_topk=20, **settings)
    loaded = recbole_llm.load(record.folder)
    table = loaded.recommend(k=20)
    lists = lists_of(table)
    kept = list(read_rankings(Path(record.folder) / "topk-test.jsonl"))
    assert len(lists) == loaded.split.dataset.user_num - 1 >= len(kept) > 100
    assert all(lists[row.user] == row.items for row in kept)
    scores = table[table["user"] == kept[0].user]["score"]
    np.testing.assert_allclose(scores, kept[0].scores, rtol=1e-5, atol=1e-6)
    assert loaded.evaluate("test") == record.metrics["test"]


def test_what_is_hidden(runner: Train) -> None:
    record = runner("Pop")
    loaded = recbole_llm.load(record.folder)
    split, user = loaded.split, "1"
    parts = []
    for part in (split.train, split.valid, split.test):
        is_own = part.inter_feat["user_id"] == split.dataset.token2id("user_id", user)
        parts.append(set(split.dataset.id2token("item_id", part.inter_feat["item_id"][is_own])))
    n_items = split.dataset.item_num - 1
    known, everything, nothing = (
        set(loaded.recommend([user], k=n_items, hide=hide)["item"])
        for hide in ("known", "all", "none")
    )
    assert known.isdisjoint(parts[0] | parts[1]) and parts[2] <= known
    assert everything.isdisjoint(parts[0] | parts[1] | parts[2])
    assert len(everything) == n_items - len(parts[0] | parts[1] | parts[2])
    assert len(nothing) == n_items


def test_linear_models_rank_a_history_as_a_user_who_has_it(runner: Train) -> None:
    """A history of a user's training items gives the scores that the model gives the user."""
    for model in ("EASE", "ItemKNN"):
        loaded = recbole_llm.load(runner(model).folder)
        dataset, train = loaded.split.dataset, loaded.split.train
        user = dataset.token2id("user_id", "7")
        items = dataset.id2token(
            "item_id", train.inter_feat["item_id"][train.inter_feat["user_id"] == user]
        )
        by_user = loaded.recommend(["7"], k=30, hide="none")
        by_history = loaded.recommend(histories=[items.tolist()], k=30, hide="none")
        assert by_user["item"].tolist() == by_history["item"].tolist()
        np.testing.assert_allclose(by_user["score"], by_history["score"], rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "settings"), [("SASRecCausal", {}), ("GRU4Rec", SEQUENTIAL), ("MLLMRec", GENRES)]
)
def test_models_that_read_items_rank_a_history_as_a_user_who_has_it(
    model: str, settings: dict[str, object], runner: Train
) -> None:
    loaded = recbole_llm.load(runner(model, **settings).folder)
    dataset = loaded.split.dataset
    if model == "MLLMRec":
        train = loaded.split.train.inter_feat
        history = train["item_id"][train["user_id"] == dataset.token2id("user_id", "7")]
    else:
        test = pd.read_csv(
            Path(loaded.config["data_path"]) / "ml-100k.inter", sep="\t", dtype=str
        ).astype({"timestamp:float": float})
        rows = test[test["user_id:token"] == "7"].sort_values("timestamp:float", kind="stable")
        tokens = rows["item_id:token"].tolist()[:-1]  # the last one tests
        history = dataset.token2id("item_id", np.array(tokens))
    tokens = dataset.id2token("item_id", np.asarray(history)).tolist()
    n_items = dataset.item_num - 1
    by_user = loaded.recommend(["7"], k=n_items, hide="none").set_index("item")["score"]
    by_history = loaded.recommend(histories=[["1"], tokens], k=n_items, hide="none")
    scores = by_history[by_history["user"] == "2"].set_index("item")["score"]
    np.testing.assert_allclose(scores[by_user.index], by_user, rtol=1e-4, atol=1e-5)
    hidden = loaded.recommend(histories=[tokens], k=30)
    assert set(hidden["item"]).isdisjoint(tokens)


@pytest.mark.parametrize(
    ("model", "settings"),
    [("LightGCN", {}), ("Caser", SEQUENTIAL), ("MLLMRec", GENRES | {"user_profile": "random"})],
)
def test_models_of_known_users_refuse_histories(
    model: str, settings: dict[str, object], runner: Train
) -> None:
    loaded = recbole_llm.load(runner(model, **settings).folder)
    with pytest.raises(ValueError, match="not for a new user's history"):
        loaded.recommend(histories=[["1"]])


def test_bad_input_is_named(runner: Train) -> None:
    loaded = recbole_llm.load(runner("EASE").folder)
    for call, text in [
        ({"users": ["12345"]}, "no user '12345'"),
        ({"histories": [["nothing"]]}, "no item 'nothing'"),
        ({"histories": [[]]}, "at least one item"),
        ({"users": ["1"], "k": 0}, "k must be an integer in 1"),
        ({"users": ["1"], "k": 10**6}, "k must be an integer in 1"),
        ({"users": ["1"], "hide": "test"}, "hide must be one of"),
        ({"users": ["1"], "histories": [["1"]]}, "not both"),
        ({"users": "196"}, "list of tokens"),
        ({"users": ["[PAD]"]}, "no user"),
    ]:
        with pytest.raises(ValueError, match=text):
            loaded.recommend(**call)
    with pytest.raises(ValueError, match="part must be one of"):
        loaded.evaluate("train")


def test_embeddings_multiply_to_the_scores(runner: Train) -> None:
    for model, settings in [("BPR", {}), ("LightGCN", {}), ("SASRecCausal", {})]:
        loaded = recbole_llm.load(runner(model, **settings).folder)
        users, items = loaded.user_embeddings(), loaded.item_embeddings()
        row = {user: n for n, user in enumerate(users.tokens)}
        column = {item: n for n, item in enumerate(items.tokens)}
        table = loaded.recommend(["5", "9"], k=5)
        product = [
            users.values[row[u]] @ items.values[column[i]]
            for u, i in zip(table["user"], table["item"], strict=True)
        ]
        np.testing.assert_allclose(product, table["score"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="inner products"):
        recbole_llm.load(runner("EASE").folder).user_embeddings()


def test_the_command_in_all_forms(
    runner: Train, capsys: pytest.CaptureFixture[str], work: Path
) -> None:
    folder = runner("EASE").folder
    expected = recbole_llm.load(folder).recommend(["3", "1"], k=4)
    base = ["recommend", folder, "--users=3,1", "--k=4"]
    capsys.readouterr()
    assert main(base) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["user", "rank", "item", "title", "score"] and len(lines) == 10
    assert main([*base, "--format=jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["item"] for row in rows] == expected["item"].tolist()
    assert main([*base, "--format=csv", "--output=lists.csv"]) == 0
    table = pd.read_csv("lists.csv", dtype={"user": str, "item": str})
    pd.testing.assert_frame_equal(
        table[["user", "item"]], expected[["user", "item"]], check_dtype=False
    )
    Path("users.txt").write_text("3\n1\n")
    assert main(["recommend", folder, "--users_file=users.txt", "--k=4"]) == 0
    assert main(["recommend", folder, "--history=1,50", "--history=7", "--k=2"]) == 0
    capsys.readouterr()
    for words, text in [
        (["--users=nobody"], "has no user"),
        (["--users_file=missing.txt"], "missing.txt"),
        (["--users=1", "--all"], "not allowed with"),
        (["--users=1", "--format=parquet"], "--output"),
        (["--users=1", "--format=xml"], "invalid choice"),
        ([], "required"),
    ]:
        assert main(["recommend", folder, *words]) == 2
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1


def test_a_run_shows_itself(runner: Train) -> None:
    record = runner("Pop")
    loaded = recbole_llm.load(record.folder)
    assert repr(loaded).startswith("<Pop on ml-100k (random811): recall@10 0.")
    page = loaded._repr_html_()
    assert f"{record.metrics['test']['recall@10']:.4f}" in page and record.id in page
