"""RecBole's atomic files: checked before RecBole reads them, and the item file as plain text."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_llm.config import Config
from recbole_llm.data.catalog import ORIGINS

_TYPES = ("token", "token_seq", "float", "float_seq")
_HEADER_FORM = "user_id:token<TAB>item_id:token..."


def inter_files(config: Config) -> list[Path]:
    """Return the interaction files that RecBole will load: one, or one a part of a fixed split."""
    folder, name = Path(config["data_path"]), config["dataset"]
    parts = config["benchmark_filename"]
    if parts is None:
        return [folder / f"{name}.inter"]
    return [folder / f"{name}.{part}.inter" for part in parts]


def check_inter_files(config: Config) -> None:
    """Check that the interaction files are there and have the columns that the settings need.

    Raises:
        FileNotFoundError: the dataset's folder or one of its interaction files is missing.
        ValueError: a header is malformed, or a column is missing, not loaded or of a wrong type.
    """
    files = inter_files(config)
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        # RecBole would try to download here.
        raise FileNotFoundError(_missing_files(config, [path.name for path in files], missing))
    for path in files:
        _check_columns(path, read_header(path, config), config)


def _missing_files(config: Config, wanted: list[str], missing: list[str]) -> str:
    folder, name = Path(config["data_path"]), config["dataset"]
    found = f"{', '.join(missing)} not in {folder}" if folder.is_dir() else f"no folder {folder}"
    lines = [
        f"dataset {name!r}: {found}.",
        f"Wanted there: {', '.join(wanted)}, tab separated, with the header {_HEADER_FORM}",
        f"--data_path= sets the parent folder of '{name}' (now {folder.parent}).",
    ]
    if name in ORIGINS:
        lines.append(ORIGINS[name])
    return "\n    ".join(lines)


def read_header(path: Path, config: Config) -> dict[str, str]:
    """Return the columns of an atomic file: name to type, in file order.

    Raises:
        ValueError: a column is not ``name:type`` with a type that RecBole knows.
    """
    with path.open(encoding=config["encoding"]) as file:
        line = file.readline().rstrip("\n")
    columns = {}
    for column in line.split(config["field_separator"]):
        name, _, kind = column.partition(":")
        if not name or kind not in _TYPES:
            raise ValueError(
                f"{path}: the header holds {column!r}, expected name:type with a type of "
                f"{', '.join(_TYPES)}, for example {_HEADER_FORM}; the line is {line[:200]!r}."
            )
        columns[name] = kind
    return columns


def _check_columns(path: Path, header: dict[str, str], config: Config) -> None:
    needed = {
        config["USER_ID_FIELD"]: ("token", "USER_ID_FIELD"),
        config["ITEM_ID_FIELD"]: ("token", "ITEM_ID_FIELD"),
    }
    if config["benchmark_filename"] is None and config["eval_args"].get("order") == "TO":
        needed[config["TIME_FIELD"]] = ("float", "TIME_FIELD, by which `order: TO` sorts")
    columns = config["load_col"] and config["load_col"].get("inter", [])
    loaded = list(header) if columns in (None, "*") else list(columns)
    for name in {**needed, **dict.fromkeys(loaded)}:
        kind, reason = needed.get(name, (None, "load_col"))
        if name not in header:
            raise ValueError(
                f"{path}: no column {name!r} ({reason}), it has {', '.join(header)}. "
                f"Expected a header like {_HEADER_FORM}"
            )
        if kind is not None and header[name] != kind:
            raise ValueError(
                f"{path}: column {name!r} ({reason}) has type {header[name]}, expected {kind}: "
                f"write {name}:{kind} in the header."
            )
        if name not in loaded:
            raise ValueError(
                f"dataset {config['dataset']!r}: load_col leaves out column {name!r} ({reason}) "
                f"of {path.name}. Load it: load_col: {{inter: [{', '.join([*loaded, name])}]}}."
            )


def read_item_columns(path: Path, columns: Sequence[str], config: Config) -> pd.DataFrame:
    """Read columns of a ``.item`` file as text, empty cells as ``""``, indexed by item token.

    Of an item that is there twice the first row counts, as in RecBole.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is not in it, or its header is malformed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, wanted for its {', '.join(columns)}.")
    header = read_header(path, config)
    item_field = config["ITEM_ID_FIELD"]
    for name in [item_field, *columns]:
        if name not in header:
            raise ValueError(f"{path} has no column {name!r}, it has {', '.join(header)}.")
    # Item tokens such as NA or null are names, not missing values.
    frame = pd.read_csv(
        path,
        sep=config["field_separator"],
        header=0,
        names=list(header),
        index_col=False,
        usecols=[item_field, *columns],
        dtype=str,
        keep_default_na=False,
        na_filter=False,
        encoding=config["encoding"],
    )
    return frame.drop_duplicates(item_field).set_index(item_field)
