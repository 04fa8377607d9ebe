"""Kind 10: no password, key or token is stored, logged or printed, at any entry."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_llm.cli.main import main, run_recbole
from recbole_llm.config import Config
from recbole_llm.record import RunRecord, new_record
from recbole_llm.registry import MODELS
from recbole_llm.secrets import (
    SecretsFilter,
    mask_secrets,
    mask_url,
    mask_values,
    remember_variable,
)
from recbole_llm.trainer.run_log import logging_to

CANARY = "Canary-7h9Q2x"


def files_with(text: str, folder: Path) -> list[str]:
    """Return the files below a folder that hold a text."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in paths if text.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://ann:{CANARY}@db.example:5432/studies",
        f"postgresql+psycopg://ann:{CANARY}@db/x?sslmode=require",
        f"redis://:{CANARY}@host/0",
        f"mysql://ann:p@ss/w:{CANARY}@host/x",
        f"mysql://ann:it's{CANARY}@host/x",
        f"https://{CANARY}@git.example/repo",
        f"http://h/v1?key={CANARY}",
        f"http://h/v1?model=m&api_key={CANARY}&n=1",
        f"http://h/v1?access_token={CANARY}#part",
        f"https://bucket/x?X-Amz-Signature={CANARY}&X-Amz-Date=1",
        f"postgresql://db/x?user=ann&password={CANARY}",
        f"host=db user=ann password={CANARY} dbname=x",
        f"{{'password': '{CANARY}', 'n': 1}}",
        f'{{"api_key": "{CANARY}"}}',
        f"Illegal header value b'Bearer sk-{CANARY}'",
        f"Authorization: Bearer {CANARY}",
        f"authorization: Basic {CANARY}",
        f"Incorrect API key provided: sk-proj-{CANARY}{CANARY}.",
        f"https://api.github.com: bad credentials ghp_{CANARY.replace('-', '')}0123",
        f"cannot clone with github_pat_11AB_{CANARY.replace('-', '')}0123",
        f"xoxb-123-{CANARY}",
        f"--storage 'postgresql://u:{CANARY}@h/d' --workers 2",
    ],
)
def test_kind10_every_form_of_a_secret_is_masked_once_and_for_all(text: str) -> None:
    masked = mask_secrets(text)
    assert CANARY not in masked and "***" in masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "--api_key_env=MY_KEY names the environment variable that holds it",
        "http://localhost:11434/v1",
        "sqlite:////home/ann/studies.db",
        "--max_new_tokens=200 --learning_rate=1e-3",
        "epoch 3: recall@10 0.1234 (user_id:token, item_id:token)",
        "llm_path='org/sk-model' is not an alias",
        "key='text' of {'modalities': 'text'}",
        "write to ann@example.org about the task-runner-of-last-week",
    ],
)
def test_kind10_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


def test_kind10_an_address_keeps_what_is_not_secret() -> None:
    masked = mask_url("postgresql://ann:p@ss@db.example:5432/x?password=p&sslmode=require")
    assert masked == "postgresql://ann:***@db.example:5432/x?password=***&sslmode=require"


def test_kind10_keys_of_the_environment_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}\r\n")
    monkeypatch.setenv("THEIR_LOGIN", "Another-8k2")
    assert mask_secrets(f"server said {CANARY}") == "server said ***"
    assert "Another-8k2" in mask_secrets("it is Another-8k2")
    remember_variable("THEIR_LOGIN")
    assert mask_secrets("it is Another-8k2") == "it is ***"


@pytest.mark.parametrize(
    "name", ["WANDB_API_KEY", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "X_TOKEN"]
)
def test_kind10_variables_whose_name_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, CANARY)
    assert mask_secrets(f"login {CANARY} failed") == "login *** failed"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "something")
    assert mask_secrets("something") == "something"


def test_kind10_values_are_masked_at_any_depth_and_by_their_name() -> None:
    value = {
        "a": [1, None, {"url": f"http://u:{CANARY}@h"}],
        "db_password": CANARY,
        "pad_token_id": 3,
        "api_key_env": "NAME",
        "token": "",
    }
    assert mask_values(value) == {
        "a": [1, None, {"url": "http://u:***@h"}],
        "db_password": "***",
        "pad_token_id": 3,
        "api_key_env": "NAME",
        "token": "",
    }


@pytest.mark.parametrize("model", sorted(MODELS))
def test_kind10_no_shipped_setting_is_taken_for_a_secret(model: str) -> None:
    assert "***" not in json.dumps(Config(model, "ml-100k").to_dict())


def test_kind10_log_and_traceback_are_masked(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(work / "a.log", "debug") as log:
        log.info("studies in %s", f"postgresql://u:{CANARY}@h/d")
        try:
            raise ConnectionError(f"http://h/?key={CANARY} is down")
        except ConnectionError:
            log.exception("lost password=%s", CANARY)
    assert not files_with(CANARY, work)
    assert "http://h/?key=*** is down" in (work / "a.log").read_text()
    out, err = capsys.readouterr()
    assert CANARY not in out + err and "postgresql://u:***@h/d" in err


def test_kind10_filter_lets_records_without_secrets_through_unchanged() -> None:
    record = logging.LogRecord("a", logging.INFO, "f", 1, "%s of %d", ("one", 2), None)
    assert SecretsFilter().filter(record) and record.getMessage() == "one of 2"


@pytest.mark.parametrize(
    "line",
    [
        [f"--storage=postgresql://u:{CANARY}@h/d"],
        ["--storage", f"postgresql://u:it's{CANARY}@h/d"],
        [f"--base_url=http://h/v1?key={CANARY}"],
    ],
)
def test_kind10_command_line_in_a_record(
    line: list[str], runner, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/recbole_llm", "sweep", "a.yaml", *line])
    record = runner("Pop")
    assert record.command.startswith("recbole_llm sweep a.yaml ") and "***" in record.command
    assert CANARY not in record.command and not files_with(CANARY, work)


def test_kind10_a_script_that_calls_run_leaves_its_name_alone(
    runner, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobs/my_study.py", "--db-pass", CANARY])
    assert runner("Pop").command == "my_study.py"
    assert not files_with(CANARY, work)


def test_kind10_config_values_in_a_record(runner, work: Path) -> None:
    record = runner("BPR", wandb_project=f"https://u:{CANARY}@wandb.example")
    assert record.config["wandb_project"] == "https://u:***@wandb.example"
    assert not files_with(CANARY, work)


def test_kind10_a_password_is_not_in_the_hash_of_the_settings() -> None:
    one, other = (
        Config("BPR", "ml-100k", overrides={"modalities": {"text": f"http://u:{password}@h/a.npy"}})
        for password in (CANARY, "other")
    )
    assert one.fingerprint() == other.fingerprint()


def test_kind10_error_of_a_failed_run(work: Path) -> None:
    record = new_record(Config("Pop", "ml-100k"), "")
    record.error = f"OperationalError: postgresql://u:{CANARY}@h refused"
    record.origin = {"kind": "trial", "storage": f"mysql://u:{CANARY}@h"}
    loaded = RunRecord.load(record.save())
    assert not files_with(CANARY, work) and loaded.error.endswith("u:***@h refused")


def test_kind10_an_old_record_is_masked_when_it_is_read(work: Path) -> None:
    record = new_record(Config("Pop", "ml-100k"), "")
    path = record.save()
    content = json.loads(path.read_text())
    content["command"] = f"run_recbole --storage=postgresql://u:{CANARY}@h/d"
    path.write_text(json.dumps(content))
    assert RunRecord.load(path).shared()["command"].endswith("u:***@h/d")


def test_kind10_printed_errors_and_their_traceback(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["--model=Pop", "--dataset=ml-100k", f"--topk=http://u:{CANARY}@h"]
    for shown in ("", "1"):
        monkeypatch.setenv("RECBOLE_LLM_TRACEBACK", shown)
        assert run_recbole(line) == 2
        out, err = capsys.readouterr()
        assert CANARY not in out + err and "http://u:***@h" in err
        assert ("Traceback" in err) == bool(shown)
    assert main([f"postgresql://u:{CANARY}@h"]) == 2
    assert CANARY not in capsys.readouterr().err


def test_kind10_python_api_prints_none(work: Path, small_ml100k: Path) -> None:
    code = (
        "import recbole_llm; recbole_llm.run('Pop', 'ml-100k', epochs=1, show_progress=False, "
        f"data_path={str(small_ml100k)!r}, wandb_project='http://h/?token={CANARY}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"--password={CANARY}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr and not files_with(CANARY, work)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://ann:s3cret@host:5432/db", "postgresql://ann:***@host:5432/db"),
        (
            "at postgresql+psycopg://ann:a/b@c:d@host/db.",
            "at postgresql+psycopg://ann:***@host/db.",
        ),
        ("--storage='mysql://:pw@h/db' --x=1@2", "--storage='mysql://:***@h/db' --x=1@2"),
        ("pg://h/db?user=a&password=pw&x=1", "pg://h/db?user=a&password=***&x=1"),
        ("http://u:p@a/ and http://v:q@b/?key=k", "http://u:***@a/ and http://v:***@b/?key=***"),
        (
            "postgresql://ann@host:5432/db sqlite:///a.db",
            "postgresql://ann@host:5432/db sqlite:///a.db",
        ),
        ("mail ann@host: a key=value", "mail ann@host: a key=value"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert mask_url(text) == masked
    assert mask_url(masked) == masked
