"""What the tests of ``tests/fuzz`` share: how much they draw, odd texts, and changes of JSON."""

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

N_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))

#: Settings of each test: few examples in the suite, many under ``benchmarks/fuzz/fuzz.py``.
FUZZ = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    database=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

#: The same for a test that trains.
FUZZ_TRAINING = settings(FUZZ, max_examples=1 + N_EXAMPLES // 5)

#: Names that readers like to change: missing values, numbers, formulas, marks, kinds of space.
ODD_NAMES = (
    *("NA", "null", "None", "nan", "00123", "1e5", "1.0", "-inf", "True", "[PAD]", "=1+1", "#a"),
    *('"', "'", '"a"', 'a"b', "a,b", "a;b", " a", "a ", "a b", "\\N", "\\", "a:b", "\ufeffa"),
    *(
        "\x0b",
        "\x0c",
        "a\x1cb",
        "a\x85b",
        "a\u2028b",
        "a\u00a0b",
        "e\u0301",
        "\u00e9",
        "\U0001f600",
    ),
)
_LETTERS = st.characters(blacklist_categories=("Cs",), blacklist_characters="\t\n\r\0")

#: Identifiers that can stand in an atomic file.
names = st.one_of(
    st.sampled_from(ODD_NAMES), st.text(_LETTERS, min_size=1, max_size=5), st.sampled_from("abcd")
)

#: Values that stand in no shipped file.
odd_values = st.one_of(
    st.sampled_from([None, True, False, -1, 0, 1, 2, 0.5, -0.5, 1.5, 1e300, 10**30, "", "x", "1"]),
    st.sampled_from([float("nan"), float("inf"), [], {}, [1], [[]], ["x"], {"a": 1}, {"": None}]),
    st.sampled_from(["../x", "/", "\n", "\0", "a" * 300, "=1", "<b>", "True", "1e-3", "\u2028"]),
    st.text(_LETTERS, max_size=4),
    st.recursive(
        st.one_of(st.none(), st.integers(-3, 3), st.text(_LETTERS, max_size=2)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)
        ),
        max_leaves=4,
    ),
)


def paths(content: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a JSON value."""
    inner: list[tuple[Any, ...]] = []
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        inner.append((*above, key))
        if isinstance(value, (dict, list)):
            inner += paths(value, (*above, key))
    return inner


def changed(data: st.DataObject, content: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a copy of a JSON value with one value removed, replaced or added, and its path."""
    content = json.loads(json.dumps(content))
    path = data.draw(st.sampled_from(paths(content)), label="path")
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    change = data.draw(st.sampled_from(["replace", "remove", "add"]), label="change")
    if change == "remove":
        del parent[path[-1]]
    elif change == "replace" or isinstance(parent, list):
        parent[path[-1]] = data.draw(odd_values, label="value")
    else:
        name = data.draw(st.sampled_from(["x", "", f"{path[-1]}s"]), label="name")
        parent[name] = data.draw(odd_values, label="value")
        path = (*path[:-1], name)
    return content, path


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Return bytes of which some are cut off, removed, replaced or added."""
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        start = data.draw(st.integers(0, len(content)), label="start")
        n_gone = data.draw(st.sampled_from([0, 0, 1, 1, 2, 30, len(content)]), label="gone")
        piece = data.draw(st.sampled_from(PIECES) | st.binary(max_size=3), label="piece")
        content = content[:start] + piece + content[start + n_gone :]
    return content


PIECES = (
    *(
        b"",
        b"\0",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b'"',
        b",",
        b";",
        b" ",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\xc3",
        b"nan",
        b"inf",
        b"1e999",
        b"-",
        b"''",
        b":",
        b"\x1c",
        b"\xe2\x80\xa8",
        b"&a",
        b"*a",
        b"{",
        b"[",
    ),
)
