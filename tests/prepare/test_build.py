import hashlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from file_server import drop_after, stall_after
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_files import asin, events, gz_lines, metadata_2014, reviews

from recbole_llm.prepare.build import prepare_dataset
from recbole_llm.prepare.filters import Filters
from recbole_llm.prepare.sources import SOURCES
from recbole_llm.prepare.sources.amazon2014 import Amazon2014
from recbole_llm.prepare.summary import comparison


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- what is written


def test_second_run_writes_the_same_bytes(builder, shop, tmp_path):
    builder(*shop.arguments, "--image_features")
    before = contents(builder.data_path / "sports")
    builder(*shop.arguments, "--image_features", "--overwrite")
    assert contents(builder.data_path / "sports") == before
    other = tmp_path / "elsewhere" / "data"
    raw = builder.data_path / "raw" / "amazon2014"
    prepare_dataset(
        Amazon2014("Sports_and_Outdoors", True), other, raw_dir=raw, report=lambda text: None
    )
    assert contents(other / "sports") == before
    assert set(before) == {
        "dataset.yaml",
        "image_feat.npy",
        "item_ids.txt",
        "manifest.json",
        "sports.inter",
        "sports.item",
    }


def test_manifest_has_the_checksums_of_what_was_read_and_written(builder, shop):
    builder(*shop.arguments, "--k_core=3", "--min_rating=2", "--duplicates=last")
    manifest = builder.manifest("sports")
    folder = builder.data_path / "sports"
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}
    for note, role in zip(manifest["raw_files"], ("reviews", "metadata"), strict=True):
        content = shop.server.files[shop.path(role)]
        assert note["size"] == len(content)
        assert note["sha256"] == hashlib.sha256(content).hexdigest()
    assert manifest["filters"] == {
        "k_core": 3,
        "duplicates": "last",
        "min_rating": 2.0,
        "since": None,
        "until": None,
    }


RAW = st.lists(
    st.tuples(
        st.integers(0, 7).map(lambda n: f"U{n}"),
        st.integers(0, 7).map(asin),
        st.sampled_from([1.0, 3.0, 5.0]),
        st.integers(1, 5).map(lambda day: day * 86_400),
    ),
    min_size=1,
    max_size=120,
)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(rows=RAW, k=st.integers(0, 3), duplicates=st.sampled_from(["first", "last", "all"]))
def test_no_interaction_is_lost_or_invented(tmp_path_factory, rows, k, duplicates):
    folder = tmp_path_factory.mktemp("raw")
    (folder / "reviews_Baby_5.json.gz").write_bytes(gz_lines(reviews(rows, long=False)))
    (folder / "meta_Baby.json.gz").write_bytes(gz_lines(metadata_2014([asin(0), asin(9)])))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    if duplicates != "all":
        by_time = frame.sort_values("timestamp", kind="stable")
        frame = by_time.drop_duplicates(["user_id", "item_id"], keep=duplicates)
    size = None
    while size != len(frame) and k > 1:
        size = len(frame)
        users, items = frame["user_id"], frame["item_id"]
        frame = frame[
            (users.map(users.value_counts()) >= k) & (items.map(items.value_counts()) >= k)
        ]

    def run():
        filters = Filters(k_core=k, duplicates=duplicates)
        source = Amazon2014("Baby")
        return prepare_dataset(
            source, folder / "data", filters=filters, raw_dir=folder, report=lambda text: None
        )

    if frame.empty:
        with pytest.raises(ValueError, match="no interaction is left"):
            run()
        assert not (folder / "data" / "baby").exists()
        return
    found = pd.read_csv(run().folder / "baby.inter", sep="\t")
    found.columns = frame.columns
    order = ["user_id", "item_id", "timestamp", "rating"]
    pd.testing.assert_frame_equal(
        found.sort_values(order).reset_index(drop=True),
        frame.sort_values(order).reset_index(drop=True),
        check_dtype=False,
    )
    ids = (folder / "data" / "baby" / "item_ids.txt").read_text().split()
    assert sorted(ids) == sorted(set(frame["item_id"]))


def test_published_sizes_and_differences(builder, shop):
    builder(*shop.arguments)
    assert "published (HeLLM, Table I): 35,598 users, 18,357 items, 260,739 interactions" in (
        builder.out
    )
    assert "here: -35,586 users, -18,345 items, -296,229 interactions" in builder.out
    assert "fewer" not in builder.out  # which explains another difference
    built = comparison(Amazon2014("Sports_and_Outdoors"), 35_598, 18_357, 296_337)
    assert built[1] == (
        "  here: +35,598 interactions: the paper counts one interaction a user fewer than the "
        "data has"
    )
    assert built[3] == "  the same here"


@pytest.mark.parametrize(
    "size",
    [size for source in SOURCES.values() for sizes in source.published.values() for size in sizes],
)
def test_published_sizes_are_plausible(size):
    assert size.interactions >= 5 * max(size.users, size.items)


def test_every_source_is_whole():
    for key, source in SOURCES.items():
        assert source.key == key and source.HELP
        assert source.is_local or key == "yelp" or source.addresses
        for option in source.options:
            assert option.name.isidentifier() and option.help
            assert not (option.is_flag and (option.choices or option.required))


# -- what must not happen


def test_a_dataset_that_is_there_is_not_overwritten(builder, shop):
    builder(*shop.arguments)
    mine = builder.data_path / "sports" / "mine.txt"
    mine.write_text("mine")
    builder(*shop.arguments, status=2)
    assert "sports is there already. --overwrite replaces it" in builder.err
    assert mine.exists()
    builder(*shop.arguments, "--name=sports2")
    builder(*shop.arguments, "--overwrite")
    assert not mine.exists() and len(builder.table("sports")) == 108
    assert not [path for path in builder.data_path.glob(".*") if path.is_dir()]


def test_a_failed_overwrite_keeps_what_was_there(builder, shop):
    builder(*shop.arguments)
    before = contents(builder.data_path / "sports")
    builder(*shop.arguments, "--overwrite", "--min_rating=9", status=2)
    assert "no interaction is left: read 108, below min rating 108" in builder.err
    assert contents(builder.data_path / "sports") == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--k_core=-1", "k_core must be an integer >= 0, got -1"),
        ("--duplicates=some", "duplicates must be first, last, all, got 'some'"),
        ("--since=2019", "a date must look like 2019-12-31, got '2019'"),
        ("--name=../x", "the name '../x' must be a folder's name"),
        ("--mirror=file:///etc", "mirror must be an http address, got 'file:///etc'"),
    ],
)
def test_wrong_options(builder, shop, option, message):
    assert message in builder.fails(*shop.arguments, option)


def test_two_at_once(builder, shop):
    builder.data_path.mkdir()
    with FileLock(builder.data_path / ".sports.lock"):
        assert "another process is preparing" in builder.fails(*shop.arguments)
    builder(*shop.arguments)


# -- killed


@pytest.fixture
def starter(cli, builder):
    """Return a function that starts the command in a process of its own."""
    started = []

    def call(*words):
        process = subprocess.Popen(
            cli.command("recbole_llm", "prepare", *words, f"--data_path={builder.data_path}"),
            cwd=cli.work,
            env=cli.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # a shell's background jobs ignore Ctrl-C, and so would their children
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


def test_killed_in_mid_download_goes_on_where_it_was(builder, shop, starter):
    size = len(shop.server.files[shop.path("reviews")])
    half = size // 2
    shop.server.faults = [stall_after(half)]
    part = builder.data_path / "raw/amazon2014/reviews_Sports_and_Outdoors_5.json.gz.part"
    process = starter(*shop.arguments)
    wait_for(lambda: part.exists() and part.stat().st_size == half)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (builder.data_path / "sports").exists()
    builder(*shop.arguments)
    assert shop.server.asked[:2] == [
        (shop.path("reviews"), ""),
        (shop.path("reviews"), f"bytes={half}-"),
    ]
    assert len(builder.table("sports")) == 108


def test_killed_while_building_leaves_no_dataset(builder, shop, starter):
    shop.publish(events(n_users=4_000, n_items=400, each=20))
    reference = [*shop.arguments, "--name=reference"]
    builder(*reference)
    process = starter(*shop.arguments)
    wait_for(lambda: (builder.data_path / ".sports.partial").exists())
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (builder.data_path / "sports").exists()
    assert (builder.data_path / ".sports.partial").exists()
    builder(*shop.arguments)
    assert not (builder.data_path / ".sports.partial").exists()
    for name in ("inter", "item"):
        file = builder.data_path / "sports" / f"sports.{name}"
        twin = builder.data_path / "reference" / f"reference.{name}"
        assert file.read_bytes() == twin.read_bytes()


def test_killed_between_the_two_moves_of_an_overwrite(builder, shop):
    builder(*shop.arguments)
    before = contents(builder.data_path / "sports")
    (builder.data_path / "sports").rename(builder.data_path / ".sports.old")
    shutil.copytree(builder.data_path / ".sports.old", builder.data_path / ".sports.partial")
    builder(*shop.arguments, "--k_core=0", status=2)
    assert "sports is there already" in builder.err  # again
    assert contents(builder.data_path / "sports") == before
    builder(*shop.arguments, "--overwrite")
    assert not list(builder.data_path.glob(".sports.[op]*"))


def test_interrupted_by_ctrl_c(builder, shop, starter):
    shop.server.faults = [drop_after(100), stall_after(100)]
    process = starter(*shop.arguments)
    wait_for(lambda: len(shop.server.asked) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command resumes" in err and "Traceback" not in err
    builder(*shop.arguments)


def test_features_of_many_items_stay_on_disk(builder, shop):
    builder(*shop.arguments, "--image_features")
    array = np.load(builder.data_path / "sports" / "image_feat.npy", mmap_mode="r")
    assert isinstance(array, np.memmap) and array.flags["C_CONTIGUOUS"]
