"""Studies as queues: exact budgets, retries, and several processes on one storage."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from search_space import parse_space
from sqlalchemy import text

from recbole_llm.sweep.database import patiently
from recbole_llm.sweep.sampler import SAMPLERS, Sampler, build_pruner, build_sampler, plan
from recbole_llm.sweep.schema import Search
from recbole_llm.sweep.space import draw
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue

SPACE = parse_space({"x": {"float": [0, 1]}, "kind": ["a", "b"]})


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db" if request.param == "sqlite" else f"{tmp_path}/s.journal"


def open_queue(url: str, n: int = 3, **over: Any) -> Queue:
    points = over.pop("points", None) or plan(Search(sampler="random", seed=1), SPACE, n)
    identity = {"settings": {"epochs": over.pop("epochs", 1)}}
    return Queue(open_store(url, 1), over.pop("name", "s"), identity, points, **over)


def sampler(slot: int) -> optuna.samplers.BaseSampler:
    return build_sampler(Search(sampler="random", seed=1), slot)


def claim(queue: Queue) -> Any:
    return queue.claim(sampler)


def make_stale(queue: Queue, trial: Any) -> None:
    """Let a trial's last sign of life be a minute old: its worker counts as dead."""
    storage = queue.storage
    if isinstance(storage, optuna.storages.RDBStorage):
        with storage.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 minute') "
                    "WHERE trial_id = :trial"
                ),
                {"trial": trial._trial_id},
            )
    else:
        storage.set_trial_system_attr(trial._trial_id, "heartbeat", time.time() - 60)


def test_a_budget_is_met_exactly_and_continued(url: str) -> None:
    queue = open_queue(url)
    for value in (0.1, 0.3, 0.2):
        trial = claim(queue)
        draw(SPACE, trial)
        assert queue.tell(trial, TrialState.COMPLETE, value)
    assert claim(queue) is None and queue.finished() and queue.n_done() == 3
    best = open_queue(url).best()
    assert best is not None and (best.value, best.number) == (0.3, 1)
    more = open_queue(url, 5)
    assert not more.finished() and more.n_done() == 3
    assert len(more.trials()) == 5, "only what the larger budget adds is enqueued"
    with pytest.raises(ValueError, match="study 's' was started with other settings"):
        open_queue(url, epochs=2)


def test_minimised_objectives(url: str) -> None:
    queue = open_queue(url, bigger=False)
    for value in (0.1, 0.3, 0.2):
        queue.tell(claim(queue), TrialState.COMPLETE, value)
    best = queue.best()
    assert best is not None and best.value == 0.1


def test_a_lost_trial_is_retried_with_its_parameters_and_then_given_up(url: str) -> None:
    queue = open_queue(url, 1, points=[{}], max_retry=1)
    first = claim(queue)
    drawn = draw(SPACE, first)
    assert claim(queue) is None and not queue.finished(), "it may be alive"
    make_stale(queue, first)
    again = queue.claim(lambda slot: optuna.samplers.RandomSampler(seed=99))
    assert again is not None and again.number == 1 and draw(SPACE, again) == drawn
    assert not queue.tell(first, TrialState.COMPLETE, 0.5), "the dead one wakes up: too late"
    make_stale(queue, again)
    assert claim(queue) is None and queue.finished() and queue.best() is None
    assert [t.state for t in queue.trials()] == [TrialState.FAIL, TrialState.FAIL]


def test_failures_keep_their_text_and_interruptions_do_not_count(url: str) -> None:
    queue = open_queue(url, 1, max_retry=0)
    for _ in range(3):
        queue.hand_back(claim(queue))
    assert not queue.finished()
    queue.fail(claim(queue), "ValueError: broken")
    assert queue.finished() and queue.n_done() == 1 and claim(queue) is None
    assert queue.trials()[-1].user_attrs["error"] == "ValueError: broken"


def test_a_time_budget_stops_claims_and_can_be_raised(url: str) -> None:
    queue = open_queue(url, timeout_s=0.05)
    trial = claim(queue)
    time.sleep(0.1)
    queue.tell(trial, TrialState.COMPLETE, 0.1)
    assert claim(queue) is None and queue.finished() and queue.n_done() == 1
    assert claim(open_queue(url, timeout_s=100)) is not None


def test_plans_are_seeded_and_grids_complete() -> None:
    for name in ("random", "qmc"):
        one, two = (plan(Search(sampler=name, seed=3), SPACE, 8) for _ in range(2))
        assert one == two != plan(Search(sampler=name, seed=4), SPACE, 8)
        assert len({point["x"] for point in one}) == 8
    # Sobol's points fill the interval evenly once there are results to infer the space from.
    xs = sorted(point["x"] for point in plan(Search(sampler="qmc", seed=3), SPACE, 17)[1:])
    assert max(b - a for a, b in zip(xs, xs[1:], strict=False)) < 0.2
    grid = parse_space({"a": [1, 2], "b": [3, 4]})
    assert len(plan(Search(sampler="grid"), grid, None)) == 4
    with pytest.raises(ValueError, match="the grid has 4 points, more than 3"):
        plan(Search(sampler="grid"), grid, 3)
    assert plan(Search(sampler="tpe"), SPACE, 2) == [{}, {}]


def test_a_sampler_is_one_line_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    build = optuna.samplers.CmaEsSampler
    monkeypatch.setitem(SAMPLERS, "toy", Sampler(lambda seed: build(seed=seed), learns=True))
    monkeypatch.setitem(SAMPLERS, "ahead", Sampler(SAMPLERS["random"].build))
    search = Search.model_validate({"sampler": "toy", "seed": 1})
    assert plan(search, SPACE, 2) == [{}, {}] and isinstance(build_sampler(search, 0), build)
    same = plan(Search(sampler="random", seed=1), SPACE, 4)
    assert plan(Search.model_validate({"sampler": "ahead", "seed": 1}), SPACE, 4) == same


def test_tpe_draws_the_same_again_and_other_values_for_each_slot(tmp_path: Path) -> None:
    def run(name: str) -> list[dict[str, Any]]:
        queue = open_queue(f"sqlite:///{tmp_path}/{name}.db", points=[{}] * 12)
        for _ in range(12):
            trial = queue.claim(lambda slot: build_sampler(Search(sampler="tpe", seed=5), slot))
            assert trial is not None
            queue.tell(trial, TrialState.COMPLETE, draw(SPACE, trial)["x"])  # type: ignore[arg-type]
        return [trial.params for trial in queue.trials()]

    one = run("one")
    assert one == run("two") and len({params["x"] for params in one}) == 12


def test_pruners() -> None:
    assert isinstance(build_pruner(Search(pruner="median"), 10), optuna.pruners.MedianPruner)
    assert isinstance(build_pruner(Search(pruner="hyperband"), 10), optuna.pruners.HyperbandPruner)
    assert isinstance(build_pruner(Search(), 10), optuna.pruners.NopPruner)


def test_a_database_that_is_away_for_a_while() -> None:
    calls = []

    def call() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise optuna.exceptions.StorageInternalError("away")
        return 7

    assert patiently(call) == 7 and len(calls) == 3
    with pytest.raises(optuna.exceptions.StorageInternalError):
        patiently(lambda: patiently(_gone, 0.3), 0.0)


def test_an_answer_that_is_lost_after_the_write_changes_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(url, 2)
    lost: list[str] = []

    def lose_the_next_answer(name: str) -> None:
        real = getattr(queue.storage, name)

        def call(*arguments: Any) -> Any:
            answer = real(*arguments)
            if name not in lost:
                lost.append(name)
                raise StorageInternalError("the server closed the connection")
            return answer

        monkeypatch.setattr(queue.storage, name, call)

    lose_the_next_answer("get_trial")
    first = claim(queue)
    assert first is not None and lost == ["get_trial"]
    lose_the_next_answer("set_trial_state_values")
    assert queue.tell(first, TrialState.COMPLETE, 0.5), "it is this worker's own result"
    assert not queue.tell(first, TrialState.COMPLETE, 0.7), "this one came too late"
    second = claim(queue)
    lost.clear()
    queue.fail(second, "ValueError: no")
    assert "set_trial_state_values" in lost
    assert queue.finished() and [t.value for t in queue.trials()] == [0.5, None]
    assert queue.trials()[1].user_attrs["error"] == "ValueError: no"


def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match="pip install 'recbole-llm.postgresql.'"):
        open_store("postgresql://nobody@localhost/nothing", 1)


def _gone() -> None:
    raise optuna.exceptions.StorageInternalError("gone")


WORKER = """
import sys, time
from optuna.trial import TrialState
from sqlalchemy import text
from recbole_llm.sweep.store import open_store
from recbole_llm.sweep.study import Queue
import optuna
queue = Queue(open_store(sys.argv[1], 1), "many", {}, [{"x": i} for i in range(30)])
sampler = lambda slot: optuna.samplers.RandomSampler(seed=slot)
while (trial := queue.claim(sampler)) is not None:
    x = trial.suggest_int("x", 0, 30)
    print(x, flush=True)
    queue.tell(trial, TrialState.COMPLETE, float(x))
"""


def test_two_processes_share_one_study_and_run_nothing_twice(url: str) -> None:
    command = [sys.executable, "-c", WORKER, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    done = [[int(line) for line in p.communicate(timeout=120)[0].split()] for p in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(done[0] + done[1]) == list(range(30))
    queue = Queue(open_store(url, 1), "many", {}, [{"x": i} for i in range(30)])
    assert [t.state for t in queue.trials()] == [TrialState.COMPLETE] * 30
