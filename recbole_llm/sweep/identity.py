"""The identity of a study: what its results depend on, and what of it has changed."""

import json
from collections.abc import Mapping
from typing import Any

#: Part of an identity (``settings``, ``search``, ``data``) to its values by name, as JSON has them.
Identity = Mapping[str, Mapping[str, Any]]
_LONGEST = 60  # characters of a value that an error shows


def differences(known: Identity, new: Identity) -> str:
    """Return what differs between two identities, in words: the first difference of each part."""
    texts = []
    for part in dict.fromkeys([*known, *new]):
        before, after = known.get(part, {}), new.get(part, {})
        names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
        if not names:
            continue
        first = names[0]
        text = f"{first} was {_short(before, first)}, is {_short(after, first)}"
        if part == "data":
            text = f"{first} has changed"
        others = f", and {len(names) - 1} more" if len(names) > 1 else ""
        texts.append(f"{part} ({text}{others})")
    return "; ".join(texts)


def _short(values: Mapping[str, Any], name: str) -> str:
    text = json.dumps(values[name]) if name in values else "not set"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
