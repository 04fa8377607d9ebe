"""Console scripts: ``run_recbole``, ``recbole_llm``, ``run_sweep``; all exit statuses are here.

0    done
1    done, and the answer is no: a run that does not verify, profiles that are not clean, no
profile made, a sweep in which a row has not all of its final runs, a report without a run
2    a user's error, told in one line; with RECBOLE_LLM_TRACEBACK=1 after its traceback
130  interrupted by Ctrl-C
"""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from recbole_llm.launcher import REPORTED_BY_MAIN, launched
from recbole_llm.registry import suggest
from recbole_llm.secrets import mask_secrets, print_masked

#: The commands in the order of the overview; each is the module of its name in this folder.
COMMANDS = (
    "run",
    "prepare",
    "encode",
    "split",
    "inspect",
    "verify",
    "runs",
    "recommend",
    "export",
    "serve",
    "reason",
    "audit",
    "sweep",
    "report",
    "results",
    "plot-embeddings",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``recbole_llm COMMAND ...``.

    Args:
        argv: the words after the program's name; None for those of this process.

    Returns:
        The exit status, see above.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("--help", "-h"):
        print(_overview())
        return 0
    return _run_command(words[0], words[1:])


def run_recbole(argv: Sequence[str] | None = None) -> int:
    """Run ``run_recbole ...``, which is ``recbole_llm run ...``; returns the exit status."""
    return main(["run", *(sys.argv[1:] if argv is None else argv)])


def run_sweep(argv: Sequence[str] | None = None) -> int:
    """Run ``run_sweep ...``, which is ``recbole_llm sweep ...``; returns the exit status."""
    return main(["sweep", *(sys.argv[1:] if argv is None else argv)])


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see `{self.prog} --help`).")


def _run_command(name: str, words: list[str]) -> int:
    """Run a command; every error that a user can fix becomes one line and exit status 2."""
    sys.excepthook = print_masked
    parser = _Parser(prog=f"recbole_llm {name}", allow_abbrev=False)
    parser.set_defaults(interrupted="the same command starts again")
    try:
        command = _find(name)
        _check_launched(name)
        command.add_arguments(parser)
        try:
            arguments, rest = parser.parse_known_args(words)
        except SystemExit:  # argparse has printed the help
            return 0
        return int(command.run(arguments, rest))
    except KeyboardInterrupt:
        print(f"interrupted; {parser.get_default('interrupted')}", file=sys.stderr)
        return 130
    # NotImplementedError is RecBole's answer to a setting that it does not know.
    except (ValueError, OSError, ImportError, NotImplementedError) as error:
        if os.environ.get("RECBOLE_LLM_TRACEBACK"):
            print(mask_secrets(traceback.format_exc()), file=sys.stderr)
        if REPORTED_BY_MAIN not in getattr(error, "__notes__", ()):
            text = mask_secrets(str(error) or type(error).__name__)
            print("error:", text.encode(errors="backslashreplace").decode(), file=sys.stderr)
        return 2


def _check_launched(name: str) -> None:
    """Check that several processes were started for a run, which alone shares its work.

    Raises:
        ValueError: it is another command.
    """
    if name != "run" and launched().n_processes > 1:
        raise ValueError(
            f"{name} is one process, and {launched().n_processes} were started. Start it without "
            f"torchrun or accelerate; see docs/clusters.md."
        )


def _find(name: str) -> Any:
    """Import a command's module.

    Raises:
        ValueError: there is no such command; the nearest one is suggested.
    """
    if name not in COMMANDS:
        raise ValueError(
            f"recbole_llm has no command {name!r}.{suggest(name, list(COMMANDS))} "
            f"Commands: {', '.join(COMMANDS)}."
        )
    return importlib.import_module(f"recbole_llm.cli.{name.replace('-', '_')}")


def _overview() -> str:
    lines = [f"  {name:<16} {_find(name).HELP}" for name in COMMANDS]
    return "\n".join(
        [
            "usage: recbole_llm COMMAND ...",
            "",
            "Tools around run_recbole.",
            "",
            "commands:",
            *lines,
            "",
            "`recbole_llm COMMAND --help` has the options of each.",
        ]
    )
