"""From a public source, or files of one's own, to a folder of atomic files."""

from recbole_llm.callable_package import make_callable

make_callable(__name__)
