"""From finished runs to tables and figures. Nothing here trains."""

from recbole_llm.callable_package import make_callable

make_callable(__name__)
