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
def target(tmp_path: Path) -> Path:
    return tmp_path / "out"


def change(path: Path, what: Callable[[list[dict]], None]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    what(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_clean(reasoner, auditor, capsys):
    reasoner()
    capsys.readouterr()
    assert auditor() == 0
    out = capsys.readouterr().out
    assert "prompts  6 of 6 users, with 24 items: 24 training, 0 held out" in out
    assert "clean: no held-out interaction is in a prompt" in out


def test_clean_with_random_split_and_short_histories(reasoner, auditor, arguments):
    arguments[arguments.index("--protocol=loo")] = "--protocol=random811"
    reasoner(max_history=2, max_item_tokens=2)
    assert auditor() == 0


def test_leaky(reasoner, auditor, capsys):
    reasoner("--leaky")
    capsys.readouterr()
    assert auditor() == 1
    out = capsys.readouterr().out
    assert "24 training, 12 held out" in out and "[LEAKY]" in out
    assert "FOUND 12 held-out interactions: user u0 item i4; user u0 item i5;" in out


def test_another_split_than_the_runs(reasoner, auditor, capsys, arguments):
    arguments[arguments.index("--protocol=loo")] = "--protocol=random811"
    reasoner()
    assert auditor() == 0
    assert auditor("--seed=7") == 1
    assert "held-out interactions" in capsys.readouterr().out


def test_items_that_hide_what_was_shown(reasoner, auditor, target, capsys):
    reasoner("--leaky")
    capsys.readouterr()
    report = json.loads((target / "report.json").read_text())
    (target / "report.json").write_text(json.dumps(report | {"leaky": False}))
    (target / "profiles.LEAKY.jsonl").rename(target / "profiles.jsonl")

    def hide(lines):
        for line in lines:
            line["items"] = line["items"][:4]

    change(target / "profiles.jsonl", hide)
    assert auditor() == 1
    assert "FOUND 6 prompts that are not what their items make: user u0" in capsys.readouterr().out


def test_store_that_was_changed(reasoner, auditor, work, capsys):
    reasoner()
    with sqlite3.connect(work / "saved" / "cache" / "reason.sqlite") as connection:
        connection.execute("UPDATE answers SET request = replace(request, 'Item 4', 'Item 9')")
    assert auditor() == 1
    assert "stored prompts that were changed" in capsys.readouterr().out


def test_prompt_that_is_not_in_the_store(reasoner, auditor, work, capsys):
    reasoner()
    with sqlite3.connect(work / "saved" / "cache" / "reason.sqlite") as connection:
        connection.execute("DELETE FROM answers WHERE request LIKE '%Item 0,%'")
    assert auditor() == 1
    assert "FOUND 1 prompts that are not in the store: user u0" in capsys.readouterr().out


def test_user_without_a_prompt(reasoner, auditor, target, capsys):
    reasoner()
    change(target / "profiles.jsonl", lambda lines: lines.pop())
    assert auditor() == 1
    assert "FOUND 1 users without a prompt: u5" in capsys.readouterr().out


def test_profile_that_was_edited(reasoner, auditor, target, capsys):
    reasoner()
    change(target / "profiles.jsonl", lambda lines: lines[0].update(text="Likes item 5."))
    assert auditor() == 1
    assert "FOUND 1 profiles that are not the stored answer: user u0" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["Likes item 5, held out.", "Likes item 5"])
def test_profile_that_was_edited_and_marked_as_trimmed(reasoner, auditor, target, capsys, text):
    """Kind 9: a text with the mark "trimmed" passed, whatever it was."""
    reasoner()
    change(target / "profiles.jsonl", lambda lines: lines[0].update(text=text, trimmed=True))
    assert auditor() == 1
    assert "FOUND 1 profiles that are not the stored answer: user u0" in capsys.readouterr().out


def test_trimmed_profiles_are_clean(reasoner, auditor, server, target):
    server.usual = lambda prompt: say("One two three. Four five six. Seven eight nine ten")
    reasoner(max_words=6, overlong="trim")
    lines = [json.loads(line) for line in (target / "profiles.jsonl").read_text().splitlines()]
    assert all(line["trimmed"] for line in lines)
    assert auditor() == 0


def test_item_text_that_is_not_the_data_s(reasoner, auditor, target, capsys):
    reasoner()
    change(target / "item_texts.jsonl", lambda lines: lines[0].update(text="Item 11, green"))
    assert auditor() == 1
    assert "item texts that are not the data's: item i0" in capsys.readouterr().out


@pytest.mark.llm
def test_features_of_other_profiles(reasoner, auditor, target, capsys):
    reasoner(stage="all")
    assert auditor() == 0
    (target / "user_profile_ids.txt").write_text("u1\n")
    assert auditor() == 1
    assert "feature files that were changed: user_profile_ids.txt" in capsys.readouterr().out
    change(target / "profiles.jsonl", lambda lines: lines.reverse())
    assert auditor() == 1
    assert "feature files made from other profiles" in capsys.readouterr().out


def test_wrong_folders(reasoner, auditor, tmp_path, target, capsys, arguments):
    assert auditor(profiles=tmp_path) == 2
    assert "has no report.json" in capsys.readouterr().err
    assert main(["audit", *arguments]) == 2
    assert "--profiles=FOLDER is needed" in capsys.readouterr().err
    reasoner()
    (tmp_path / "saved" / "cache" / "reason.sqlite").unlink()
    assert auditor() == 2
    assert "which no longer exists" in capsys.readouterr().err


def test_config_files_are_those_of_the_profiles(reasoner, auditor, target, tmp_path):
    """Profiles that a config file split are audited by it; older reports name files in a text."""
    (tmp_path / "a.yaml").write_text("seed: 7\n")
    (tmp_path / "b.yaml").write_text("protocol: random811\n")
    reasoner(config_files=f"{tmp_path / 'a.yaml'} {tmp_path / 'b.yaml'}")
    report = json.loads((target / "report.json").read_text())
    names = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    assert report["given"]["config_files"] == names and report["seed"] == 7
    report["given"]["config_files"] = " ".join(names)
    (target / "report.json").write_text(json.dumps(report))
    assert find_profiles("toy", target, {})[1]["given"]["config_files"] == names
