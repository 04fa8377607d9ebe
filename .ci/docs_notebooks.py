"""Hook of MkDocs: each notebook of docs/notebooks becomes a page, with its committed outputs."""

import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook; the notebook itself stays, to be downloaded."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb") and file.abs_src_path:
            notebook = json.loads(Path(file.abs_src_path).read_text(encoding="utf-8"))
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(File.generated(config, page, content=to_markdown(notebook)))
    return files


def to_markdown(notebook: dict[str, Any]) -> str:
    """Return the cells of a notebook, each followed by its outputs."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        language = "sh" if source.startswith("%%bash") else "python"
        parts.append(fenced(source.removeprefix("%%bash\n"), language))
        parts += [shown(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def shown(output: dict[str, Any]) -> str:
    """Return an output: a picture, Markdown, or text."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in data:
        return f"![output](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    return fenced("".join(data["text/plain"]).strip(), "text")


def fenced(text: str, language: str) -> str:
    """Return text as a block of code."""
    return f"```{language}\n{text}\n```"
