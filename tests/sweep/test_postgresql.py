"""Two workers on one real PostgreSQL server, which goes away for a while. Skipped without one."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from small_sweep import write_spec
from test_two_writers import assert_each_once, open_together

from recbole_llm.cli.main import main
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

AWAY_S = 10


def find_server() -> Path | None:
    """Return the folder of initdb and pg_ctl: on Debian they are not on the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = shutil.which("pg_ctl")
    if debian:
        return debian[-1].parent
    return Path(found).parent if found else None


pytestmark = [
    pytest.mark.skipif(find_server() is None, reason="no PostgreSQL server is installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("psycopg") is None, reason="psycopg is not installed"
    ),
]

Control = Callable[..., None]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Control]]:
    """Start a server of our own; gives its URL and a function that stops and starts it."""
    binaries = find_server()
    assert binaries is not None
    folder = Path("/tmp") / f"pg-{os.getpid()}"  # short: it holds a socket
    folder.mkdir()
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses root
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses root, and there is no user postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / program, "-D", folder / "data", *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **user,
        )

    def control(action: str) -> None:
        options = ["-o", f"-p {port} -k {folder} -h 127.0.0.1"] if action == "start" else []
        call("pg_ctl", "-w", "-m", "fast", *options, "-l", str(folder / "log"), action)

    call("initdb", "-A", "trust", "-U", "sweeper")
    access = folder / "data" / "pg_hba.conf"
    access.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
    control("start")
    try:
        yield f"postgresql://sweeper@127.0.0.1:{port}/postgres", control
    finally:
        control("stop")
        shutil.rmtree(folder)


WORKER = """
import sys, time
import optuna
from optuna.trial import TrialState
from recbole_llm.sweep.database import patiently
from recbole_llm.sweep.store import heartbeat, open_store
from recbole_llm.sweep.study import Queue
queue = Queue(open_store(sys.argv[1], 10), "many", {}, [{"x": i} for i in range(20)])
sampler = lambda slot: optuna.samplers.RandomSampler(seed=slot)
while (trial := queue.claim(sampler)) is not None:
    with heartbeat(queue.storage, trial._trial_id):
        x = patiently(lambda: trial.suggest_int("x", 0, 30))
        print(x, flush=True)
        time.sleep(0.2)
        patiently(lambda: trial.report(float(x), 0))
    assert queue.tell(trial, TrialState.COMPLETE, float(x))
"""


def test_two_workers_and_a_server_that_goes_away(server: tuple[str, Control]) -> None:
    url, control = server
    command = [sys.executable, "-c", WORKER, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    queue = Queue(open_store(url, 10), "many", {}, [{"x": i} for i in range(20)])
    until = time.monotonic() + 60
    while queue.n_done() < 4:
        assert time.monotonic() < until, "the workers do not get on"
        time.sleep(0.1)
    control("stop")
    time.sleep(AWAY_S)
    control("start")
    done = [[int(line) for line in p.communicate(timeout=120)[0].split()] for p in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(done[0] + done[1]) == list(range(20)), "each once, by one of them"
    assert all(done), "both took part"
    results = [queue.slots()[i].trial for i in range(20)]
    assert [t.state for t in results] == [TrialState.COMPLETE] * 20
    assert [t.value for t in results] == [float(i) for i in range(20)]
    assert queue.finished() and queue.n_done() == 20


def test_a_budget_is_enqueued_once_by_workers_that_start_together(
    server: tuple[str, Control],
) -> None:
    assert_each_once(open_together(server[0]))


def test_a_server_that_refuses_is_an_error_of_one_line(
    server: tuple[str, Control], work: Path, fakes: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    url, control = server
    ran = fakes(lambda settings: 0.5)
    address = url.partition("@")[2]
    spec = str(write_spec(work))
    begin = time.monotonic()
    for storage, message in (
        (f"postgresql://locked:s3cret@{address}", "password authentication failed"),
        (f"postgresql://sweeper:s3cret@{address}_2", 'database "postgres_2" does not exist'),
    ):
        assert main(["sweep", spec, f"--storage={storage}"]) == 2 and not ran
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line and ":***@" in line and "s3cret" not in line
    assert time.monotonic() - begin < 10
    storage = f"--storage=postgresql://sweeper:s3cret@{address}"
    assert main(["sweep", spec, storage]) == 0 and len(ran) == 5
    output = capsys.readouterr()
    assert ":***@" in output.out and "s3cret" not in output.out + output.err
    control("stop")
    try:
        assert main(["sweep", spec, storage]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "refused" in line and "s3cret" not in line
    finally:
        control("start")
