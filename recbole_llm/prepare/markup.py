"""Plain text out of the markup that shops and sites publish."""

import html
import re
from html.entities import html5
from typing import Any

_INLINE = "a abbr b big cite code em font i ins del kbd label mark q s small span strike strong u"
_INLINE += " sub sup tt"
_BLOCK = """
    address article aside audio base blockquote body br button caption center col colgroup dd div
    dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header
    hr html iframe img input legend li link main map meta nav noscript object ol optgroup option p
    param picture pre section select source svg table tbody td textarea tfoot th thead title tr
    track ul video wbr script style
"""
_CODE = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<!doctype\b[^<>]*>", re.IGNORECASE | re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{0,40});")
_NESTED = re.compile(r"&(?:amp;)+", re.IGNORECASE)  # &amp;amp;lt; means &lt; twice over
# How the code begins that Amazon's pages of 2018 left in place of a title.
_SCRIPT = re.compile(
    r"\s*(?:(?:var|let|const)\s+[\w$]+\s*=|\(?function\s*[\w$]*\s*\(|window\.\w+\s*[=(]"
    r"|if\s*\(\s*!?(?:typeof|window)\b|P\.when\()"
)


def _tags(names: str, attributes: str) -> re.Pattern[str]:
    choice = "|".join(sorted(names.split(), key=len, reverse=True))
    return re.compile(rf"</?(?:{choice}){attributes}\s*/?>", re.IGNORECASE)


# "a <b and c> d" holds no tag: an attribute of a short name has a value.
_INLINE_TAG = _tags(_INLINE, r"(?:\s+[\w:-]+\s*=[^<>]*)?")
_BLOCK_TAG = _tags(_BLOCK, r"(?:[\s/][^<>]*)?")


def _letter(found: re.Match[str]) -> str:
    entity = found[0]
    return html.unescape(entity) if entity[1] == "#" or entity[1:] in html5 else entity


# Sign without which a pattern finds nothing, pattern, and what takes the place of a match.
_STEPS: tuple[tuple[str, re.Pattern[str], Any], ...] = (
    ("<", _CODE, " "),
    ("<", _COMMENT, " "),
    ("<", _INLINE_TAG, ""),
    ("<", _BLOCK_TAG, " "),
    ("&", _NESTED, "&"),
    ("&", _ENTITY, _letter),
)


def plain_text(text: str) -> str:
    """Return a text without markup; a text that is the code of a page is "".

    Tags of HTML go, those between paragraphs leave a space, and what is inside ``<script>``,
    ``<style>`` and comments goes with them; other words in angle brackets stay. Entities become
    letters, those of entities as well (``&amp;lt;``); one without its semicolon stays as it is.
    """
    before = None
    while text != before and ("<" in text or "&" in text):
        before = text
        for sign, pattern, filler in _STEPS:
            if sign in text:
                text = pattern.sub(filler, text)
    return "" if _SCRIPT.match(text) else text
