"""Whether a frozen split is what its manifest says: its files, its counts, its protocol."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm.splitting.protocols import Index, find_protocol, ratio_sizes

_PARTS = ("train", "valid", "test")


def check_manifest(manifest: Mapping[str, Any], files: Sequence[str]) -> None:
    """Check the content of a manifest by itself.

    Args:
        manifest: content of ``manifest.json``.
        files: names of all files of a split.

    Raises:
        ValueError: a file is not named with its sha256, a field is missing, the protocol is
            unknown, or the counts do not add up.
    """
    kinds = {"dataset": str, "protocol": str, "settings": dict, "counts": dict, "facts": dict}
    for name, kind in {**kinds, "files": dict, "source": dict, "options": dict}.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f"it lacks {name}, or {name} is of another kind.")
    if set(manifest["files"]) != set(files):
        raise ValueError(
            f"it must name the files {', '.join(files)}, and names "
            f"{', '.join(map(str, manifest['files'])) or 'none'}."
        )
    for name, digest in [*manifest["files"].items(), ("source", manifest["source"].get("sha256"))]:
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(f"it has no sha256 of {name}.")
    protocol = find_protocol(manifest["protocol"])
    if (manifest.get("seed") is not None) is not protocol.is_seeded:
        draws = "draws by a seed" if protocol.is_seeded else "draws nothing, so has no seed"
        raise ValueError(f"the protocol {manifest['protocol']} {draws}.")
    counts, dropped = manifest["counts"], manifest["counts"].get("dropped")
    sizes = [counts.get(name) for name in ("source", *_PARTS)]
    sizes += list(dropped.values()) if isinstance(dropped, dict) else [None]
    if any(type(size) is not int or size < 0 for size in sizes):
        raise ValueError("its counts must be whole numbers of source, train, valid, test, dropped.")
    if sizes[0] != sum(sizes[1:]):
        raise ValueError(
            f"its counts do not add up: {sum(sizes[1:])} rows in parts or dropped, of {sizes[0]}."
        )


def check_protocol(
    manifest: Mapping[str, Any],
    parts: Sequence[Index],
    user: Index,
    item: Index,
    time: NDArray[np.float64] | None,
) -> None:
    """Check that the rows are divided as the protocol of a manifest divides them.

    Time O(n log n). Without times, the order within a user is not checked.

    Args:
        manifest: content of ``manifest.json``.
        parts: positions of training, validation and test, (n,) each.
        user: (N,) user ids.
        item: (N,) item ids.
        time: (N,) times, in any monotone scale; None where they are not loaded.

    Raises:
        ValueError: the rows are divided otherwise.
    """
    protocol = manifest["protocol"]
    users, items = ([ids[part] for part in parts] for ids in (user, item))
    for part, its_users, its_items in zip(_PARTS, users, items, strict=True):
        recorded = manifest["counts"].get("parts", {}).get(part, {})
        found = {"users": len(np.unique(its_users)), "items": len(np.unique(its_items))}
        if any(recorded.get(name) != number for name, number in found.items()):
            raise ValueError(f"the {part} part has {found}, and its manifest says {recorded}.")
    if protocol in ("cold_users", "cold_items"):
        ids = users if protocol == "cold_users" else items
        is_divided = all(
            not np.isin(one, other).any()
            for one, other in ((ids[1], ids[0]), (ids[2], ids[0]), (ids[2], ids[1]))
        )
    elif protocol == "global_time":
        is_divided = time is None or _is_ordered([time[part] for part in parts])
    else:
        is_divided = _is_divided_by_user(protocol, parts, user, time)
    if not is_divided:
        raise ValueError(f"its rows are not divided by the protocol {protocol}.")


def _is_divided_by_user(
    protocol: str, parts: Sequence[Index], user: Index, time: NDArray[np.float64] | None
) -> bool:
    """Return whether each user has as many rows in each part, and in the order, as expected."""
    n_users = int(user.max()) + 1
    train, valid, test = (np.bincount(user[part], minlength=n_users) for part in parts)
    size = train + valid + test
    if protocol == "loo":
        expected = np.stack([size - (size > 2) - (size > 1), size > 2, size > 1])
    else:
        expected = np.stack(ratio_sizes(size))
    if (np.stack([train, valid, test]) != expected).any():
        return False
    if time is None or protocol == "random811":
        return True
    scaled = time.astype(np.float32)  # leave-one-out sorts by these, which keeps any order
    for earlier, later in ((parts[0], parts[1]), (parts[1], parts[2]), (parts[0], parts[2])):
        last = np.full(n_users, -np.inf, dtype=np.float32)
        np.maximum.at(last, user[earlier], scaled[earlier])
        if (scaled[later] < last[user[later]]).any():
            return False
    return True


def _is_ordered(times: Sequence[NDArray[np.float64]]) -> bool:
    return all(
        not len(later) or not len(earlier) or earlier.max() <= later.min()
        for earlier, later in zip(times, times[1:], strict=False)
    )
