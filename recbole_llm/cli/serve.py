"""``recbole_llm serve``: recommends over HTTP by a finished run."""

import argparse
from collections.abc import Sequence

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.settings import refuse_settings

HELP = "recommend over HTTP by a finished run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run and the address."""
    parser.description = (
        "Answers GET /recommend?user=ID&k=10, GET /recommend?history=I1,I2, POST /recommend with "
        "JSON (users or histories, k) and GET /health. Bad input is a 400 with a message. There is "
        "no login and no encryption: on another address than the loopback one, put a web server in "
        "front of it."
    )
    parser.add_argument("run", help="a finished run's folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (8000)")
    parser.add_argument("--data_path", help="where the data is now, if it has moved")
    parser.set_defaults(interrupted="the server has stopped")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Serve until the process is interrupted."""
    refuse_settings(rest)
    log_warnings()
    from recbole_llm.runs.loaded import load
    from recbole_llm.runs.serve import RecommendationServer

    loaded = load(arguments.run, arguments.data_path)
    with RecommendationServer(loaded, arguments.host, arguments.port) as server:
        host, port = server.server_address[:2]
        print(f"serving {loaded.record.id} on http://{host!s}:{port}", flush=True)
        server.serve_forever()
    return 0
