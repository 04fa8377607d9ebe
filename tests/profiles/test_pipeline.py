"""The command from end to end, against a server on this machine."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from chat_server import Server, prompt_of, say, status

from recbole_llm.cli.main import main
from recbole_llm.config import Config
from recbole_llm.data.items import Items
from recbole_llm.data.modality import load_modality


def report(folder):
    return json.loads((folder / "report.json").read_text())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out"


def test_prompts_hold_training_items_oldest_first(reasoner, server: Server, target: Path):
    assert reasoner() == 0
    assert len(server.asked) == 6
    (prompt,) = [p for p in server.prompts() if "Item 0, green; Item 1" in p]
    assert "The list is: Item 0, green; Item 1, green; Item 2, green; Item 3, green. To" in prompt
    first = next(line for line in lines(target / "profiles.jsonl") if line["user"] == "u0")
    assert first["items"] == ["i0", "i1", "i2", "i3"]
    assert first["text"].startswith("Likes things.")


def test_second_run_asks_nothing(reasoner, server: Server, target: Path):
    reasoner()
    before = (target / "profiles.jsonl").read_bytes()
    assert reasoner() == 0
    assert len(server.asked) == 6
    assert report(target)["stages"]["profiles"]["from_store"] == 6
    assert (target / "profiles.jsonl").read_bytes() == before


def test_a_changed_item_asks_again_only_for_its_users(reasoner, server: Server, toy: Path):
    reasoner()
    path = toy / "toy" / "toy.item"
    path.write_text(path.read_text().replace("Item 0\t", "Item zero\t"))
    reasoner()
    assert len(server.asked) == 7  # u0 alone has item 0 in its training part
    assert "Item zero" in prompt_of(server.asked[-1])


def test_history_and_text_limits(reasoner, server: Server, target: Path):
    reasoner(max_history=2, max_item_tokens=1, max_words=7)
    assert [len(line["items"]) for line in lines(target / "profiles.jsonl")] == [2] * 6
    assert all("no more than 7 words" in prompt for prompt in server.prompts())
    for line in lines(target / "item_texts.jsonl"):
        assert "Item".startswith(line["text"]) and line["text"]


@pytest.mark.parametrize("protocol", ["loo", "random811"])
def test_held_out_rows_change_no_prompt(reasoner, toy, arguments, protocol, tmp_path):
    arguments[arguments.index("--protocol=loo")] = f"--protocol={protocol}"
    reasoner(output=tmp_path / "a", stage="profiles")
    shown = {line["user"]: set(line["items"]) for line in lines(tmp_path / "a" / "profiles.jsonl")}
    path, changed = toy / "toy" / "toy.inter", 0
    rows = path.read_text().splitlines()
    for n, row in enumerate(rows[1:], start=1):
        user, item, when = row.split("\t")
        if item not in shown[user]:
            number = int(item[1:])
            rows[n] = f"{user}\ti{(number + 6) % 12}\t{when}"  # no user has both
            changed += 1
    assert changed == 12
    path.write_text("\n".join(rows) + "\n")
    reasoner(output=tmp_path / "b", stage="profiles")
    for name in ("profiles.jsonl", "item_texts.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_leaky_profiles_are_marked(reasoner, server: Server, target: Path, toy, capsys):
    assert reasoner("--leaky") == 0
    assert "LEAKY" in capsys.readouterr().out
    assert not (target / "profiles.jsonl").exists()
    assert [len(line["items"]) for line in lines(target / "profiles.LEAKY.jsonl")] == [6] * 6
    assert report(target)["leaky"] is True and report(target)["mark"] == "LEAKY"
    assert reasoner() == 2
    assert "holds profiles with held-out interactions" in capsys.readouterr().err


def test_default_folder_is_named_by_what_profiles_depend_on(
    toy, arguments, server, tokenizer_folder
):
    def folders():
        return sorted(path.name for path in (toy / "toy").glob("reason-*"))

    def run(*options):
        words = ["--stage=profiles", "--backend=openai", "--model_name=m", *options]
        return main(["reason", *arguments, *words])

    common = [f"--base_url={server.url}", f"--tokenizer={tokenizer_folder}"]
    assert run(*common) == 0 and run(*common, "--concurrency=1") == 0
    assert len(folders()) == 1
    assert run(*common, "--leaky") == 0 and run(*common, "--max_history=2") == 0
    assert len(folders()) == 3
    assert sum("LEAKY" in name for name in folders()) == 1


def test_bad_answers_are_retried_with_other_seeds_and_then_counted(
    reasoner, server, target, capsys
):
    def usual(prompt):
        if "The list is: Item 0," in prompt:
            return say("I'm sorry, but I can't help with that.")
        if "The list is: Item 1," in prompt:
            return say("")
        if "The list is: Item 2," in prompt:
            return say("word " * 200)
        return say("Likes green.")

    server.usual = usual
    assert reasoner(answer_retries=2) == 0
    stage = report(target)["stages"]["profiles"]
    assert stage["failures"] == {"refused": 1, "empty": 1, "over-long": 1}
    assert stage["profiled"] == 3 and len(server.asked) == 3 + 3 * 3
    assert "3 of 6; failed: 1 " in capsys.readouterr().out
    refused = [body for body in server.asked if "The list is: Item 0," in prompt_of(body)]
    assert refused[0]["temperature"] == 0
    assert [body["seed"] for body in refused[1:]] == [2021, 2022]
    texts = {line["user"]: line["text"] for line in lines(target / "profiles.jsonl")}
    assert texts["u0"] is None and texts["u3"] == "Likes green."
    reasoner(answer_retries=2)
    assert len(server.asked) == 12  # rejected answers are not asked for again either


def test_a_retry_can_mend_it(reasoner, server: Server, target: Path):
    server.plan = [say(""), say("I cannot do this")]
    reasoner(concurrency=1)
    stage = report(target)["stages"]["profiles"]
    assert stage["profiled"] == 6 and stage["failures"] == {} and stage["retried"] == 2


def test_over_long_answers_can_be_trimmed(reasoner, server: Server, target: Path):
    server.usual = lambda prompt: say("One two three. Four five six. Seven eight nine ten")
    reasoner(max_words=6, overlong="trim")
    assert {line["text"] for line in lines(target / "profiles.jsonl")} == {
        "One two three. Four five six."
    }
    assert report(target)["stages"]["profiles"]["trimmed"] == 6 and len(server.asked) == 6


def test_unanswered_users_are_asked_in_the_next_run(reasoner, server: Server, target: Path):
    server.plan = [status(500)] * 2
    assert reasoner(request_retries=1, concurrency=1) == 0
    assert report(target)["stages"]["profiles"]["failures"] == {"no answer": 1}
    assert reasoner(request_retries=1, concurrency=1) == 0
    assert report(target)["stages"]["profiles"]["profiled"] == 6
    assert set(server.prompts().values()) == {1, 3} and len(server.answered) == 6


def test_images_join_the_text(reasoner, server: Server, toy: Path, target: Path):
    images = toy / "toy" / "images"
    images.mkdir()
    for name in ("i1", "i2", "unknown"):
        (images / f"{name}.png").write_bytes(name.encode())

    def usual(prompt):
        return say("a red ball" if prompt.startswith("Please convert") else "Likes balls.")

    server.usual = usual
    assert reasoner(stage="images", image_model="eyes") == 0
    assert [body["model"] for body in server.asked] == ["eyes"] * 2
    assert report(target)["stages"]["images"]["described"] == 2
    assert report(target)["stages"]["images"]["items_without_image"] == 9  # of 11
    assert reasoner(stage="profiles", image_model="eyes") == 0
    assert any("Item 0, green; Item 1, green a red ball; Item 2" in p for p in server.prompts())
    (images / "i1.png").write_bytes(b"another")
    n_asked = len(server.asked)
    assert reasoner(stage="images", image_model="eyes") == 0
    assert len(server.asked) == n_asked + 1


@pytest.mark.llm
def test_features_are_read_as_a_modality(reasoner, server: Server, target: Path, toy: Path):
    assert reasoner(stage="all") == 0
    item_feat, user_feat = (
        np.load(target / "item_mm_feat.npy"),
        np.load(target / "user_profile_feat.npy"),
    )
    assert item_feat.shape == (12, 384) and user_feat.shape == (6, 384)
    assert (target / "item_mm_ids.txt").read_text().split() == [f"i{n}" for n in range(12)]
    users = [line["user"] for line in lines(target / "profiles.jsonl")]
    assert (target / "user_profile_ids.txt").read_text().split() == users
    config = Config("LightGCN", "toy", command_line={"data_path": str(toy)})
    items = Items(config, ["[PAD]", "i3", "i0"])
    feature = load_modality("mm", str(target / "item_mm_feat.npy"), items)
    assert np.array_equal(feature[1:], item_feat[[3, 0]])


def test_encode_needs_profiles(reasoner, capsys):
    assert reasoner(stage="encode") == 2
    assert "Run `recbole_llm reason --stage=profiles`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stage=encod"], "--stage must be one of images, profiles, encode, all, got 'encod'."),
        (["--backend=openia"], "Did you mean 'openai'?"),
        (["--max_words=0"], "--max_words must be at least 1, got 0."),
        (["--top_p=2"], "--top_p must lie in (0, 1]"),
        (["--text_columns=titel"], "has no column 'titel', it has item_id, title"),
        (["--profile_prompt=mllmrec_profil"], "Did you mean 'mllmrec_profile'?"),
        (["--image_folder=nowhere"], "--image_folder=nowhere is not a folder."),
        (["--stage=images"], "no images for the items of 'toy'"),
        (["--model=BPR"], "--model is not taken here"),
        (["--epoch=3"], "unknown key 'epoch'"),
    ],
)
def test_bad_input(reasoner, options, message, capsys):
    assert reasoner(*options) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_folder_that_cannot_be_written(reasoner, tmp_path, server: Server, capsys):
    (tmp_path / "file").write_text("")
    assert reasoner(output=tmp_path / "file" / "sub") == 2
    assert "cannot write to" in capsys.readouterr().err
    assert not server.asked


COMMAND = "import sys; from recbole_llm.cli.main import main; sys.exit(main(sys.argv[1:]))"


def start(arguments, server, tokenizer_folder, out, cwd):
    words = [
        "--stage=profiles",
        "--backend=openai",
        "--model_name=m",
        f"--base_url={server.url}",
        f"--tokenizer={tokenizer_folder}",
        f"--output={out}",
        "--concurrency=1",
    ]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "reason", *arguments, *words],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background jobs ignore Ctrl-C, and so would their children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(
    ("number", "status_code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]
)
def test_stopped_run_goes_on(
    number, status_code, arguments, server, tokenizer_folder, target, work, reasoner
):
    reached, wait = threading.Event(), threading.Event()

    def stuck(handler, body):
        reached.set()
        wait.wait(60)

    server.plan = [say("Likes things.")] * 3 + [stuck]
    process = start(arguments, server, tokenizer_folder, target, work)
    assert reached.wait(60)
    deadline = time.monotonic() + 20
    database = work / "saved" / "cache" / "reason.sqlite"
    while time.monotonic() < deadline:  # the third answer may still be on its way to the disk
        with sqlite3.connect(database) as connection:
            if connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0] == 3:
                break
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    wait.set()
    assert process.returncode == status_code
    if number == signal.SIGINT:
        assert "the same command resumes" in err and "Traceback" not in err
    assert reasoner(model_name="m") == 0
    assert report(target)["stages"]["profiles"]["from_store"] == 3
    asked = sorted(server.prompts().values())
    assert asked == [1, 1, 1, 1, 1, 2]  # twice only the one whose answer never came
