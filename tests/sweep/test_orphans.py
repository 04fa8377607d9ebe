"""Workers stop when the process that started them is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import sys, time
from recbole_llm.sweep.processes import interruptible, run_processes, stop_with_parent

def worker(folder):
    import os
    stop_with_parent()
    try:
        open(f"{folder}/{os.getpid()}.running", "w").close()
        interruptible(lambda: time.sleep(600))
    except KeyboardInterrupt:
        open(f"{folder}/{os.getpid()}.handed_back", "w").close()

if __name__ == "__main__":
    run_processes(2, worker, (sys.argv[1],))
"""


def wait_for(folder: Path, pattern: str) -> list[int]:
    until = time.monotonic() + 60
    while len(found := list(folder.glob(pattern))) < 2:
        assert time.monotonic() < until, f"no two files {pattern}"
        time.sleep(0.02)
    return [int(path.stem) for path in found]


def is_alive(process_id: int) -> bool:
    stat = Path(f"/proc/{process_id}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_of_a_killed_parent_hand_their_trials_back(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    workers = wait_for(tmp_path, "*.running")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert sorted(wait_for(tmp_path, "*.handed_back")) == sorted(workers)
    until = time.monotonic() + 60
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.02)
