"""The raw files of a source: found in a folder or fetched into it, checked, and described."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from recbole_llm.files import sha256_of
from recbole_llm.net.download import download, downloaded_from
from recbole_llm.net.http import is_html
from recbole_llm.secrets import mask_url

_MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK", ".npy": b"\x93NUMPY"}


class RawFile(NamedTuple):
    """A file that a source publishes.

    Attributes:
        role: name of the file within the source, such as ``reviews``.
        address: address of the file, or of the page with the form that comes before it.
        file_name: its name at the source, and in the folder of raw files.
        by_hand: whether a person has to fetch it and accept a licence at the address.
    """

    role: str
    address: str
    file_name: str
    by_hand: bool = False


class Fetched(NamedTuple):
    """A raw file on disk.

    Attributes:
        path: path of the file.
        note: entry of the manifest: role, file, address, fetched_from (None: put there by hand),
            size in bytes and sha256.
    """

    path: Path
    note: dict[str, Any]


def fetch_all(
    files: Sequence[RawFile],
    folder: Path,
    mirror: str | None = None,
    retries: int = 5,
    report: Callable[[str], object] = print,
) -> dict[str, Fetched]:
    """Find or fetch the raw files of a source, by role.

    A file that is in the folder already is taken, whether it was fetched or put there by hand; a
    ``.gz`` file may also be there decompressed.

    Args:
        files: files of the source.
        folder: folder of raw files.
        mirror: address of a server; files come from ``<mirror>/<path of the address>``.
        retries: attempts in a row that may bring nothing.
        report: function that gets a line for each download and each retry.

    Raises:
        OSError: a file can neither be found nor fetched; the message lists all that are missing,
            their addresses and where to put them.
        ValueError: a file is of another kind than its name says, such as an error page; or the
            mirror is no address.
    """
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise ValueError(f"mirror must be an http address, got {mirror!r}.")
    fetched = {}
    for file in files:
        path = folder / file.file_name
        if not path.exists() and path.suffix == ".gz" and path.with_suffix("").exists():
            path = path.with_suffix("")
        if not path.exists():
            try:
                _fetch(file, path, mirror, retries, report)
            except OSError as error:
                raise OSError(_instructions(file, files, folder, error)) from error
        _check_kind(path)
        fetched[file.role] = Fetched(path, _note(file, path))
    return fetched


def local_file(role: str, path: Path) -> Fetched:
    """Return a file of the user's own.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist.")
    return Fetched(path, _note(RawFile(role, "", path.name), path))


def _fetch(
    file: RawFile, path: Path, mirror: str | None, retries: int, report: Callable[[str], object]
) -> None:
    if file.by_hand:
        raise OSError("its licence has to be accepted in a form there")
    url = file.address
    if mirror is not None:
        url = mirror.rstrip("/") + "/" + file.address.split("/", 3)[3]
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # another process may need the same file
        if not path.exists():
            report(f"fetching {mask_url(url)}")
            download(url, path, retries, report)


def _instructions(file: RawFile, files: Sequence[RawFile], folder: Path, error: OSError) -> str:
    """Return how a person can put the missing files into the folder."""
    missing = [
        f"{other.address}\n        -> {folder / other.file_name}"
        for other in files
        if not (folder / other.file_name).exists()
    ]
    again = "Run the same command again to resume the download, or put"
    return "\n    ".join(
        [
            f"{file.file_name} cannot be fetched: {error}.",
            f"{'Put' if file.by_hand else again} these files there by hand "
            f"(--raw_dir names another folder):",
            *missing,
        ]
    )


def _note(file: RawFile, path: Path) -> dict[str, Any]:
    return {
        "role": file.role,
        "file": path.name,
        "address": file.address or None,
        "fetched_from": downloaded_from(path),
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
    }


def _check_kind(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(512)
    magic = _MAGIC.get(path.suffix, b"")
    if is_html(start) or not start.startswith(magic):
        kind = "an HTML page" if is_html(start) else f"no {path.suffix} file"
        raise ValueError(
            f"{path} is {kind}: it begins with {start[:40]!r}. Remove it, and fetch it again."
        )
