"""Code blocks and command lines of README.md and the pages of docs/."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("run_recbole", "recbole_llm", "run_sweep")

_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?"
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        page: page's path from the repository's root.
        line: number of the block's first line.
        language: first word after the fence, or nothing.
        title: file that the block shows, or nothing.
        body: text of the block.
        reason: reason why no test runs it, from ``<!-- not run: REASON -->`` above it, or nothing.
    """

    page: str
    line: int
    language: str
    title: str
    body: str
    reason: str


class Command(NamedTuple):
    """A command line of this package: its place, and the words that the shell passes."""

    place: str
    words: list[str]


def blocks() -> Iterator[Block]:
    """Yield the fenced blocks of all pages."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            indent, info = match["indent"], match["info"]
            title = re.search(r'title="([^"]+)"', info)
            yield Block(
                str(path.relative_to(ROOT)),
                text[: match.start("body")].count("\n") + 1,
                info.split(" ")[0],
                title[1] if title else "",
                re.sub(rf"^{indent}", "", match["body"], flags=re.MULTILINE),
                match["reason"] or "",
            )


def shell_blocks() -> Iterator[Block]:
    """Yield the shell blocks of all pages, those that are indented instead of fenced included."""
    yield from (block for block in blocks() if block.language == "sh")
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        text = re.sub(_FENCE, lambda match: "\n" * match[0].count("\n"), text)
        for match in re.finditer(r"(?:^ {4}\S.*\n)+", text, flags=re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            body = re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)
            yield Block(str(path.relative_to(ROOT)), line, "sh", "", body, "")


def commands() -> Iterator[Command]:
    """Yield every line of a shell block that starts one of this package's programs."""
    for block in shell_blocks():
        for number, line in enumerate(_joined(block.body), block.line):
            if re.search(rf"(?:^|\s)(?:{'|'.join(PROGRAMS)}) ", line):
                words = _from_program(shlex.split(line, comments=True))
                if words:
                    yield Command(f"{block.page}:{number}", words)


def _from_program(words: list[str]) -> list[str]:
    """Return a program and its arguments, from ``A=b program``, or ``python -m recbole_llm``."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if "-m" in words[:-1] and words[words.index("-m") + 1] == "recbole_llm":
        rest = words[words.index("-m") + 2 :]
        return ["run_recbole" if rest[:1] and rest[0].startswith("-") else "recbole_llm", *rest]
    return words if words and words[0] in PROGRAMS else []


def _joined(body: str) -> list[str]:
    return re.sub(r"\\\n\s*", "", body).splitlines()
