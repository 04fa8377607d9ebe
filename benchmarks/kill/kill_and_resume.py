"""Kill commands at random moments and resume them: same results, and nothing left behind.

    python benchmarks/kill/kill_and_resume.py run encode --times=20 --seed=1

Each command first runs undisturbed. Then, in a fresh folder each time, it is killed by SIGKILL and
given again (`run` with --resume), until it ends by itself. The table counts the kills and, among
the tries, those that failed and those with other results than the undisturbed one; it names the
files that the undisturbed one does not have. The data are 60 users of RecBole's ml-100k.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import recbole

N_USERS, N_ITEMS, MAX_KILLS = 60, 300, 3
QUIET = ["--data_path=dataset", "--show_progress=false", "--torch_threads=1"]
SPEC = """
name: kill
datasets: [ml-100k]
seeds: [1, 2]
settings: {epochs: 2, data_path: dataset, show_progress: false, torch_threads: 1}
rows: [{model: BPR}]
grid: {embedding_size: [8, 16]}
"""


class Command(NamedTuple):
    """A command line, options for when it is given again, and how its results are read."""

    line: list[str]
    again: list[str]
    results: Callable[[Path], Any]


def digests(pattern: str) -> Callable[[Path], Any]:
    """Return a function that maps the files of a pattern to their sha256."""

    def read(folder: Path) -> Any:
        files = [path for path in folder.glob(pattern) if path.is_file() and path.name[0] != "."]
        return {
            str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files
        }

    return read


def finished_runs(folder: Path) -> Any:
    """Return the settings and numbers of the finished runs, each once.

    A run that is killed after its end is not resumed: the same settings then run again.
    """
    records = [json.loads(path.read_text()) for path in folder.glob("runs/*/record.json")]
    return {
        json.dumps([r["config_hash"], r["metrics"], [entry["loss"] for entry in r["epochs"]]])
        for r in records
        if r["status"] == "finished"
    }


def profiles_of(folder: Path) -> Any:
    """Return the files of `reason`, but its report, which holds seconds and this folder's path."""
    files = digests("reason/**/*")(folder)
    return {name: digest for name, digest in files.items() if not name.endswith("/report.json")}


def commands(port: int) -> dict[str, Command]:
    """Return the commands by name; ``port`` is that of the language model's server."""
    start = "import sys; from recbole_llm.cli.main import {0}; sys.exit({0}())"
    tool, run = ["-c", start.format("main")], ["-c", start.format("run_recbole")]
    data = ["--dataset=ml-100k", *QUIET]
    columns = ["--user_column=user", "--item_column=item", "--time_column=time"]
    model = [f"--base_url=http://127.0.0.1:{port}/v1", "--model_name=m", "--backend=openai"]
    users = ["--stage=profiles", "--image_folder=none", "--output=reason", "--max_users=20"]
    epochs = ["--model=LightGCN", "--epochs=40", "--stopping_step=40"]
    storage = ["--storage=journal.log", "--heartbeat_s=1"]
    text = ["--modality=text", "--batch_size=8"]
    own = ["--inter=inter.csv", "--name=own", "--data_path=prepared"]
    split = ["--protocol=random811", "--name=frozen"]
    return {
        "run": Command([*run, *data, *epochs], ["--resume"], finished_runs),
        "sweep": Command([*tool, "sweep", "spec.yaml", *storage], [], finished_runs),
        "reason": Command([*tool, "reason", *data, *model, *users], [], profiles_of),
        "prepare": Command(
            [*tool, "prepare", "csv", *own, *columns], [], digests("prepared/own/*")
        ),
        "encode": Command([*tool, "encode", *data, *text], [], digests("dataset/*/text_feat.npy")),
        "split": Command([*tool, "split", *data, *split], [], digests("dataset/*/splits/**/*")),
    }


def make_folder(folder: Path) -> None:
    """Write the data that the commands read."""
    shipped = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
    target = folder / "dataset" / "ml-100k"
    target.mkdir(parents=True)
    items = set()
    for suffix in ("inter", "item"):
        head, *lines = (shipped / f"ml-100k.{suffix}").read_text().splitlines()
        if suffix == "inter":
            cells = [line.split("\t") for line in lines]
            cells = [c for c in cells if int(c[0]) <= N_USERS and int(c[1]) <= N_ITEMS]
            items, lines = {c[1] for c in cells}, ["\t".join(c) for c in cells]
            csv = ["user,item,rating,time", *(",".join(c) for c in cells)]
            (folder / "inter.csv").write_text("\n".join(csv) + "\n")
        else:
            lines = [line for line in lines if line.split("\t")[0] in items]
        (target / f"ml-100k.{suffix}").write_text("\n".join([head, *lines]) + "\n")
    (folder / "spec.yaml").write_text(SPEC)


def give(line: list[str], folder: Path, kill_after: float | None) -> int | None:
    """Run a command to its end or to the kill; return its exit status, None if it was killed."""
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *line],
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return process.wait(kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def files_of(folder: Path) -> set[str]:
    """Return the files of a folder, without the parts of their names that each run has anew."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {re.sub(r"\d{8}-\d{6}-\d{3}|events\.out\S*|log_tensorboard\S*", "", n) for n in names}


def try_command(command: Command, times: int, draws: random.Random, root: Path) -> list[Any]:
    """Kill and resume a command; return the cells of its line in the table."""
    whole = root / "whole"
    make_folder(whole)
    begin = time.monotonic()
    if give(command.line, whole, None) != 0:
        raise SystemExit((whole / "output.txt").read_text()[-2000:])
    seconds, expected, usual = time.monotonic() - begin, command.results(whole), files_of(whole)
    kills = other = failed = 0
    leftovers: set[str] = set()
    for number in range(times):
        folder = root / str(number)
        make_folder(folder)
        code, line = None, command.line
        for _ in range(MAX_KILLS):
            code = give(line, folder, draws.uniform(0.3, 1) * seconds)
            line = [*command.line, *command.again]
            kills += code is None
            # A command that was killed after its end has nothing to resume; prepare refuses it.
            if code is not None or command.results(folder) == expected:
                break
        if code is None:
            code = 0 if command.results(folder) == expected else give(line, folder, None)
        failed += code != 0
        other += command.results(folder) != expected
        leftovers |= files_of(folder) - usual
        if code != 0 or command.results(folder) != expected:
            print((folder / "output.txt").read_text()[-1500:], file=sys.stderr)
    return [f"{seconds:.1f}", times, kills, failed, other, ", ".join(sorted(leftovers)) or "none"]


class Answers(BaseHTTPRequestHandler):
    """A language model that always gives the same answer."""

    def do_POST(self) -> None:
        """Answer a request for a chat completion."""
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "Likes films of every kind and likes them old."}
        usage = {"prompt_tokens": 9, "completion_tokens": 9}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        body = json.dumps({"choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Read the command line and print the table."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = commands(server.server_port)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="COMMAND", help=", ".join(table))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2020)
    options = parser.parse_args()
    print("| command | seconds | tries | kills | failed | other results | leftovers |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in options.names or table:
        with tempfile.TemporaryDirectory() as root:
            draws = random.Random(f"{options.seed} {name}")
            cells = try_command(table[name], options.times, draws, Path(root))
        print(f"| {' | '.join(map(str, [name, *cells]))} |", flush=True)


if __name__ == "__main__":
    main()
