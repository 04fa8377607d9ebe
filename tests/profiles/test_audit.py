"""The audit passes on what the pipeline writes, and on nothing that was changed since."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import say

from recbole_llm.cli.main import main
from recbole_llm.profiles.dataset import find_profiles


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def change(path: Path, what: Callable[[list[dict]], None]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    what(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_clean(reason, audit, capsys):
    reason()
    capsys.readouterr()
    assert audit() == 0
    out = capsys.readouterr().out
    assert "prompts  6 of 6 users, with 24 items: 24 training, 0 held out" in out
    assert "clean: no held-out interaction is in a prompt" in out


def test_clean_with_random_split_and_short_histories(reason, audit, arguments):
    arguments[arguments.index("--protocol=loo")] = "--protocol=random811"
    reason(max_history=2, max_item_tokens=2)
    assert audit() == 0


def test_leaky(reason, audit, capsys):
    reason("--leaky")
    capsys.readouterr()
    assert audit() == 1
    out = capsys.readouterr().out
    assert "24 training, 12 held out" in out and "[LEAKY]" in out
    assert "FOUND 12 held-out interactions: user u0 item i4; user u0 item i5;" in out


def test_another_split_than_the_runs(reason, audit, capsys, arguments):
    arguments[arguments.index("--protocol=loo")] = "--protocol=random811"
    reason()
    assert audit() == 0
    assert audit("--seed=7") == 1
    assert "held-out interactions" in capsys.readouterr().out


def test_items_that_hide_what_was_shown(reason, audit, out, capsys):
    reason("--leaky")
    capsys.readouterr()
    report = json.loads((out / "report.json").read_text())
    (out / "report.json").write_text(json.dumps(report | {"leaky": False}))
    (out / "profiles.LEAKY.jsonl").rename(out / "profiles.jsonl")

    def hide(lines):
        for line in lines:
            line["items"] = line["items"][:4]

    change(out / "profiles.jsonl", hide)
    assert audit() == 1
    assert "FOUND 6 prompts that are not what their items make: user u0" in capsys.readouterr().out


def test_store_that_was_changed(reason, audit, work, capsys):
    reason()
    with sqlite3.connect(work / "saved" / "cache" / "reason.sqlite") as connection:
        connection.execute("UPDATE answers SET request = replace(request, 'Item 4', 'Item 9')")
    assert audit() == 1
    assert "stored prompts that were changed" in capsys.readouterr().out


def test_prompt_that_is_not_in_the_store(reason, audit, work, capsys):
    reason()
    with sqlite3.connect(work / "saved" / "cache" / "reason.sqlite") as connection:
        connection.execute("DELETE FROM answers WHERE request LIKE '%Item 0,%'")
    assert audit() == 1
    assert "FOUND 1 prompts that are not in the store: user u0" in capsys.readouterr().out


def test_user_without_a_prompt(reason, audit, out, capsys):
    reason()
    change(out / "profiles.jsonl", lambda lines: lines.pop())
    assert audit() == 1
    assert "FOUND 1 users without a prompt: u5" in capsys.readouterr().out


def test_profile_that_was_edited(reason, audit, out, capsys):
    reason()
    change(out / "profiles.jsonl", lambda lines: lines[0].update(text="Likes item 5."))
    assert audit() == 1
    assert "FOUND 1 profiles that are not the stored answer: user u0" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["Likes item 5, held out.", "Likes item 5"])
def test_profile_that_was_edited_and_marked_as_trimmed(reason, audit, out, capsys, text):
    """Kind 9: a text with the mark "trimmed" passed, whatever it was."""
    reason()
    change(out / "profiles.jsonl", lambda lines: lines[0].update(text=text, trimmed=True))
    assert audit() == 1
    assert "FOUND 1 profiles that are not the stored answer: user u0" in capsys.readouterr().out


def test_trimmed_profiles_are_clean(reason, audit, server, out):
    server.usual = lambda prompt: say("One two three. Four five six. Seven eight nine ten")
    reason(max_words=6, overlong="trim")
    lines = [json.loads(line) for line in (out / "profiles.jsonl").read_text().splitlines()]
    assert all(line["trimmed"] for line in lines)
    assert audit() == 0


def test_item_text_that_is_not_the_data_s(reason, audit, out, capsys):
    reason()
    change(out / "item_texts.jsonl", lambda lines: lines[0].update(text="Item 11, green"))
    assert audit() == 1
    assert "item texts that are not the data's: item i0" in capsys.readouterr().out


@pytest.mark.llm
def test_features_of_other_profiles(reason, audit, out, capsys):
    reason(stage="all")
    assert audit() == 0
    (out / "user_profile_ids.txt").write_text("u1\n")
    assert audit() == 1
    assert "feature files that were changed: user_profile_ids.txt" in capsys.readouterr().out
    change(out / "profiles.jsonl", lambda lines: lines.reverse())
    assert audit() == 1
    assert "feature files made from other profiles" in capsys.readouterr().out


def test_wrong_folders(reason, audit, tmp_path, out, capsys, arguments):
    assert audit(profiles=tmp_path) == 2
    assert "has no report.json" in capsys.readouterr().err
    assert main(["audit", *arguments]) == 2
    assert "--profiles=FOLDER is needed" in capsys.readouterr().err
    reason()
    (tmp_path / "saved" / "cache" / "reason.sqlite").unlink()
    assert audit() == 2
    assert "which no longer exists" in capsys.readouterr().err


def test_config_files_are_those_of_the_profiles(reason, audit, out, tmp_path):
    """Profiles that a config file split are audited by it; older reports name files in a text."""
    (tmp_path / "a.yaml").write_text("seed: 7\n")
    (tmp_path / "b.yaml").write_text("protocol: random811\n")
    reason(config_files=f"{tmp_path / 'a.yaml'} {tmp_path / 'b.yaml'}")
    report = json.loads((out / "report.json").read_text())
    names = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    assert report["given"]["config_files"] == names and report["seed"] == 7
    report["given"]["config_files"] = " ".join(names)
    (out / "report.json").write_text(json.dumps(report))
    assert find_profiles("toy", out, {})[1]["given"]["config_files"] == names
