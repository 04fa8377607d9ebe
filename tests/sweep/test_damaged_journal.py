"""A journal that a kill, a full disk or a power cut damaged (Optuna's own issue 5138)."""

import json
import logging
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState
from small_sweep import write_spec

from recbole_llm.cli.main import main
from recbole_llm.sweep.journal import SafeJournal
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

RECORD = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"a": "x"}}


def open_queue(path: Path, n: int = 3) -> Queue:
    return Queue(open_store(str(path), 1), "s", {}, [{"x": i} for i in range(n)])


def claim(queue: Queue) -> Trial | None:
    return queue.claim(lambda slot: optuna.samplers.RandomSampler(seed=slot))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return a journal with one finished trial of three."""
    path = tmp_path / "s.journal"
    queue = open_queue(path)
    trial = claim(queue)
    assert trial is not None and queue.tell(trial, TrialState.COMPLETE, 0.5)
    return path


def cut_last_record(content: bytes) -> bytes:
    return content[:-9]


def zeros_at_the_end(content: bytes) -> bytes:
    return content + bytes(512)


def cut_and_zeros(content: bytes) -> bytes:
    return content[:-9] + bytes(100)


def no_last_newline(content: bytes) -> bytes:
    return content[:-1]


def two_records_in_one_line(content: bytes) -> bytes:
    return content[:-9] + json.dumps(RECORD).encode() + b"\n"


@pytest.mark.parametrize(
    "damage",
    [
        cut_last_record,
        zeros_at_the_end,
        cut_and_zeros,
        no_last_newline,
        two_records_in_one_line,
    ],
)
def test_a_damaged_end_is_set_aside_and_the_sweep_goes_on(
    damage: Callable[[bytes], bytes], journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = journal.read_bytes()
    damaged = damage(whole)
    journal.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        queue = open_queue(journal)
    assert f"journal {journal}: its last record was cut short" in caplog.text
    tail = (journal.parent / "s.journal.damaged-tail").read_bytes()
    assert tail and damaged.endswith(tail)
    content = journal.read_bytes()
    assert content.startswith(damaged.removesuffix(tail)), "what was whole is kept"
    assert all(json.loads(line) for line in content.splitlines())
    assert queue.size == 3 and len(queue.slots()) == 3
    caplog.clear()
    assert len(open_queue(journal).slots()) == 3 and not caplog.text


def test_a_record_that_another_worker_left_unfinished_is_not_appended_to(journal: Path) -> None:
    queue = open_queue(journal)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":6,"worker')
    assert claim(queue) is not None
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())
    assert (journal.parent / "s.journal.damaged-tail").read_bytes() == b'{"op_code":6,"worker'


def test_a_first_record_that_was_cut_is_set_aside(tmp_path: Path) -> None:
    for content in (b'{"op_', b'{"op_code":0,"wor', bytes(9)):
        path = tmp_path / "s.journal"
        path.write_bytes(content)
        assert len(open_queue(path).slots()) == 3
        path.unlink()


@pytest.mark.parametrize(
    "line", [b'{"op_code":6,"worker{"op_code":0}\n', bytes(64) + b"\n", b"7\n"]
)
def test_damage_in_the_middle_names_file_and_line(
    line: bytes, journal: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], line, *lines[3:]])
    journal.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"s\.journal, line 4: the record is damaged"):
        open_store(str(journal), 1)
    assert journal.read_bytes() == damaged, "nothing is lost"
    backend = SafeJournal.__new__(SafeJournal)  # as a worker that was there before reads it
    backend.__dict__ |= {"path": journal, "_file_path": str(journal), "_log_number_offset": {0: 0}}
    with pytest.raises(ValueError, match=r"s\.journal, line 4: the record is damaged"):
        list(backend.read_logs(0))


def test_records_that_do_not_fit_together(journal: Path) -> None:
    wrong = {**RECORD, "study_id": 7}
    journal.write_bytes(json.dumps(wrong).encode() + b"\n" + journal.read_bytes())
    del wrong["user_attr"]
    journal.write_bytes(
        journal.read_bytes() + json.dumps({**wrong, "study_id": 0}).encode() + b"\n"
    )
    with pytest.raises(ValueError, match="damaged: a record lacks or has a wrong value"):
        open_store(str(journal), 1)


def test_another_file_is_no_journal_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    for content in (b"user,item\n1,2\n", os.urandom(300), b"one word"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"notes\.csv is not a journal of studies"):
            open_store(str(path), 1)
        assert path.read_bytes() == content


def test_a_full_disk_is_an_error_that_names_the_journal(journal: Path) -> None:
    queue = open_queue(journal)
    size = journal.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, limits[1]))
    try:
        with pytest.raises(OSError, match=r"s\.journal"):
            claim(queue)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert journal.stat().st_size == size, "no half of a record is left"
    assert claim(queue) is not None


def test_the_command_goes_on_after_a_cut(work: Path, fakes: Any) -> None:
    ran = fakes(lambda settings: settings["learning_rate"])
    line = ["sweep", str(write_spec(work)), "--storage=s.journal"]
    assert main(line) == 0 and len(ran) == 5
    path = work / "s.journal"
    path.write_bytes(path.read_bytes() + b'{"op_code":6,"wor')
    assert main(line) == 0 and len(ran) == 5
