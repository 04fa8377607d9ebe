"""Reading an HTML page: its ids, links and images, and whether its tags are closed in order."""

from html.parser import HTMLParser
from typing import Any


class Links(HTMLParser):
    """Collects ids, links, sources and the text of cells."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.sources: list[str] = []
        self.unlinked: list[str] = []
        self.row, self.cell, self.linked, self.open = "", False, False, []  # type: ignore[var-annotated]

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        values = dict(attributes)
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)
        self.ids |= {values["id"]} if "id" in values else set()
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []
        if tag == "tr":
            self.row = values.get("class", "")
        if tag == "td":
            self.cell, self.linked = "data-value" in values, False
        if tag == "a":
            self.linked = True

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are closed in order"
        if tag == "td":
            self.cell = False

    def handle_data(self, data: str) -> None:
        if self.cell and self.row == "measured" and not self.linked and data.strip():
            self.unlinked.append(data)


def parse(page: str) -> Links:
    links = Links()
    links.feed(page)
    assert not links.open
    return links
