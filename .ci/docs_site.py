"""Hook of MkDocs: what the pages of docs/ link to outside of docs/ becomes part of the site.

A page links to ``../reports/runs/<id>.json`` or ``../benchmarks/README.md``, which works where the
repository is read. In the site such files stand below ``repository/``, and so does what they link
to in turn.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
#: A relative link of Markdown: not an address with a scheme, and not an anchor of the same page.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the linked files of the repository."""
    pages = [file.src_uri for file in files.documentation_pages()]
    waiting = [f"docs/{page}" for page in pages if (ROOT / "docs" / page).is_file()]
    known = set(waiting)
    while waiting:
        page = waiting.pop()
        if not page.endswith(".md"):
            continue
        for target in linked_paths(page):
            if target not in known and not target.startswith("docs/"):
                known.add(target)
                waiting.append(target)
                path = str(ROOT / target)
                files.append(File.generated(config, f"repository/{target}", abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page's links into those of the site."""
    here = page.file.src_uri
    source = here.removeprefix("repository/") if here.startswith("repository/") else f"docs/{here}"

    def relinked(match: re.Match[str]) -> str:
        target = repository_path(source, match[1])
        if not (ROOT / target).is_file():
            return match[0]  # MkDocs reports it
        inside = target.startswith("docs/")
        site = target.removeprefix("docs/") if inside else f"repository/{target}"
        if inside and site.endswith(".ipynb"):
            site = site.removesuffix(".ipynb") + ".md"  # its page, see docs_notebooks
        return posixpath.relpath(site, posixpath.dirname(here) or ".")

    return LINK.sub(relinked, markdown)


def linked_paths(page: str) -> Iterator[str]:
    """Yield the files of the repository that a page links to, as paths from its root."""
    for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
        target = repository_path(page, link)
        if (ROOT / target).is_file():
            yield target


def repository_path(page: str, link: str) -> str:
    """Return what a page's link means; a folder stands for its README.md or index.html."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    for name in ("README.md", "index.html"):
        if (ROOT / target / name).is_file():
            return f"{target}/{name}"
    return target
