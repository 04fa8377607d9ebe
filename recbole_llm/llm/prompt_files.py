"""Prompt files: shipped templates of ``properties/prompts`` by name, or a user's files by path."""

from pathlib import Path

from recbole_llm.files import read_text
from recbole_llm.registry import suggest
from recbole_llm.yaml_io import properties_dir

PLACEHOLDER = "{items}"


def find_prompt(name_or_path: str | Path, suffix: str) -> Path:
    """Find a prompt file.

    Args:
        name_or_path: stem of a file of ``properties/prompts``, or a path to any file.
        suffix: file ending of the shipped prompts of this kind, ``.txt`` or ``.yaml``.

    Raises:
        FileNotFoundError: the file does not exist; lists the shipped ones.
    """
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1:
        if not path.is_file():
            raise FileNotFoundError(f"prompt file {path} does not exist.")
        return path
    folder = properties_dir() / "prompts"
    path = folder / f"{name_or_path}{suffix}"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob(f"*{suffix}"))
        raise FileNotFoundError(
            f"unknown prompt {str(name_or_path)!r}.{suggest(str(name_or_path), known)} "
            f"Known: {', '.join(known)}; or give the path of a {suffix} file."
        )
    return path


def load_prompt(name_or_path: str | Path, placeholder: str | None = PLACEHOLDER) -> str:
    """Read a text template.

    Newlines at the file's end are dropped, since editors add them and tokenizers see them.

    Args:
        name_or_path: stem of a ``.txt`` file of ``properties/prompts``, or a path to a text file.
        placeholder: text that the template must hold exactly once; None asks for none.

    Raises:
        FileNotFoundError: the prompt does not exist; lists the shipped ones.
        ValueError: the template is empty, or does not hold ``placeholder`` exactly once.
    """
    path = find_prompt(name_or_path, ".txt")
    template = read_text(path).rstrip("\n")
    if not template.strip():
        raise ValueError(f"prompt {path} is empty.")
    if placeholder is not None and template.count(placeholder) != 1:
        raise ValueError(
            f"prompt {path} must hold {placeholder} exactly once, found it "
            f"{template.count(placeholder)} times."
        )
    return template
