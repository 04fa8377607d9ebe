"""Search spaces written as in a spec."""

from typing import Any

from recbole_llm.sweep.space import Space
from recbole_llm.sweep.space_entry import SpaceEntry, build_space
from recbole_llm.sweep.validation import validate


def parse_space(content: Any) -> Space:
    """Return the space of a spec's ``space``; a ValueError names the key that is wrong."""
    return build_space(validate(SpaceEntry, content, "space"), "space")
