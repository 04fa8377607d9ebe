"""Protocols on arrays, and frozen splits on disk and in runs."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.data.loading import load_split
from recbole_llm.files import sha256_of
from recbole_llm.runs.reload import load_run
from recbole_llm.runs.verify import verify_run
from recbole_llm.splitting.frozen import (
    FILES,
    MANIFEST,
    PARTS,
    _digest,
    read_frozen,
    write_frozen,
)
from recbole_llm.splitting.protocols import PROTOCOLS, split_rows
from recbole_llm.splitting.samples import cut_samples
from recbole_llm.trainer.cold import cold_metrics

ROWS = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(0, 30)), min_size=12, max_size=60
)


def _frame(rows):
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def _split(protocol, frame, seed=1, **options):
    user, item = frame["user"].to_numpy(), frame["item"].to_numpy()
    return split_rows(protocol, user, item, frame["time"].to_numpy(float), seed, **options)


def _try(protocol, frame, **options):
    try:
        return _split(protocol, frame, **options)
    except ValueError as error:
        assert "empty" in str(error)
        return None


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, protocol=st.sampled_from(sorted(PROTOCOLS)), seed=st.integers(0, 5))
def test_no_interaction_is_lost_or_invented(rows, protocol, seed):
    frame = _frame(rows)
    split = _try(protocol, frame, seed=seed)
    if split is None:
        return
    everything = np.concatenate([*split.parts, split.dropped])
    assert sorted(everything) == list(range(len(frame)))
    again = _split(protocol, frame, seed=seed)
    assert all((a == b).all() for a, b in zip(split.parts, again.parts, strict=True))
    seen = set(frame["user"].to_numpy()[split.train])
    assert not seen & set(frame["user"].to_numpy()[split.dropped])


@settings(max_examples=40, deadline=None)
@given(rows=ROWS)
def test_timed_protocols_agree_with_pandas(rows):
    frame = _frame(rows)
    ordered = frame.sort_values("time", kind="stable")
    nth = ordered.groupby("user").cumcount(ascending=False)
    n_of = ordered.groupby("user")["item"].transform("size")
    loo = _try("loo", frame)
    if loo is not None:
        assert set(loo.test) == set(ordered.index[(nth == 0) & (n_of > 1)])
        assert set(loo.valid) == set(ordered.index[(nth == 1) & (n_of > 2)])
    temporal = _try("temporal811", frame)
    if temporal is not None:
        time = frame["time"].to_numpy()
        for user in frame["user"].unique():
            mine = [part[frame["user"].to_numpy()[part] == user] for part in temporal.parts]
            times = [time[part] for part in mine if len(part)]
            for earlier, later in zip(times, times[1:], strict=False):
                assert earlier.max() <= later.min()
    glob = _try("global_time", frame, unseen_users="keep")
    if glob is not None:
        times = [frame["time"].to_numpy()[part] for part in glob.parts]
        assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()
        assert glob.facts["cut_times"] == [times[1].min(), times[2].min()]


def test_per_user_sizes_are_recboles():
    # RecBole's rule by hand: 10 % rounded down, but a part that would be empty takes one.
    for size, expected in [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (9, (7, 1, 1)),
                           (10, (8, 1, 1)), (19, (17, 1, 1)), (29, (25, 2, 2))]:  # fmt: skip
        frame = _frame([(1, i, i) for i in range(size)] + [(2, i, i) for i in range(10)])
        split = _split("temporal811", frame)
        assert (
            tuple((frame["user"].to_numpy()[part] == 1).sum() for part in split.parts) == expected
        )


@pytest.mark.parametrize("kind", ["user", "item"])
def test_cold_ones_are_in_one_part_each(kind):
    rng = np.random.default_rng(0)
    frame = _frame(rng.integers(0, 40, (900, 3)))
    split = _split(f"cold_{kind}s", frame)
    ids = [set(frame[kind].to_numpy()[part]) for part in split.parts]
    assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2]
    assert [len(ids[1]), len(ids[2])] == [4, 4]  # 20 % of 40, half and half
    assert set(_split(f"cold_{kind}s", frame, seed=2).test) != set(split.test)


def test_unseen_users_are_dropped_or_kept():
    rows = [(1, i, i) for i in range(8)] + [(2, 1, 8), (1, 9, 9)]
    assert list(_split("global_time", _frame([*rows, (3, 1, 9)]), unseen_users="keep").valid) == [8]
    split = _split("global_time", _frame(rows), unseen_users="drop")
    assert list(split.dropped) == [8] and list(split.test) == [9]


@pytest.mark.parametrize(
    "options, text",
    [
        ({"protocol": "loo", "time": None}, "needs timestamps"),
        ({"protocol": "lou"}, "unknown protocol"),
        ({"cold_share": 1.0}, "cold_share"),
        ({"unseen_users": "drop"}, "unseen_users"),
    ],
)
def test_bad_options_are_named(options, text):
    ids = np.arange(20)
    arguments = {"protocol": "cold_users", "time": ids.astype(float), "seed": 1, **options}
    with pytest.raises(ValueError, match=text):
        split_rows(user=ids, item=ids, **arguments)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 3), width=st.integers(1, 5))
def test_samples_equal_a_plain_loop(rows, seed, width):
    frame = _frame(rows)
    split = _try("random811", frame, seed=seed)
    if split is None:
        return
    user, time = frame["user"].to_numpy(), frame["time"].to_numpy(float)
    part_of = np.full(len(frame), 3)
    for nth, part in enumerate(split.parts):
        part_of[part] = nth
    for nth, samples in enumerate(cut_samples(user, time, split.parts, width)):
        expected = {}
        for target in split.parts[nth]:
            before = [
                row
                for row in sorted(range(len(frame)), key=lambda row: (time[row], row))
                if user[row] == user[target]
                and part_of[row] <= nth
                and (time[row], row) < (time[target], target)
            ]
            if before:
                expected[int(target)] = before[-width:]
        found = {
            int(target): list(history[:length])
            for target, history, length in zip(*samples, strict=True)
        }
        assert found == expected
        assert all(not h[n:].any() for _, h, n in zip(*samples, strict=True))


# -- on disk -----------------------------------------------------------------------------------


def _freeze(data_path: Path, protocol: str, *more: str) -> int:
    return main(
        ["split", "--dataset=ml-100k", f"--protocol={protocol}", f"--data_path={data_path}", *more]
    )


@pytest.fixture(scope="module")
def frozen_path(small_ml100k: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every protocol frozen on a copy of ``small_ml100k``; the ``data_path``."""
    path = tmp_path_factory.mktemp("frozen") / "dataset"
    shutil.copytree(small_ml100k, path)
    for protocol in PROTOCOLS:
        assert _freeze(path, protocol) == 0
    return path


def _name(protocol: str) -> str:
    return protocol if PROTOCOLS[protocol].needs_time else f"{protocol}-2020"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_share_out_the_source_and_have_the_same_bytes_again(frozen_path, protocol):
    folder = frozen_path / "ml-100k" / "splits" / _name(protocol)
    header, *lines = (frozen_path / "ml-100k/ml-100k.inter").read_text().splitlines()
    texts = {part: (folder / f"{part}.inter").read_text().splitlines() for part in PARTS}
    assert all(text[0] == header for text in texts.values())
    shared = sum((text[1:] for text in texts.values()), [])
    counts = json.loads((folder / MANIFEST).read_text())["counts"]
    assert len(lines) == counts["source"] == len(shared) + sum(counts["dropped"].values())
    assert len(set(shared)) == len(shared) and set(shared) <= set(lines)
    rows = read_frozen(folder.name, frozen_path / "ml-100k", "ml-100k").rows()
    for part, index in zip(PARTS, rows, strict=True):
        assert [lines[row] for row in sorted(index)] == texts[part][1:]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert _freeze(frozen_path, protocol) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def _config(model: str, data_path: Path, **settings: object) -> Config:
    quiet = {"show_progress": False, "state": "ERROR", "data_path": str(data_path)}
    return Config(model, "ml-100k", overrides={**quiet, **settings})


@pytest.mark.parametrize(
    "model, protocol", [("BPR", "loo"), ("SASRec", "loo"), ("BPR", "random811")]
)
def test_frozen_parts_are_the_unfrozen_ones(frozen_path, model, protocol):
    plain = load_split(_config(model, frozen_path, protocol=protocol))
    frozen = load_split(_config(model, frozen_path, split=_name(protocol)))
    for one, other in zip(plain[1:], frozen[1:], strict=True):
        assert set(one.inter_feat.columns) == set(other.inter_feat.columns)
        for field in one.inter_feat.columns:
            assert (one.inter_feat[field] == other.inter_feat[field]).all(), field
            assert one.inter_feat[field].dtype == other.inter_feat[field].dtype


@pytest.mark.parametrize("model", ["LightGCN", "SASRecCausal"])
@pytest.mark.parametrize("protocol", ["loo", "random811"])
def test_numbers_equal_those_of_the_unfrozen_split(frozen_path, runner, model, protocol):
    settings = {"data_path": str(frozen_path), "epochs": 2, "metrics": ["Recall", "NDCG"]}
    plain = runner(model, protocol=protocol, **settings)
    frozen = runner(model, split=_name(protocol), **settings)
    assert frozen.metrics == plain.metrics
    assert frozen.metrics_cold == plain.metrics_cold
    assert [it["loss"] for it in frozen.epochs] == [it["loss"] for it in plain.epochs]
    assert frozen.protocol == protocol and frozen.data["split"] == plain.data["split"]
    assert frozen.data["frozen_split"]["name"] == frozen.config["split"] == _name(protocol)
    assert frozen.config["split_sha256"] == frozen.data["frozen_split"]["sha256"]


def test_filters_are_those_the_split_was_frozen_with(frozen_path, tmp_path, capsys):
    keep = "--user_inter_num_interval=[40,inf)"
    assert _freeze(frozen_path, "random811", keep, "--rm_dup_inter=first", "--name=dense") == 0
    assert "left out by the settings" in capsys.readouterr().out
    plain = _config(
        "BPR",
        frozen_path,
        protocol="random811",
        user_inter_num_interval="[40,inf)",
        rm_dup_inter="first",
    )
    expected = load_split(plain)
    found = load_split(_config("BPR", frozen_path, split="dense"))
    for one, other in zip(expected[1:], found[1:], strict=True):
        for field in one.inter_feat.columns:
            assert (one.inter_feat[field] == other.inter_feat[field]).all()
    with pytest.raises(ValueError, match=r"user_inter_num_interval='\[5,inf\)'.*'dense'"):
        _config("BPR", frozen_path, split="dense", user_inter_num_interval="[5,inf)")
    with pytest.raises(ValueError, match="protocol='loo'.*random811"):
        _config("BPR", frozen_path, split="dense", protocol="loo")


@pytest.mark.parametrize("model", ["LightGCN", "VBPR", "FREEDOM", "BPR", "SASRecCausal", "Pop"])
@pytest.mark.parametrize("protocol", ["cold_items", "cold_users", "global_time"])
def test_models_live_with_users_and_items_that_training_has_not_seen(
    frozen_path, runner, model, protocol
):
    content = {"modalities": ["genre"]} if model in ("VBPR", "FREEDOM") else {}
    record = runner(model, data_path=str(frozen_path), split=_name(protocol), **content)
    assert record.metrics["test"].keys() == record.metrics["valid"].keys()
    cold = record.metrics_cold["test"]
    if protocol == "cold_users":
        assert cold["cold_users"]["recall@20"] == record.metrics["test"]["recall@20"]
    if protocol == "cold_items":
        assert cold["cold_items"]["n_interactions"] == record.data["n_interactions"][2]
        assert cold["cold_items_only"]["recall@20"] >= cold["cold_items"]["recall@20"]


def test_cold_metrics_by_hand(frozen_path):
    from recbole_llm.data.loading import build_loaders
    from recbole_llm.trainer.trainer import build_trainer

    config = _config("BPR", frozen_path, split="cold_items-2020", topk=[5], valid_metric="Recall@5")
    split = load_split(config)
    loaders = build_loaders(config, split)
    model = config.model_class(config, split.train)
    found = cold_metrics(build_trainer(config, model), loaders.test, split.train, {})
    scores = (model.user_embedding.weight @ model.item_embedding.weight.T).detach().numpy()
    user, item = (split.test.inter_feat[f].numpy() for f in ("user_id", "item_id"))
    warm = set(split.train.inter_feat["item_id"].tolist())
    cold = np.array([i for i in range(1, split.test.item_num) if i not in warm])
    valid = (
        pd.DataFrame({f: split.valid.inter_feat[f].numpy() for f in ("user_id", "item_id")})
        .groupby("user_id")["item_id"]
        .agg(set)
    )
    recalls = []
    for one in np.unique(user):
        left = np.array([i for i in cold if i not in valid.get(one, set())])
        best = left[np.argsort(-scores[one, left])[:5]]
        mine = item[user == one]
        recalls.append(np.isin(best, mine).sum() / len(mine))
    assert found["cold_items_only"]["recall@5"] == pytest.approx(np.mean(recalls), abs=1e-6)
    assert "cold_users" not in found


@pytest.mark.parametrize("name", ["test.inter", "rows.npy", MANIFEST, "ml-100k.inter"])
def test_a_changed_file_is_refused(own_ml100k, name):
    assert _freeze(own_ml100k, "loo") == 0
    folder = own_ml100k / "ml-100k"
    path = folder / name if name == "ml-100k.inter" else folder / "splits/loo" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1", b"2", 1) if name == MANIFEST else content[:-2] + b"9\n")
    with pytest.raises(
        ValueError, match=rf"{name} was changed.* [0-9a-f]{{64}} then, [0-9a-f]{{64}}"
    ):
        load_split(_config("Pop", own_ml100k, split="loo"))


def test_held_out_rows_do_not_reach_training(own_ml100k):
    assert _freeze(own_ml100k, "temporal811") == 0
    before = load_split(_config("SASRec", own_ml100k, split="temporal811"))
    source = own_ml100k / "ml-100k/ml-100k.inter"
    lines = source.read_text().splitlines()
    test = read_frozen("temporal811", own_ml100k / "ml-100k", "ml-100k").rows()[2]
    for row in test[:50]:  # another item, one that training knows, at the same time
        user, _, *rest = lines[row + 1].split("\t")
        lines[row + 1] = "\t".join([user, "50", *rest])
    source.write_text("\n".join(lines) + "\n")
    assert _freeze(own_ml100k, "temporal811", "--name=changed") == 0
    after = load_split(_config("SASRec", own_ml100k, split="changed"))
    assert _tokens(before.train) == _tokens(after.train)
    assert _tokens(before.test) != _tokens(after.test)


def _tokens(part):
    feat = part.inter_feat
    columns = [
        part.id2token(source, feat[field])
        for field, source in (
            ("user_id", "user_id"), ("item_id", "item_id"), ("item_id_list", "item_id"),
        )
    ]  # fmt: skip
    return [np.asarray(column).tolist() for column in columns]


def test_errors_say_what_to_do(frozen_path, own_ml100k, capsys):
    assert _freeze(frozen_path, "random812") == 2
    assert "Did you mean 'random811'" in capsys.readouterr().err
    assert _freeze(frozen_path, "random811", "--seed=7", "--name=loo") == 2
    assert "holds another split" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no frozen split 'lo'.*cold_items-2020"):
        _config("BPR", frozen_path, split="lo")
    with pytest.raises(ValueError, match="DIENDataset, which takes no frozen split"):
        load_split(_config("DIEN", frozen_path, split="loo"))
    quoted = own_ml100k / "ml-100k/ml-100k.inter"
    text = quoted.read_text().splitlines()
    text[3] = '"' + text[3]
    text[5] = text[5] + '"'
    quoted.write_text("\n".join(text) + "\n")
    assert _freeze(own_ml100k, "random811") == 2
    assert "quotation mark" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", ".."])
def test_a_name_that_leads_out_of_the_folder_of_splits(own_ml100k, capsys, name):
    before = sorted(own_ml100k.parent.rglob("*"))
    assert _freeze(own_ml100k, "random811", f"--name={name}") == 2
    assert f"split: the name {name!r} must be a folder's name" in capsys.readouterr().err
    assert sorted(own_ml100k.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "model, protocol", [("LightGCN", "cold_items"), ("GRU4Rec", "temporal811")]
)
def test_a_run_on_a_frozen_split_is_verified_and_brought_back(frozen_path, runner, model, protocol):
    small = {"MAX_ITEM_LIST_LENGTH": 5, "hidden_size": 8} if model == "GRU4Rec" else {}
    name = _name(protocol)
    record = runner(model, data_path=str(frozen_path), split=name, save_topk=20, **small)
    report = verify_run(record.folder)
    assert report.agrees, report.text
    loaded = load_run(record.folder)
    assert loaded.config["split"] == name and loaded.config["protocol"] == protocol
    assert verify_run(record.folder, str(frozen_path)).agrees


def test_a_split_of_recboles_own_ml100k_lies_in_the_users_folder(work):
    # RecBole ships ml-100k inside its own package, which is no place for a user's splits.
    assert main(["split", "--dataset=ml-100k", "--protocol=random811"]) == 0
    assert (work / "dataset/ml-100k/splits/random811-2020/test.inter").is_file()
    config = _config("HeLLM", Path("dataset"), split="random811-2020")
    assert Path(config["data_path"]).parent != work / "dataset"
    stage = config.stages["graph"]
    assert stage["split_sha256"] == config["split_sha256"] and stage["protocol"] == "random811"


def test_files_with_a_separator_of_several_letters_are_read_too(own_ml100k):
    source = own_ml100k / "ml-100k/ml-100k.inter"
    plain = load_split(_config("Pop", own_ml100k))
    source.write_text(source.read_text().replace("\t", "::"))
    for suffix in ("user", "item"):
        (source.with_suffix(f".{suffix}")).unlink()
    other = load_split(_config("Pop", own_ml100k, field_separator="::"))
    for field in ("user_id", "item_id", "timestamp", "rating"):
        assert (plain.train.inter_feat[field] == other.train.inter_feat[field]).all()


# -- edited manifests (kind 9: a manifest certifies itself) ---------------------------------------


def _forge(folder: Path, **fields: object) -> None:
    """Change fields of a manifest, and its digest with them."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text()) | fields
    manifest["sha256"] = _digest(manifest)
    path.write_text(json.dumps(manifest))


def _counts(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())["counts"]


FORGED = {
    "no files": (lambda folder: {"files": {}}, "must name the files train.inter, .*names none"),
    "one file less": (
        lambda folder: {
            "files": {
                name: digest
                for name, digest in json.loads((folder / MANIFEST).read_text())["files"].items()
                if name != "rows.npy"
            }
        },
        "must name the files .*rows.npy, and names",
    ),
    "files without digest": (
        lambda folder: {"files": dict.fromkeys((*(f"{p}.inter" for p in PARTS), "rows.npy"))},
        "no sha256 of train.inter",
    ),
    "unknown protocol": (lambda folder: {"protocol": "other"}, "unknown protocol 'other'"),
    "another protocol": (lambda folder: {"protocol": "loo"}, "not divided by the protocol loo"),
    "a protocol that draws": (
        lambda folder: {"protocol": "random811"},
        "the protocol random811 draws by a seed",
    ),
    "cut times": (
        lambda folder: {"protocol": "global_time"},
        "not divided by the protocol global_time",
    ),
    "cold items": (
        lambda folder: {"protocol": "cold_items", "seed": 1},
        "not divided by the protocol cold_items",
    ),
    "no facts": (lambda folder: {"facts": None}, "lacks facts"),
    "counts": (
        lambda folder: {"counts": _counts(folder) | {"train": 1}},
        "counts do not add up",
    ),
    "counts of users": (
        lambda folder: {"counts": _counts(folder) | {"parts": {}}},
        "and its manifest says",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_an_edited_manifest_with_its_digest_is_refused(own_ml100k, case):
    change, message = FORGED[case]
    assert _freeze(own_ml100k, "temporal811") == 0
    folder = own_ml100k / "ml-100k/splits/temporal811"
    _forge(folder, **change(folder))
    with pytest.raises(ValueError, match=message):
        load_split(_config("Pop", own_ml100k, split="temporal811"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda rows: np.append(rows[:-1], rows[0]), "names a row of the source twice"),
        (lambda rows: np.append(rows[:-1], np.int32(99_999)), "rows that the source of"),
        (lambda rows: rows[:-1], "counts 1[0-9]+ rows"),
        (lambda rows: rows.astype(np.int64), "holds int64"),
        (lambda rows: rows[::-1], "the train part has .*, and its manifest says"),
    ],
)
def test_edited_rows_with_their_digest_are_refused(own_ml100k, change, message):
    assert _freeze(own_ml100k, "temporal811") == 0
    folder = own_ml100k / "ml-100k/splits/temporal811"
    rows = np.load(folder / "rows.npy")
    np.save(folder / "rows.npy", change(rows))
    files = json.loads((folder / MANIFEST).read_text())["files"]
    _forge(folder, files=files | {"rows.npy": sha256_of(folder / "rows.npy")})
    with pytest.raises(ValueError, match=message):
        load_split(_config("Pop", own_ml100k, split="temporal811"))


def test_times_decide_whether_rows_are_in_the_order_of_a_protocol(own_ml100k):
    """random811 and temporal811 differ in the order within a user alone."""
    assert _freeze(own_ml100k, "random811", "--name=forged") == 0
    _forge(own_ml100k / "ml-100k/splits/forged", protocol="temporal811", seed=None)
    with pytest.raises(ValueError, match="not divided by the protocol temporal811"):
        load_split(_config("SASRec", own_ml100k, split="forged"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "\udcff"])
def test_a_split_with_a_damaged_manifest_is_not_replaced(own_ml100k, capsys, text):
    assert _freeze(own_ml100k, "random811", "--name=own") == 0
    path = own_ml100k / "ml-100k" / "splits" / "own" / "manifest.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert _freeze(own_ml100k, "random811", "--name=own") == 2
    assert "own holds another split" in capsys.readouterr().err


def test_kind8_two_processes_freeze_one_split(frozen_path, tmp_path):
    """One of them removed the folder that the other was filling."""
    frozen = read_frozen("loo", frozen_path / "ml-100k", "ml-100k")
    source = frozen_path / "ml-100k" / "ml-100k.inter"
    content = {k: v for k, v in frozen.manifest.items() if k not in ("source", "files", "sha256")}
    begin, folder = threading.Barrier(6), tmp_path / "splits" / "loo"

    def freeze(_):
        begin.wait()
        return write_frozen(folder, content, source, frozen.rows()).manifest

    with ThreadPoolExecutor(6) as pool:
        assert all(found == frozen.manifest for found in pool.map(freeze, range(6)))
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "manifest.json"])
