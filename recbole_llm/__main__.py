"""``python -m recbole_llm``: the console scripts by one name, for ``torchrun -m`` and its like.

``python -m recbole_llm --model=NAME ...`` is ``run_recbole --model=NAME ...``; with a command's or
a console script's name in front it is that one.
"""

import sys

from recbole_llm.cli.main import main, run_recbole, run_sweep

_SCRIPTS = {"run_recbole": run_recbole, "run_sweep": run_sweep, "recbole_llm": main}


def _start(words: list[str]) -> int:
    if words and words[0] in _SCRIPTS:
        return _SCRIPTS[words[0]](words[1:])
    if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
        return run_recbole(words)
    return main(words)


if __name__ == "__main__":
    sys.exit(_start(sys.argv[1:]))
